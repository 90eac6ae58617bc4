/**
 * `<task-progress src="/api/tasks/TASK_ID" label="Learning path">`: a live bar for one background task.
 *
 * Property `token`: an access token, or what gets one; else cookies count. Events: `progress`, `done`, `error`.
 */

import { follow } from "./channel.js";
import { count, doing, duration, forecast, isFinal, share, title, words } from "./texts.js";

/** @import { Problem, Task, TokenProvider } from "./types.js" */

export { count, duration, follow, isFinal, title, words };

const STYLE = `
:host {
  display: block; color: var(--task-progress-text, light-dark(#1f2328, #e6e8eb));
  --accent: var(--task-progress-color, light-dark(#3b62d6, #86a3ff));
  --muted: var(--task-progress-muted, light-dark(#5c656e, #a0a8b0)); --message: var(--muted);
  --track: var(--task-progress-track, light-dark(#e4e7eb, #31363d));
}
[hidden], :host([hidden]) { display: none !important }
:host([status=completed]) { --accent: var(--task-progress-completed, light-dark(#2a8550, #5fc58a)) }
:host(:is([status=failed], [status=timeout], [status=error])) {
  --accent: var(--task-progress-failed, light-dark(#c4302b, #ff8a80)); --message: var(--accent);
}
:host(:is([status=pending], [status=queued])) { --accent: var(--muted) }
[part=head], [part=text] { display: flex; gap: 0 .9em; align-items: baseline; font-variant-numeric: tabular-nums }
[part=head] { justify-content: space-between; font-weight: 600 }
[part=text] { flex-wrap: wrap; min-height: 1.5em }
[part=text], p { font-size: .875em; color: var(--muted) }
[part=percent], [part=stage] { color: var(--accent) }
[part=message] { color: var(--message) }
[part=label], [part=stage], p { min-width: 0; overflow-wrap: anywhere }
[part=percent] { white-space: nowrap }
[part=time] { margin-inline-start: auto }
p { margin: .15em 0 0; white-space: pre-line }
progress {
  appearance: none; display: block; box-sizing: border-box; inline-size: 100%; block-size: var(--task-progress-height, .5rem);
  margin: .4em 0 .35em; border: 0; border-radius: 9em; overflow: hidden; background: var(--track);
}
::-webkit-progress-bar { background: none }
::-webkit-progress-value { background: var(--accent); border-radius: 9em; transition: inline-size .4s ease-out }
.back::-webkit-progress-value { transition: none }
::-moz-progress-bar { background: var(--accent); border-radius: 9em }
:indeterminate::-moz-progress-bar { background: none }
:host(:is([status=starting], [status=running])) :indeterminate {
  background: linear-gradient(90deg, var(--track) 30%, var(--accent), var(--track) 70%) 50% / 250%; animation: pass 2.4s linear infinite;
}
@keyframes pass { from { background-position: 117% } to { background-position: -17% } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important } ::-webkit-progress-value { transition: none } }
@media (forced-colors: active) { progress { appearance: auto } }
[part=live] { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%) }`;

// Which a strict CSP lets pass. A server that renders pages may import this as well: there are no elements.
const sheet = globalThis.CSSStyleSheet && new CSSStyleSheet();
sheet?.replaceSync(STYLE);

/** @param {string} tag @param {string} part @param {Node[]} children */
function make(tag, part, ...children) {
  const node = document.createElement(tag);
  node.part.add(part);
  node.append(...children);
  return node;
}

export class TaskProgress extends /** @type {typeof HTMLElement} */ (globalThis.HTMLElement ?? Object) {
  static observedAttributes = ["src", "label"];

  /** @type {Task | null} */
  #task = null;
  /** @type {TokenProvider} */
  #token;
  /** @type {(() => void) | undefined} */
  #unfollow;
  /** @type {number | undefined} */
  #clock;
  /** @type {Problem | undefined} */
  #problem;
  #isLost = false;
  /** @type {{at: number, progress: number}[]} How it went in the last minute. */
  #seen = [];
  #said = { at: 0, status: "", stage: /** @type {string | null} */ (null), progress: 0 };

  #bar = /** @type {HTMLProgressElement} */ (make("progress", "bar"));
  #live = make("div", "live");
  #texts = {
    label: make("span", "label"),
    percent: make("span", "percent"),
    stage: make("span", "stage"),
    count: make("span", "count"),
    time: make("span", "time"),
    message: make("p", "message"),
    note: make("p", "note"),
  };

  constructor() {
    super();
    const { label, percent, stage, count, time, message, note } = this.#texts;
    label.id = "label";
    this.#bar.max = 100;
    this.#bar.setAttribute("aria-labelledby", "label");
    this.#live.ariaLive = "polite";
    const head = make("div", "head", label, percent);
    const text = make("div", "text", stage, count, time);
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    root.append(head, this.#bar, text, message, note, this.#live);
  }

  /** The newest snapshot; without `src`, what to show. @returns {Task | null} */
  get task() { return this.#task; }
  set task(task) {
    const isOther = task?.task_id !== this.#task?.task_id;
    if (isOther) this.#said.status = "";
    if (isOther || task?.started_at !== this.#task?.started_at) this.#seen = []; // another attempt, another pace
    this.#task = task;
    this.#problem = undefined;
    if (task) this.#see(task);
    this.#render();
  }

  /** Setting it tries again what was refused. @returns {TokenProvider} */
  get token() { return this.#token; }
  set token(token) {
    this.#token = token;
    if (this.#problem) this.#follow();
  }

  get src() { return this.getAttribute("src") ?? ""; }
  set src(url) { this.setAttribute("src", url); }
  get label() { return this.getAttribute("label") ?? ""; }
  set label(text) { this.setAttribute("label", text); }

  connectedCallback() {
    for (const [name, value] of Object.entries(this)) {
      Reflect.deleteProperty(this, name); // set before the element was defined, it hides the accessor
      Reflect.set(this, name, value);
    }
    this.#follow();
  }

  disconnectedCallback() {
    this.close();
    this.#tick(false);
  }

  /** @param {string} name @param {string | null} old @param {string | null} value */
  attributeChangedCallback(name, old, value) {
    if (!this.isConnected || old === value) return;
    if (name === "label") return this.#render();
    this.task = null;
    this.#follow();
  }

  /** Stop following; what is shown stays. */
  close() {
    this.#unfollow?.();
    this.#unfollow = undefined;
  }

  #follow() {
    this.close();
    this.#problem = undefined;
    this.#isLost = false;
    this.#render();
    if (!this.isConnected || !this.src) return;
    this.#unfollow = follow(this.src, {
      token: () => (typeof this.#token === "function" ? this.#token() : this.#token),
      onsnapshot: (task) => {
        this.task = task;
        this.#dispatch("progress", task);
        if (isFinal(task)) this.#dispatch("done", task);
      },
      onconnection: (connection) => {
        this.#isLost = connection === "lost";
        this.#render();
      },
      onerror: (problem) => {
        this.#problem = problem;
        this.#render();
        this.#dispatch("error", problem);
      },
    });
  }

  /** @param {string} name @param {Task | Problem} detail */
  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #render() {
    const [task, problem] = [this.#task, this.#problem];
    const status = problem ? "error" : task?.status;
    const progress = task ? share(task) : problem && 0;
    if (status) this.setAttribute("status", status);
    else this.removeAttribute("status");
    this.#draw(progress);
    this.#show({
      label: this.label || (task ? title(task) : "Task"),
      percent: task && progress !== undefined ? `${Math.floor(progress)}%` : "",
      stage: task ? doing(task) : problem ? "" : "Loading…",
      count: task ? count(task) : "",
      time: task ? this.#times(task) : "",
      message: problem?.message ?? task?.result_message ?? "",
      note: this.#isLost && !problem ? "No connection. Trying again…" : "",
    });
    if (status) this.#announce(status);
    this.#tick(this.isConnected && task !== null && !problem && !isFinal(task));
  }

  /** Forward a bar glides, back it jumps. @param {number | undefined} progress */
  #draw(progress) {
    const bar = this.#bar;
    const isBack = (progress ?? 0) < bar.value;
    bar.classList.toggle("back", isBack);
    if (progress === undefined) bar.removeAttribute("value");
    else bar.value = progress;
    if (isBack) void bar.offsetWidth; // laid out, before a step forward makes both one glide
  }

  /** What stays the same is left alone: so does a selection. @param {Record<string, string>} texts */
  #show(texts) {
    for (const [name, node] of Object.entries(this.#texts)) {
      if (node.textContent !== texts[name]) node.textContent = texts[name];
      node.hidden = !texts[name];
    }
  }

  /** @param {Task} task */
  #see({ progress }) {
    const at = performance.now();
    const last = this.#seen.at(-1)?.progress ?? 0;
    if (progress === last) return;
    this.#seen = progress < last ? [] : this.#seen.filter((sample) => at - sample.at < 60_000);
    this.#seen.push({ at, progress });
  }

  /** How long it took, and may still take. @param {Task} task */
  #times({ status, started_at: from, ended_at: to }) {
    const elapsed = from && duration((to ? Date.parse(to) : Date.now()) - Date.parse(from));
    const left = status === "running" && forecast(this.#seen, performance.now());
    return [elapsed, left].filter(Boolean).join(", ");
  }

  /** Let the clock go on between snapshots. @param {boolean} isActive */
  #tick(isActive) {
    if (isActive) this.#clock ??= setInterval(() => document.hidden || this.#render(), 1_000);
    else this.#clock = void clearInterval(this.#clock);
  }

  /** At once how it stands, every ten seconds how it goes on. @param {string} status */
  #announce(status) {
    const { stage = null, progress = 0 } = this.#task ?? {};
    const said = this.#said;
    const now = performance.now();
    const isNews = stage !== said.stage || Math.abs(progress - said.progress) >= 10;
    if (status === said.status && !(isNews && now - said.at >= 10_000)) return;
    this.#said = { at: now, status, stage, progress };
    if (!said.status && !this.#problem) return; // read with the page
    const { label, stage: doing, percent, message } = this.#texts;
    this.#live.textContent = [label, doing, percent, message].flatMap((node) => node.textContent || []).join(", ");
  }
}

if (!globalThis.customElements?.get("task-progress")) globalThis.customElements?.define("task-progress", TaskProgress);
