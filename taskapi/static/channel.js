/** What is known of what is followed at one URL, and who is told. */

import { requestsTo } from "./requests.js";
import { isFinal } from "./texts.js";

/** Any answer is news. @type {Mark} */
const UNMARKED = { cursor: "", etag: "" };

/** The id in a task's URL. */
function idOf(url = "") {
  const id = url.slice(url.lastIndexOf("/") + 1);
  try {
    return decodeURIComponent(id);
  } catch {
    return id; // a per cent sign that stands for itself
  }
}

/**
 * Newer is what was asked for later; a stream's frame, when it comes. A restored database's revisions go back.
 *
 * @type {(url: string) => Channel}
 */
export const channelOf = (url) => {
  /** @type {Set<any>} */
  const followers = new Set();
  /** @type {Map<string, {task: Task, asked: number}>} By task id. */
  const newest = new Map();
  const hints = new Map();
  /** @type {Connection | undefined} */
  let connection;
  /** @type {number | undefined} */
  let owner;
  const ending = new AbortController();

  /** A follower's mistake is its own. @type {(name: string, detail: any) => void} */
  const tell = (name, detail) => {
    for (const follower of [...followers]) {
      try {
        follower[name]?.(detail);
      } catch (error) {
        reportError(error);
      }
    }
  };

  const hasMany = url.endsWith("/users/me");
  const taskId = idOf(url);
  return {
    url,
    hasMany,
    taskId,
    all: hasMany ? url : new URL("users/me", url).href,
    mark: UNMARKED,
    moment: 0,
    signal: ending.signal,
    requests: requestsTo(url, () => [...followers][0]?.token, ending.signal),
    owner: () => owner,
    isPaused: () => document.hidden && ![...followers].some((follower) => follower.whileHidden?.()),

    join(follower) {
      followers.add(follower);
      if (connection) follower.onconnection?.(connection);
      for (const { task } of newest.values()) follower.onsnapshot?.(task);
      for (const [name, hint] of hints.values()) /** @type {any} */ (follower)[`on${name}`]?.(hint);
      return () => {
        followers.delete(follower);
        if (!followers.size) ending.abort();
      };
    },

    fail({ status = 0, message, ...more }) {
      if (ending.signal.aborted) return;
      ending.abort();
      tell("onerror", { ...more, status, message });
    },

    take({ tasks, mark = UNMARKED, asked: before }) {
      const asked = before ?? ++this.moment;
      if (hasMany && tasks.some(({ user_id: user }) => user !== (owner ??= user))) {
        return this.fail({ status: 401, message: "Somebody else has signed in." });
      }
      const fresh = tasks.filter(
        ({ task_id: id }) => (hasMany || id === taskId) && asked >= (newest.get(id)?.asked ?? 0),
      );
      if (!fresh.length) return;
      this.mark = mark;
      for (const task of fresh) newest.set(task.task_id, { task, asked });
      this.tabs?.tell({ connection, news: { tasks: fresh, mark } });
      if (!hasMany && isFinal(fresh[0])) ending.abort();
      for (const task of fresh) tell("onsnapshot", task);
    },

    hint(name, told) {
      const hint = { task_id: taskId, ...told };
      hints.set(name + hint.task_id, [name, hint]);
      this.tabs?.tell({ hints: [[name, hint]] });
      tell(`on${name}`, hint);
    },

    connected(state) {
      if (state === connection || ending.signal.aborted) return;
      connection = state;
      this.tabs?.tell({ connection });
      tell("onconnection", connection);
    },

    hear({ isNew, connection: state, news, hints: heard = [] }) {
      const tasks = [...newest.values()].map(({ task }) => task);
      if (isNew) this.tabs?.tell({ connection, news: { tasks, mark: this.mark }, hints: [...hints.values()] });
      if (news) this.take(news);
      for (const [name, hint] of heard) this.hint(name, hint);
      if (state) this.connected(state);
    },
  };
};
