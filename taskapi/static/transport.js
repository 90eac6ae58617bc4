/** How news come: by a stream, by polls where streaming does not work. */

import { isOutage } from "./requests.js";

const OPEN_MS = 500; // what ends sooner came from a proxy: the server is away
const FIRST_FRAME_MS = 5_000; // what is silent for longer is held back by a proxy
const STREAM_AGAIN_MS = 60_000;
const HIDDEN_MS = 30_000;
const LOST_MS = 4_000; // a planned reconnect takes up to 3 s

/** Online again, hidden or shown. @type {(listener: (event: Event) => void, options: object) => void} */
const onTurn = (listener, options) => {
  addEventListener("online", listener, options);
  document.addEventListener("visibilitychange", listener, options);
};

/** Wait until then, or for so long. @param {AbortSignal} signal */
export async function pause(signal, ms = 0) {
  const { promise, resolve } = Promise.withResolvers();
  const over = new AbortController();
  onTurn(resolve, over);
  signal.addEventListener("abort", resolve, over);
  if (ms) setTimeout(resolve, ms);
  await promise;
  over.abort();
}

/** One stream, from its opening to its end. @param {Receiver} receiver @returns {Promise<End>} */
async function stream(receiver) {
  const source = await receiver.requests.stream(receiver.mark.cursor);
  const { promise, resolve } = Promise.withResolvers();
  const over = new AbortController();
  /** @type {Record<string, number | undefined>} */
  const timers = {};
  let isHeard = false;

  const end = (how = isHeard ? "closed" : "broken") => {
    source.close();
    over.abort();
    Object.values(timers).forEach(clearTimeout);
    resolve(how);
  };
  const hear = () => {
    isHeard = true;
    clearTimeout(timers.opened);
    clearTimeout(timers.silent);
    timers.lost = void clearTimeout(timers.lost);
    receiver.connected("live");
  };
  const turn = (type = "") => {
    if (type === "online") return end("closed"); // over the old network it may hang unnoticed
    clearTimeout(timers.hidden);
    if (receiver.isPaused()) timers.hidden = setTimeout(end, HIDDEN_MS, "closed");
  };

  source.onopen = () => {
    // Only a task's first stream has to begin with a frame; others may have nothing new to say.
    if (receiver.hasMany || receiver.mark.cursor) timers.opened = setTimeout(hear, OPEN_MS);
  };
  source.onmessage = ({ data, lastEventId }) => {
    hear();
    receiver.take({ tasks: [JSON.parse(data)], mark: { cursor: lastEventId, etag: "" } });
  };
  source.onerror = () => {
    clearTimeout(timers.opened);
    if (source.readyState === EventSource.CLOSED) end();
    else timers.lost ??= setTimeout(() => receiver.connected("lost"), LOST_MS);
  };
  for (const name of ["cancelling", "forecast"]) {
    source.addEventListener(name, ({ data }) => receiver.hint(name, JSON.parse(data)));
  }
  source.addEventListener("bye", ({ data }) => {
    const { reason } = JSON.parse(data); // after others, the browser comes back by itself with the cursor
    if (reason === "expired") end();
    if (reason === "busy") end("silent");
  });
  receiver.signal.addEventListener("abort", () => end("closed"), over);
  onTurn(({ type }) => turn(type), over);
  timers.silent = setTimeout(end, FIRST_FRAME_MS, "silent");
  turn();
  return promise;
}

/** Bring news until the end, or until the tab is hidden. @param {Receiver} receiver */
export async function connect(receiver) {
  let broken = 0; // streams in a row that never said a word
  while (!receiver.signal.aborted && !receiver.isPaused()) {
    const end = await stream(receiver).catch((error) => {
      if (!receiver.signal.aborted && !isOutage(error)) throw error;
      return "broken";
    });
    broken = end === "broken" ? broken + 1 : 0;
    if (end !== "closed") await poll(receiver, broken === 1 ? 0 : STREAM_AGAIN_MS);
  }
}


/** @param {Receiver} receiver */
export async function poll(receiver, duration = 0) {
  const polls = await import("./polls.js").catch(() => receiver.connected("lost"));
  await (polls ? polls.poll(receiver, duration) : pause(receiver.signal, LOST_MS));
}
