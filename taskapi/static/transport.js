/** How news come: by a stream, by polls where streaming does not work. */

import { isOutage, retryMs } from "./requests.js";

/** @import { End, Receiver } from "./types.js" */

const OPEN_MS = 500; // what ends sooner came from a proxy: the server is away
const FIRST_FRAME_MS = 5_000; // what is silent for longer is held back by a proxy
const STREAM_AGAIN_MS = 60_000;
const POLL_MS = 2_000;
const LONGEST_PAUSE_MS = 30_000;
const HIDDEN_MS = 30_000;
const LOST_MS = 4_000; // a planned reconnect takes up to 3 s

/** The network is back, the tab is shown or hidden. @param {AbortSignal} signal @param {(event: Event) => void} listener */
function onTurn(signal, listener) {
  addEventListener("online", listener, { signal });
  document.addEventListener("visibilitychange", listener, { signal });
}

/** Wait until then, or for so long. @param {AbortSignal} signal @param {number} [ms] */
export async function pause(signal, ms) {
  const { promise, resolve } = Promise.withResolvers();
  const over = new AbortController();
  onTurn(over.signal, resolve);
  signal.addEventListener("abort", resolve, { signal: over.signal });
  if (ms) setTimeout(resolve, ms);
  await promise;
  over.abort();
}

/** One stream, from its opening to its end. */
class Stream {
  #isHeard = false;
  /** @type {Record<string, number | undefined>} */
  #timers = {};
  #over = new AbortController();
  /** @type {PromiseWithResolvers<End>} */
  ended = Promise.withResolvers();

  /** @param {EventSource} source @param {Receiver} receiver */
  constructor(source, receiver) {
    const { signal } = this.#over;
    this.source = source;
    this.receiver = receiver;
    source.onopen = () => this.#opened();
    source.onmessage = (event) => this.#take(event);
    source.onerror = () => this.#failed();
    source.addEventListener("bye", ({ data }) => {
      const { reason } = JSON.parse(data); // after others, the browser comes back by itself with the cursor
      if (reason === "expired") this.#end();
      if (reason === "busy") this.#end("silent");
    });
    receiver.signal.addEventListener("abort", () => this.#end("closed"), { signal });
    onTurn(signal, ({ type }) => this.#turn(type));
    this.#timers.silent = setTimeout(() => this.#end("silent"), FIRST_FRAME_MS);
    this.#turn();
  }

  /** @param {End} how */
  #end(how = this.#isHeard ? "closed" : "broken") {
    this.source.close();
    this.#over.abort();
    Object.values(this.#timers).forEach(clearTimeout);
    this.ended.resolve(how);
  }

  /** Only a task's first stream has to begin with a frame; others may have nothing new to say. */
  #opened() {
    const { hasMany, mark } = this.receiver;
    if (hasMany || mark.cursor) this.#timers.opened = setTimeout(() => this.#hear(), OPEN_MS);
  }

  #hear() {
    this.#isHeard = true;
    clearTimeout(this.#timers.opened);
    clearTimeout(this.#timers.silent);
    this.#timers.lost = void clearTimeout(this.#timers.lost);
    this.receiver.connected("live");
  }

  /** A final snapshot ends it: `done` has nothing to add. @param {MessageEvent<string>} event */
  #take({ data, lastEventId }) {
    this.#hear();
    this.receiver.take({ tasks: [JSON.parse(data)], mark: { cursor: lastEventId, etag: "" } });
  }

  #failed() {
    clearTimeout(this.#timers.opened);
    if (this.source.readyState === EventSource.CLOSED) this.#end();
    else this.#timers.lost ??= setTimeout(() => this.receiver.connected("lost"), LOST_MS);
  }

  #turn(type = "") {
    if (type === "online") return this.#end("closed"); // over the old network it may hang unnoticed
    clearTimeout(this.#timers.hidden);
    if (document.hidden) this.#timers.hidden = setTimeout(() => this.#end("closed"), HIDDEN_MS);
  }
}

/** Bring news until the end, or until the tab is hidden. @param {Receiver} receiver */
export async function connect(receiver) {
  let broken = 0; // streams in a row that never said a word
  while (!receiver.signal.aborted && !document.hidden) {
    const end = await stream(receiver);
    broken = end === "broken" ? broken + 1 : 0;
    if (end !== "closed") await poll(receiver, broken === 1 ? 0 : STREAM_AGAIN_MS);
  }
}

/** @param {Receiver} receiver @returns {Promise<End>} */
async function stream(receiver) {
  try {
    const source = await receiver.requests.stream(receiver.mark.cursor);
    return await new Stream(source, receiver).ended.promise;
  } catch (error) {
    if (receiver.signal.aborted) return "closed";
    if (!isOutage(error)) throw error;
    return "broken";
  }
}

/** Ask again and again for so long, and until an answer came. @param {Receiver} receiver @param {number} duration */
export async function poll(receiver, duration) {
  const { signal } = receiver;
  const until = Date.now() + duration;
  let outages = 0;
  do {
    let ms;
    try {
      ms = await ask(receiver);
      outages = 0;
      receiver.connected("polling");
    } catch (/** @type {any} */ error) {
      if (!isOutage(error)) throw error;
      const backoff = Math.min(LONGEST_PAUSE_MS, POLL_MS * 2 ** outages++);
      ms = Math.max(error.retryMs ?? 0, backoff * (0.8 + 0.2 * Math.random()));
      receiver.connected("lost");
    }
    if (signal.aborted) return;
    if (duration || outages) await pause(signal, ms);
  } while (!signal.aborted && !document.hidden && (outages || Date.now() < until));
}

/** Ask once; how long to wait then. @param {Receiver} receiver */
async function ask(receiver) {
  const { hasMany, mark, requests } = receiver;
  const asked = ++receiver.moment;
  const headers = mark.etag ? { "If-None-Match": mark.etag } : undefined;
  const response = await requests.send(hasMany ? "?limit=100" : "/status", { headers });
  if (response.status === 200) {
    const tasks = [await response.json()].flat();
    const etag = response.headers.get("ETag") ?? "";
    const [, cursor = ""] = /"(\d+)"/.exec(etag) ?? [];
    // A page of the list moves no cursor: what is not on it may have changed too.
    receiver.take({ tasks, mark: hasMany ? receiver.mark : { cursor, etag }, asked });
  }
  return retryMs(response) || POLL_MS;
}
