/** Following: on a page, whoever follows the same address shares a channel. */

import { requestsTo } from "./requests.js";
import { connections, meet } from "./tabs.js";
import { isFinal } from "./texts.js";
import { connect, pause, poll } from "./transport.js";

/** @import { Connection, Follow, Follower, Mark, News, Said, Tabs, Task } from "./types.js" */

const NOT_MINE_MS = 2_000; // what the stream of all my tasks has not brought by then is not mine, or has ended
const CROWDED = 3; // streams, of a browser's six connections to a host: who comes later shares one

/** Any answer is news. @type {Mark} */
const UNMARKED = { cursor: "", etag: "" };

/** @type {Map<string, Channel>} */
const channels = new Map();

/** @type {Follow} */
export const follow = (url, follower) => {
  const { href } = new URL(url, document.baseURI);
  const channel = channels.get(href) ?? new Channel(href);
  channels.set(href, channel);
  return channel.join(follower);
};

/** The id in a task's URL. @param {string} url */
function idOf(url) {
  const id = url.slice(url.lastIndexOf("/") + 1);
  try {
    return decodeURIComponent(id);
  } catch {
    return id; // a per cent sign that stands for itself
  }
}

/**
 * What is followed at one URL; a page's many tasks share the channel of all of the user's.
 *
 * Newer is what was asked for later; a stream's frame, when it comes. A restored database's revisions go back.
 */
class Channel {
  /** @type {Set<Follower>} */
  #followers = new Set();
  /** @type {Map<string, {task: Task, asked: number}>} The newest, by task id. */
  #newest = new Map();
  /** @type {number | undefined} Whose tasks these are, if they are all of a user's. */
  #owner;
  /** @type {Connection | undefined} */
  #connection;
  /** @type {Tabs | undefined} */
  #tabs;
  #ending = new AbortController();
  mark = UNMARKED;
  moment = 0;

  /** @param {string} url */
  constructor(url) {
    this.url = url;
    this.hasMany = url.endsWith("/users/me");
    this.all = this.hasMany ? url : new URL("users/me", url).href;
    this.taskId = idOf(url);
    this.signal = this.#ending.signal;
    this.requests = requestsTo(url, () => [...this.#followers][0]?.token, this.signal);
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
    if (channels.get(this.url) === this) channels.delete(this.url);
  }

  async #run() {
    try {
      if (!this.hasMany && (await this.#isCrowded()) && !this.signal.aborted) await this.#followAmongAll();
      while (!this.signal.aborted) {
        if (document.hidden) await pause(this.signal);
        else await this.#connect();
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** @param {any} problem */
  #fail({ status = 0, message }) {
    if (this.signal.aborted) return;
    this.#end();
    this.#tell("onerror", { status, message });
  }

  /** Whether there are many streams, on this page or in all tabs. */
  async #isCrowded() {
    const tasks = [...channels.values()].filter(({ all, hasMany }) => all === this.all && !hasMany);
    return tasks.length > 1 || (await connections()) >= CROWDED;
  }

  /** Follow by the channel of all of the user's tasks, for as long as it brings this one. */
  async #followAmongAll() {
    const { promise, resolve } = Promise.withResolvers();
    /** @type {number | undefined} */
    let timer;
    this.signal.addEventListener("abort", resolve);
    const leave = follow(this.all, {
      token: () => this.requests.token(),
      onsnapshot: (task) => {
        if (task.task_id !== this.taskId) return;
        this.connected("live");
        this.take({ tasks: [task], mark: UNMARKED });
      },
      onconnection: (connection) => {
        if (this.#newest.size) this.connected(connection);
        else if (connection !== "lost") timer ??= setTimeout(() => this.#newest.size || resolve(null), NOT_MINE_MS);
      },
      onerror: resolve,
    });
    await promise;
    clearTimeout(timer);
    leave();
  }

  async #connect() {
    if (!navigator.locks) return connect(this); // not on a page that came by plain HTTP
    let user = await this.requests.user();
    if (!user && this.hasMany) {
      await poll(this, 0); // whose cookies these are, only tasks can tell
      if (this.#owner === undefined) return connect(this);
      user = String(this.#owner);
    }
    this.#tabs ??= meet(`${this.url} ${user}`, this.signal, (said) => this.#hear(said));
    // May this tab's user see it? The first answer also shows it at once.
    await this.#tabs.takeTurn(() => connect(this), () => poll(this, 0));
  }

  /** @param {Said} said */
  #hear({ isNew, connection, news }) {
    if (isNew) this.#say([...this.#newest.values()].map(({ task }) => task));
    if (news) this.take(news);
    if (connection) this.connected(connection);
  }

  /** @param {Task[]} tasks */
  #say(tasks) {
    this.#tabs?.tell({ connection: this.#connection, news: { tasks, mark: this.mark } });
  }

  /** @param {News} news */
  take({ tasks, mark, asked = ++this.moment }) {
    if (this.hasMany && tasks.some(({ user_id: user }) => user !== (this.#owner ??= user))) {
      return this.#fail({ status: 401, message: "Somebody else has signed in." });
    }
    const fresh = tasks.filter(
      ({ task_id: id }) => (this.hasMany || id === this.taskId) && asked >= (this.#newest.get(id)?.asked ?? 0),
    );
    if (!fresh.length) return;
    this.mark = mark;
    for (const task of fresh) this.#newest.set(task.task_id, { task, asked });
    this.#say(fresh);
    if (!this.hasMany && isFinal(fresh[0])) this.#end();
    for (const task of fresh) this.#tell("onsnapshot", task);
  }

  /** @param {Connection} connection */
  connected(connection) {
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
