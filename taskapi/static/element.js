/** The element: a native `<progress>` with its texts. What few bars need is fetched when they do. */

import { follow } from "./follow.js";
import { sheet } from "./style.js";
import { duration, ENGLISH, fill, isFinal, isWaiting, percent, reasonOf, share, statusOf, title, words } from "./texts.js";

const SPANS = ["label", "percent", "stage", "count", "time"];

/** @type {Make} */
export const make = (tag, part, ...children) => {
  const node = Object.assign(document.createElement(tag), { part });
  node.append(...children);
  return node;
};

const slot = (name = "") => Object.assign(make("slot", name), { name });

export class TaskProgress extends /** @type {typeof HTMLElement} */ (globalThis.HTMLElement ?? Object) {
  static observedAttributes = ["src", "label", "lang", "cancel", "notify"];
  /** @type {Messages} */
  static messages = {};

  /** @type {Record<string, string>} */
  headers = /** @type {any} */ (this).headers ?? {};
  /** @type {Task | null} */
  #task = null;
  /** @type {TokenProvider} */
  #token;
  #messages = /** @type {Messages} */ ({});
  #speech = { language: "en", sentences: /** @type {Messages} */ ({}) };
  /** @type {string | null} */
  #cancelling = null;
  /** @type {Problem | undefined} */
  #problem;
  #isLost = false;
  /** @type {import("./moving.js").Moving | undefined} */
  #moving;
  /** @type {Promise<() => void> | undefined} */
  #extras;
  /** @type {(() => void) | undefined} */
  #unfollow;
  /** @type {number | undefined} */
  #clock;

  #root = this.attachShadow({ mode: "open" });
  #bar = make("progress", "bar");
  #parts = { actions: make("span", "actions", slot("actions")), below: make("div", "below") };
  /** @type {Record<string, HTMLElement>} */
  #texts = {};

  constructor() {
    super();
    for (const part of [...SPANS, "message", "note"]) {
      this.#texts[part] = make(SPANS.includes(part) ? "span" : "p", part);
    }
    const { label, percent, stage, count, time, message, note } = this.#texts;
    label.id = "label";
    this.#bar.max = 100;
    this.#bar.setAttribute("aria-labelledby", "label");
    const head = make("div", "head", slot("icon"), label, percent, this.#parts.actions);
    const line = make("div", "text", stage, count, time);
    this.#root.adoptedStyleSheets = [sheet];
    this.#root.append(head, this.#bar, line, message, note, this.#parts.below);
  }

  /** @returns {Task | null} */
  get task() { return this.#task; }
  set task(task) {
    const before = this.#task;
    const isOther = task?.task_id !== before?.task_id;
    if (isOther) this.#moving = undefined;
    if (isOther || (task && isWaiting(task))) this.#cancelling = null; // another attempt
    this.#task = task;
    this.#problem = undefined;
    const isMoved = task?.progress !== before?.progress || task?.status !== before?.status;
    if (!isOther && isMoved) this.#move(before).catch(() => {});
    this.#render();
  }

  /** @returns {TokenProvider} */
  get token() { return this.#token; }
  set token(token) {
    this.#token = token;
    if (this.#problem) this.#follow();
  }

  get messages() { return this.#messages; }
  set messages(messages) {
    this.#messages = messages;
    this.#render();
  }

  get cancelling() { return this.#cancelling; }
  set cancelling(since) {
    this.#cancelling = since;
    this.#render();
  }

  get src() { return this.getAttribute("src") ?? ""; }
  set src(url) { this.setAttribute("src", url); }
  get label() { return this.getAttribute("label") ?? ""; }
  set label(text) { this.setAttribute("label", text); }

  connectedCallback() {
    for (const [name, value] of Object.entries(this)) {
      Reflect.deleteProperty(this, name); // set early, it hides the accessor
      Reflect.set(this, name, value);
    }
    this.#follow();
  }

  disconnectedCallback() {
    this.close();
    this.#tick();
  }

  attributeChangedCallback(name = "", old = "", value = "") {
    if (!this.isConnected || old === value) return;
    if (name !== "src") return this.#render();
    this.task = null;
    this.#follow();
  }

  close() {
    this.#unfollow?.();
  }

  #follow() {
    this.close();
    this.#problem = undefined;
    this.#isLost = false;
    this.#render();
    if (!this.isConnected) return;
    if (!this.src) return this.#wonder();
    this.#unfollow = follow(this.src, {
      token: () => (typeof this.#token === "function" ? this.#token() : this.#token),
      whileHidden: () => this.hasAttribute("notify"),
      onsnapshot: (task) => {
        this.task = task;
        this.dispatchEvent(new CustomEvent("progress", { detail: task }));
        if (isFinal(task)) this.dispatchEvent(new CustomEvent("done", { detail: task }));
      },
      oncancelling: ({ requested_at: since }) => (this.cancelling = since),
      onforecast: (forecast) => this.#move(this.#task, forecast).catch(() => {}),
      onconnection: (connection) => {
        this.#isLost = connection === "lost";
        this.#render();
        if (this.#isLost) this.#wonder();
      },
      onerror: (problem) => this.#fail(problem),
    });
  }

  /** @param {Problem} problem */
  #fail(problem) {
    const { status, message, key } = (this.#problem = problem);
    if (key) console.error(`<task-progress src="${this.src}">`, message);
    this.#render();
    this.dispatchEvent(new CustomEvent("error", { detail: { status, message } }));
  }

  /** Nothing has come: is it the page's fault? */
  async #wonder() {
    const trouble = !this.#task && (await import("./trouble.js").catch(() => null));
    const problem = trouble && (await trouble.whyNothing(this));
    if (problem && !this.#problem) this.#fail(problem);
  }

  /** @param {Task | null} before @param {Forecast} [forecast] */
  async #move(before, forecast) {
    const { Moving } = await import("./moving.js");
    if (!before || !this.#task) return;
    this.#moving ??= new Moving(this.#root, before);
    this.#moving.see(this.#task, forecast);
    this.#render();
  }

  /** @type {Say} */
  #say = (key, values = {}) => {
    const { language, sentences } = this.#speech;
    const texts = [this.#messages, TaskProgress.messages, sentences, ENGLISH].find((each) => each[key]);
    return fill(texts?.[key] ?? words(key), values, language);
  };

  /** Speak as the page does. */
  async #speak() {
    if (!this.isConnected || (this.#speech.language === "en" && this.matches(":lang(en)"))) return;
    const speech = await (await import("./languages.js")).speechAt(this);
    const isOther = speech.language !== this.#speech.language;
    this.#speech = speech;
    if (isOther) this.#render();
  }

  #render() {
    this.#speak().catch(() => {});
    const [task, problem, say, { language }] = [this.#task, this.#problem, this.#say, this.#speech];
    const status = problem ? "error" : task ? statusOf(task, this.#cancelling) : "loading";
    const progress = task ? share(task) : problem && 0;
    const { completed_items: completed, total_items: total } = task ?? {};
    this.setAttribute("status", status);
    this.#draw(progress);
    this.#show({
      label: this.label || (task ? title(task) : say("task")),
      percent: task && progress !== undefined ? percent(progress, language) : "",
      stage: problem ? "" : (status === "running" && task?.stage && words(task.stage)) || say(status),
      count: completed || total ? say(total ? "count" : "countOnly", { completed: completed ?? 0, total }) : "",
      time: task ? this.#times(task, language) : "",
      message: problem ? (problem.key ? say(problem.key, problem) : problem.message) : task ? reasonOf(task) : "",
      note: this.#isLost && !problem ? say("lost") : "",
    });
    this.#texts.message.role = problem ? "alert" : null;
    if (task) this.#moving?.announce(task, this.#texts, language);
    this.#dress().catch(() => (this.#extras = undefined));
    this.#tick(this.isConnected && task !== null && !problem && !isFinal(task));
  }

  /** How long it took, and what lies ahead. @param {Task} task */
  #times(task, language = "") {
    const { started_at: from, ended_at: to } = task;
    const took = from && !isWaiting(task) && duration((to ? Date.parse(to) : Date.now()) - Date.parse(from), language);
    const ahead = !isFinal(task) && !this.#cancelling && this.#moving?.tell(task, this.#say, language);
    return [took, ahead].filter(Boolean).join(" · ");
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

  /** What stays the same is left alone. @param {Record<string, string | undefined>} texts */
  #show(texts) {
    for (const [part, text = ""] of Object.entries(texts)) {
      const node = this.#texts[part];
      if (node.textContent !== text) node.textContent = text;
      node.hidden = !text;
    }
  }

  /** Let the clock go on between snapshots. */
  #tick(isActive = false) {
    if (isActive) this.#clock ??= setInterval(() => document.hidden || this.#render(), 1_000);
    else this.#clock = void clearInterval(this.#clock);
  }

  /** Put on buttons, a traceback. */
  async #dress() {
    if (!this.src || !(this.matches("[cancel], [notify]") || this.#task?.error_details || this.#extras)) return;
    this.#extras ??= import("./extras.js").then(({ dress }) => dress(this, this.#say, this.#parts));
    (await this.#extras)();
  }
}
