/**
 * `<task-progress src="/api/tasks/TASK_ID" label="Learning path">`: a live bar for one background task.
 *
 *     import "/static/task-progress.js";
 *     element.token = async () => "…"; // or a string; without it, the JWT cookie counts
 *     element.addEventListener("done", ({ detail }) => console.log(detail.status));
 *
 * Events: `progress` and `done` (detail: the snapshot), `error` (detail: `{status, message}`). Property `task`: the
 * newest snapshot; an element without `src` shows the one it is given. Attribute `status`, parts and custom
 * properties for styling: see STYLE. `follow()` is the same without an element.
 *
 * @typedef {{task_id: string, user_id: number, learning_path_id: number | null, stage: string | null,
 *   status: "pending" | "queued" | "starting" | "running" | "completed" | "failed" | "timeout", progress: number,
 *   total_items: number | null, completed_items: number | null, result_message: string | null,
 *   error_details: string | null, started_at: string | null, ended_at: string | null, id: number,
 *   created_at: string, updated_at: string}} Task A snapshot: the API's `UserTaskResponse`.
 * @typedef {string | null | undefined} Token
 * @typedef {Token | (() => Token | Promise<Token>)} TokenProvider Asked whenever a token is needed.
 * @typedef {"live" | "polling" | "lost"} Connection
 * @typedef {{status: number, message: string}} Problem Why following ended; `status` is HTTP's.
 * @typedef {{token?: TokenProvider, onsnapshot?: (task: Task) => void, onerror?: (problem: Problem) => void,
 *   onconnection?: (connection: Connection) => void}} Follower
 * @typedef {"closed" | "broken" | "silent"} End Of a stream: for good reason; by a failure; held back on its way.
 * @typedef {{cursor: string, etag: string}} Mark What the server calls the newest snapshot, on streams and in polls.
 * @typedef {{tasks: Task[], mark: Mark, asked?: number}} News
 */

const OPEN_MS = 500; // what ends sooner came from a proxy: "the server is away, ask again"
const FIRST_FRAME_MS = 5_000; // what is silent for longer is held back by a proxy
const STREAM_AGAIN_MS = 60_000;
const POLL_MS = 2_000;
const LONGEST_PAUSE_MS = 30_000;
const HIDDEN_MS = 30_000;
const LOST_MS = 4_000; // a planned reconnect takes up to 3 s and is nobody's concern
const NOT_MINE_MS = 2_000; // what the stream of all my tasks has not brought by then is not among them, or has ended
const CROWDED = 3; // so many streams of a browser's six connections to a host; who comes later shares one

/** @param {Task} task */
export const isFinal = ({ status }) => ["completed", "failed", "timeout"].includes(status);

/** @type {Map<string, Channel>} The open ones, by URL. */
const channels = new Map();

/**
 * Follow a task (`/api/tasks/TASK_ID`) until it ends, or all of the caller's (`/api/tasks/users/me`) until closed.
 * Whoever follows the same URL on this page shares one connection. Returns what ends it.
 *
 * @param {string} url @param {Follower} follower @returns {() => void}
 */
export function follow(url, follower) {
  const { href } = new URL(url, document.baseURI);
  const channel = channels.get(href) ?? new Channel(href);
  channels.set(href, channel);
  return channel.join(follower);
}

/** Whether asking again later may help. @param {any} error What was thrown; without a status, by the network. */
const isOutage = ({ status = 503 }) => status === 429 || status >= 500;

/** @param {Response} response */
const retryMs = ({ headers }) => Number(headers.get("Retry-After")) * 1_000 || 0;

const isHidden = () => document.visibilityState === "hidden";

/** The mark of what came without one: any answer is news. @type {Mark} */
const UNMARKED = { cursor: "", etag: "" };

/** The id in a task's URL. @param {string} url */
function idOf(url) {
  const id = url.slice(url.lastIndexOf("/") + 1);
  try {
    return decodeURIComponent(id);
  } catch {
    return id; // a per cent sign that stands for itself
  }
}

/** What the names of our locks begin with. */
const LOCK = "taskapi";

/** Whose token it is: tabs of different users share nothing. @param {Token} token */
function subject(token) {
  const [, claims] = token?.split(".") ?? [];
  try {
    return claims ? String(JSON.parse(atob(claims.replaceAll("-", "+").replaceAll("_", "/"))).sub) : (token ?? "");
  } catch {
    return token ?? "";
  }
}

/**
 * What is followed at one URL: by a stream, and by polls where streaming does not work.
 *
 * Of the tabs that follow the same as the same user, one (who holds a lock) has the connection and tells the others.
 * A page's many tasks share the stream of all of the user's.
 *
 * Newer is what was asked for later, and a stream's frame is asked for when it comes. The size of a revision says
 * nothing: a database that was restored goes back.
 */
class Channel {
  /** @type {Set<Follower>} */
  #followers = new Set();
  /** @type {Map<string, {task: Task, asked: number}>} The newest, by task id. */
  #newest = new Map();
  #moment = 0;
  /** @type {Connection | undefined} */
  #connection;
  #mark = UNMARKED;
  /** @type {BroadcastChannel | undefined} To the other tabs. */
  #tabs;
  #isLeader = false;
  #leaveAll = () => {};
  /** @type {Token} The token that was asked for last, if nobody has used it. */
  #spare;
  #ending = new AbortController();
  /** @type {(event: Event) => void} What to do when the network comes back, or the tab is shown or hidden. */
  #wake = () => {};

  /** @param {string} url */
  constructor(url) {
    this.url = url;
    this.hasMany = url.endsWith("/users/me");
    this.taskId = idOf(url);
    this.all = this.hasMany ? url : new URL("users/me", url).href;
    const { signal } = this.#ending;
    this.signal = signal;
    addEventListener("online", (event) => this.#wake(event), { signal });
    document.addEventListener("visibilitychange", (event) => this.#wake(event), { signal });
    queueMicrotask(() => this.#run());
  }

  /** @param {Follower} follower */
  join(follower) {
    this.#followers.add(follower);
    if (this.#connection) follower.onconnection?.(this.#connection);
    for (const { task } of this.#newest.values()) follower.onsnapshot?.(task);
    return () => {
      this.#followers.delete(follower);
      if (!this.#followers.size) this.#end();
    };
  }

  #end() {
    this.#ending.abort();
    this.#tabs?.close();
    if (channels.get(this.url) === this) channels.delete(this.url);
  }

  async #run() {
    try {
      if (!this.hasMany && (await this.#isCrowded()) && !this.signal.aborted) await this.#followAmongAll();
      while (!this.signal.aborted) {
        while (isHidden()) await this.#pause();
        await this.#takeTurns();
      }
    } catch (/** @type {any} */ { status = 0, message }) {
      if (this.signal.aborted) return;
      this.#end();
      this.#tell("onerror", { status, message });
    }
  }

  /** Whether there are many streams to this server, on this page or in the browser's tabs. */
  async #isCrowded() {
    if ([...channels.values()].filter(({ all, hasMany }) => all === this.all && !hasMany).length > 1) return true;
    const { held = [] } = (await navigator.locks?.query()) ?? {};
    return held.filter(({ name }) => name?.startsWith(LOCK)).length >= CROWDED;
  }

  /** Follow by the stream of all of the user's tasks, until the end or for as long as it brings this one. */
  #followAmongAll() {
    return new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
      let isMine = false;
      /** @type {number | undefined} */
      let timer;
      this.signal.addEventListener("abort", resolve);
      const unfollow = follow(this.all, {
        token: () => this.#token(),
        onsnapshot: (task) => {
          if (!this.#isAbout(task)) return;
          isMine = true;
          this.#connected("live");
          this.#take({ tasks: [task], mark: UNMARKED });
        },
        onconnection: (connection) => {
          if (isMine) this.#connected(connection);
          else if (connection !== "lost") timer ??= setTimeout(() => isMine || resolve(), NOT_MINE_MS);
        },
        onerror: resolve,
      });
      this.#leaveAll = () => {
        clearTimeout(timer);
        unfollow();
      };
    }).finally(() => this.#leaveAll());
  }

  /** Wait for this tab's turn to have the connection, and have it until the tab is hidden. */
  async #takeTurns() {
    if (!navigator.locks) return this.#lead(); // a page that came by plain HTTP has no locks
    this.#spare = await this.#token();
    const name = `${LOCK} ${this.url} ${subject(this.#spare)}`;
    if (!this.#tabs) {
      this.#tabs = new BroadcastChannel(name);
      this.#tabs.onmessage = ({ data }) => this.#hear(data);
    }
    const { signal } = this;
    if (await navigator.locks.request(name, { ifAvailable: true }, (lock) => lock && this.#lead().then(() => true))) return;
    await this.#poll(0); // may this tab's user see it? The first answer also shows it at once
    if (signal.aborted) return;
    this.#tabs.postMessage({ isNew: true });
    await navigator.locks.request(name, { signal }, () => this.#lead());
  }

  /** @param {{isNew?: boolean, connection?: Connection, news?: News}} said */
  #hear({ isNew, connection, news }) {
    if (isNew) return this.#say([...this.#newest.values()].map(({ task }) => task));
    if (this.#isLeader) return; // the last words of the one before
    if (news) this.#take(news);
    if (connection) this.#connected(connection);
  }

  /** Tell the other tabs. @param {Task[]} tasks */
  #say(tasks) {
    if (!this.#isLeader) return;
    this.#tabs?.postMessage({ connection: this.#connection, news: { tasks, mark: this.#mark } });
  }

  /** Have the connection. */
  async #lead() {
    let broken = 0; // streams in a row that never said a word
    this.#isLeader = true;
    try {
      while (!this.signal.aborted && !isHidden()) {
        const end = await this.#stream();
        broken = end === "broken" ? broken + 1 : 0;
        if (end !== "closed") await this.#poll(broken === 1 ? 0 : STREAM_AGAIN_MS);
      }
    } finally {
      this.#isLeader = false;
    }
  }

  /** Wait for so long, if that is given, and no longer than until something happens. @param {number} [ms] */
  #pause(ms) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (ms) setTimeout(resolve, ms);
    });
  }

  /** @returns {Promise<End>} */
  async #stream() {
    const address = new URL(`${this.url}/events`);
    let withCredentials = true;
    try {
      if (await this.#token()) {
        const ticket = await (await this.#request("/events", { method: "POST" })).json();
        address.href = new URL(ticket.url, this.url).href;
        withCredentials = false;
      }
    } catch (error) {
      if (!isOutage(error)) throw error;
      return "broken";
    }
    if (this.signal.aborted) return "closed";
    const { cursor } = this.#mark;
    if (cursor) address.searchParams.set("last_event_id", cursor);
    return this.#listen(new EventSource(address, { withCredentials }));
  }

  /** @param {EventSource} source @returns {Promise<End>} */
  #listen(source) {
    return new Promise((resolve) => {
      let heard = false;
      /** @type {Record<string, number | undefined>} */
      const timers = { silent: setTimeout(() => end("silent"), FIRST_FRAME_MS) };
      const end = (how = /** @type {End} */ (heard ? "closed" : "broken")) => {
        source.close();
        for (const timer of Object.values(timers)) clearTimeout(timer);
        resolve(how);
      };
      const hear = () => {
        heard = true;
        clearTimeout(timers.opened);
        clearTimeout(timers.silent);
        timers.lost = void clearTimeout(timers.lost);
        this.#connected("live");
      };
      // Only a task's first stream has to begin with a frame; others may have nothing new to say.
      source.onopen = () => {
        if (this.hasMany || this.#mark.cursor) timers.opened = setTimeout(hear, OPEN_MS);
      };
      source.onmessage = ({ data, lastEventId }) => {
        hear();
        // A final one ends it: `done` has nothing to add.
        this.#take({ tasks: [JSON.parse(data)], mark: { cursor: lastEventId, etag: "" } });
      };
      source.addEventListener("bye", ({ data }) => {
        const { reason } = JSON.parse(data); // after any other, the browser comes back by itself with the cursor
        if (reason === "expired") end();
        if (reason === "busy") end("silent");
      });
      source.onerror = () => {
        clearTimeout(timers.opened);
        if (source.readyState === EventSource.CLOSED) end();
        else timers.lost ??= setTimeout(() => this.#connected("lost"), LOST_MS);
      };
      this.signal.addEventListener("abort", () => end("closed"));
      this.#wake = ({ type }) => {
        if (type === "online") return end("closed"); // a stream over the old network may hang unnoticed
        clearTimeout(timers.hidden);
        if (isHidden()) timers.hidden = setTimeout(end, HIDDEN_MS, "closed");
      };
      this.#wake(new Event(""));
    });
  }

  /** Ask again and again for so long, and until there was an answer. @param {number} duration */
  async #poll(duration) {
    const until = Date.now() + duration;
    let outages = 0;
    do {
      let pause;
      try {
        pause = await this.#ask();
        outages = 0;
        this.#connected("polling");
      } catch (/** @type {any} */ error) {
        if (!isOutage(error)) throw error;
        const backoff = Math.min(LONGEST_PAUSE_MS, POLL_MS * 2 ** outages++);
        pause = Math.max(error.retryMs ?? 0, backoff * (0.8 + 0.2 * Math.random()));
        this.#connected("lost");
      }
      if (this.signal.aborted) return;
      if (duration || outages) await this.#pause(pause);
    } while (!this.signal.aborted && !isHidden() && (outages || Date.now() < until));
  }

  /** Ask once. @returns {Promise<number>} How long to wait before the next time. */
  async #ask() {
    const asked = ++this.#moment;
    const headers = /** @type {HeadersInit} */ (this.#mark.etag ? { "If-None-Match": this.#mark.etag } : {});
    const response = await this.#request(this.hasMany ? "?limit=100" : "/status", { headers });
    if (response.status === 200) {
      const etag = response.headers.get("ETag") ?? "";
      const [, cursor = ""] = /"(\d+)"/.exec(etag) ?? [];
      // A page of the list moves no cursor: what is not on it may have changed as well.
      this.#take({ tasks: [await response.json()].flat(), mark: this.hasMany ? this.#mark : { cursor, etag }, asked });
    }
    return retryMs(response) || POLL_MS;
  }

  /** Fetch; where a token is refused, a new one is tried. @param {string} path @param {RequestInit} init */
  async #request(path, init) {
    for (let token = await this.#token(), isSecond = false; ; isSecond = true) {
      const headers = { ...init.headers, ...(token && { Authorization: `Bearer ${token}` }) };
      const response = await fetch(this.url + path, { ...init, headers, signal: this.signal });
      const { ok, status } = response;
      if (ok || status === 304) return response;
      const refused = token;
      if (status === 401 && !isSecond && (token = await this.#token()) !== refused) continue;
      const { detail = `The server answered ${status}.` } = await response.json().catch(() => ({}));
      throw Object.assign(new Error(detail), { status, retryMs: retryMs(response) });
    }
  }

  async #token() {
    const spare = this.#spare;
    this.#spare = undefined;
    if (spare) return spare;
    const [{ token } = { token: null }] = this.#followers;
    return typeof token === "function" ? token() : token;
  }

  /** @param {Task} task */
  #isAbout({ task_id: taskId }) {
    return this.hasMany || taskId === this.taskId;
  }

  /** @param {News} news */
  #take({ tasks, mark, asked = ++this.#moment }) {
    const isNews = (/** @type {Task} */ task) => asked >= (this.#newest.get(task.task_id)?.asked ?? 0);
    const fresh = tasks.filter((task) => this.#isAbout(task) && isNews(task));
    if (!fresh.length) return;
    this.#mark = mark;
    for (const task of fresh) this.#newest.set(task.task_id, { task, asked });
    this.#say(fresh);
    if (!this.hasMany && isFinal(fresh[0])) this.#end();
    for (const task of fresh) this.#tell("onsnapshot", task);
  }

  /** @param {Connection} connection */
  #connected(connection) {
    if (connection === this.#connection || this.signal.aborted) return;
    this.#connection = connection;
    this.#say([]);
    this.#tell("onconnection", connection);
  }

  /** A follower's mistake is its own. @param {keyof Follower} name @param {any} detail */
  #tell(name, detail) {
    for (const follower of [...this.#followers]) {
      try {
        /** @type {any} */ (follower)[name]?.(detail);
      } catch (error) {
        reportError(error);
      }
    }
  }
}

// Words.

/** "generating_cards" as "Generating cards". @param {string} name */
export const words = (name) => name.replaceAll("_", " ").trim().replace(/^./u, (letter) => letter.toUpperCase());

/** The kind that a made task id begins with, else the id. @param {Task} task */
export const title = ({ task_id: id }) => words(/^(.*?[a-z].*?)_\d+_\d{8}/i.exec(id)?.[1] ?? "") || id;

/** @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const minutes = Math.floor(seconds / 60);
  if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return [minutes && `${minutes} min`, (seconds % 60 || !minutes) && `${seconds % 60} s`].filter(Boolean).join(" ");
}

/** What it is doing, or how it ended. @param {Task} task */
function doing({ status, stage }) {
  if (status === "running" && stage) return words(stage);
  return { pending: "Waiting to start", timeout: "Timed out" }[/** @type {string} */ (status)] ?? words(status);
}

/** @param {Task} task */
export function count({ completed_items: done, total_items: total }) {
  if (total) return `${done ?? 0} of ${total}`;
  return done ? `${done} done` : "";
}

/** From 0 to 100, or undefined while nothing is known. @param {Task} task */
function share(task) {
  if (task.status === "completed") return 100;
  return isFinal(task) || task.progress || task.total_items ? task.progress : undefined;
}

/**
 * How long it will still take, once that can be told: at an even pace that was seen for a while.
 *
 * @param {{at: number, progress: number}[]} seen @param {number} now
 */
function forecast(seen, now) {
  const [first, middle, last] = [seen[0], seen[seen.length >> 1], seen[seen.length - 1]];
  if (seen.length < 4 || last.at - first.at < 10_000 || now - last.at > 30_000) return "";
  const pace = (from = first, to = last) => (to.progress - from.progress) / (to.at - from.at);
  if (Math.abs(pace(first, middle) - pace(middle, last)) > pace() / 3) return "";
  const left = (100 - last.progress) / pace() - (now - last.at);
  const step = left < 60_000 ? 10_000 : 60_000;
  return `about ${duration(Math.max(1, Math.ceil(left / step)) * step)} left`;
}

// The element.

const STYLE = `
:host {
  display: block; font: inherit; color: var(--task-progress-text, light-dark(#1f2328, #e6e8eb));
  --accent: var(--task-progress-color, light-dark(#3b62d6, #86a3ff));
  --muted: var(--task-progress-muted, light-dark(#5c656e, #a0a8b0));
  --track: var(--task-progress-track, light-dark(#e4e7eb, #31363d));
}
[hidden], :host([hidden]) { display: none !important }
:host([status=completed]) { --accent: var(--task-progress-completed, light-dark(#2a8550, #5fc58a)) }
:host(:is([status=failed], [status=timeout], [status=error])) { --accent: var(--task-progress-failed, light-dark(#c4302b, #ff8a80)) }
:host(:is([status=pending], [status=queued])) { --accent: var(--muted) }
[part=head], [part=text] { display: flex; gap: 0 .9em; align-items: baseline; font-variant-numeric: tabular-nums }
[part=head] { justify-content: space-between; font-weight: 600 }
[part=text] { flex-wrap: wrap; min-height: 1.5em }
[part=text], p { font-size: .875em; color: var(--muted) }
[part=percent], [part=stage], :host(:is([status=failed], [status=timeout], [status=error])) [part=message] { color: var(--accent) }
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

/** @type {CSSStyleSheet | undefined} Constructed, which a strict CSP lets pass; one for all elements. */
let sheet;

/** @param {string} tag @param {string} part @param {Node[]} children */
function make(tag, part, ...children) {
  const node = document.createElement(tag);
  node.part.add(part);
  node.append(...children);
  return node;
}

export class TaskProgress extends HTMLElement {
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
    if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(STYLE);
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

  /** The newest snapshot. @returns {Task | null} */
  get task() {
    return this.#task;
  }
  set task(task) {
    const isOther = task?.task_id !== this.#task?.task_id;
    if (isOther) this.#said.status = "";
    if (isOther || task?.started_at !== this.#task?.started_at) this.#seen = []; // another attempt has another pace
    this.#task = task;
    this.#problem = undefined;
    if (task) this.#see(task.progress, performance.now());
    this.#render();
  }

  /** Where the access token comes from; setting it tries again what was refused. @returns {TokenProvider} */
  get token() {
    return this.#token;
  }
  set token(token) {
    this.#token = token;
    if (this.#problem) this.#follow();
  }

  get src() { return this.getAttribute("src") ?? ""; }
  set src(url) { this.setAttribute("src", url); }
  get label() { return this.getAttribute("label") ?? ""; }
  set label(text) { this.setAttribute("label", text); }

  connectedCallback() {
    const own = Object.entries(this); // set before the element was defined, these hide the accessors
    for (const [name] of own) Reflect.deleteProperty(this, name);
    Object.assign(this, Object.fromEntries(own));
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
    const status = problem ? "error" : (task?.status ?? "");
    const progress = task ? share(task) : problem && 0;
    this.toggleAttribute("status", status !== "");
    if (status) this.setAttribute("status", status);
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
    this.#announce(status);
    this.#tick(this.isConnected && task !== null && !problem && !isFinal(task));
  }

  /** A bar glides forward, and jumps back where a task begins anew. @param {number | undefined} progress */
  #draw(progress) {
    const bar = this.#bar;
    const isBack = (progress ?? 0) < bar.value;
    bar.classList.toggle("back", isBack);
    if (progress === undefined) bar.removeAttribute("value");
    else bar.value = progress;
    if (isBack) void bar.offsetWidth; // drawn now, or a step forward within this frame would make both one glide
  }

  /** What does not change is left alone, so that a selection stays. @param {Record<string, string>} texts */
  #show(texts) {
    for (const [name, node] of Object.entries(this.#texts)) {
      if (node.textContent !== texts[name]) node.textContent = texts[name];
      node.hidden = !texts[name];
    }
  }

  /** @param {number} progress @param {number} at Milliseconds of a steady clock. */
  #see(progress, at) {
    const last = this.#seen.at(-1)?.progress ?? 0;
    if (progress === last) return;
    this.#seen = progress < last ? [] : this.#seen.filter((sample) => at - sample.at < 60_000);
    this.#seen.push({ at, progress });
  }

  /** How long it took or has been going, and may still take. @param {Task} task */
  #times({ status, started_at: from, ended_at: to }) {
    const elapsed = from && duration((to ? Date.parse(to) : Date.now()) - Date.parse(from));
    const left = status === "running" && forecast(this.#seen, performance.now());
    return [elapsed, left].filter(Boolean).join(", ");
  }

  /** Let the clock go on between snapshots. @param {boolean} isActive */
  #tick(isActive) {
    if (isActive) this.#clock ??= setInterval(() => isHidden() || this.#render(), 1_000);
    else this.#clock = void clearInterval(this.#clock);
  }

  /** Tell those who listen: at once how it stands, at most every ten seconds how it goes on. @param {string} status */
  #announce(status) {
    if (!status) return;
    const { stage = null, progress = 0 } = this.#task ?? {};
    const said = this.#said;
    const now = performance.now();
    const isNews = stage !== said.stage || Math.abs(progress - said.progress) >= 10;
    if (status === said.status && !(isNews && now - said.at >= 10_000)) return;
    this.#said = { at: now, status, stage, progress };
    if (!said.status && !this.#problem) return; // what is there from the beginning is read with the page
    const { label, stage: doing, percent, message } = this.#texts;
    this.#live.textContent = [label, doing, percent, message].flatMap((node) => node.textContent || []).join(", ");
  }
}

if (!customElements.get("task-progress")) customElements.define("task-progress", TaskProgress);
