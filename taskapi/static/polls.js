/** News by asking again and again: where streaming does not work, or until another tab tells. */

import { isOutage } from "./requests.js";
import { pause } from "./transport.js";
import { failure, retryMs } from "./trouble.js";

const POLL_MS = 2_000;
const LONGEST_PAUSE_MS = 30_000;

/** For so long, and until an answer came. @param {Receiver} receiver @param {number} duration */
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
  } while (!signal.aborted && !receiver.isPaused() && (outages || Date.now() < until));
}

/** Ask once; how long to wait then. @param {Receiver} receiver */
async function ask(receiver) {
  const { hasMany, mark, requests } = receiver;
  const asked = ++receiver.moment;
  const headers = mark.etag ? { "If-None-Match": mark.etag } : undefined;
  const response = await requests.send(hasMany ? "?limit=100" : "/status", { headers });
  if (response.status === 200) {
    const tasks = [await read(response)].flat();
    const etag = response.headers.get("ETag") ?? "";
    const [, cursor = ""] = /"(\d+)"/.exec(etag) ?? [];
    // A page of the list moves no cursor: what is not on it may have changed too.
    receiver.take({ tasks, mark: hasMany ? receiver.mark : { cursor, etag }, asked });
  }
  return retryMs(response) || POLL_MS;
}

/** To ask again would not make it JSON. @param {Response} response */
const read = (response) =>
  response.json().catch((error) => {
    const { status, url } = response;
    throw error instanceof SyntaxError ? failure({ status, url, message: "", key: "noJson" }) : error;
  });
