/** What went wrong, for who watches and for who made the page. */

import { ENGLISH, fill } from "./texts.js";

/** @import { TaskProgress } from "./element.js" */

const EMPTY_MS = 1_000; // by then, a page has said what a bar is to show

Object.assign(ENGLISH, {
  signIn: "Please sign in.",
  refused: "The server answered {status}.",
  noJson: "The answer of {url} is not JSON.",
  noSource: "This bar has nothing to show: its attribute “src” is missing.",
  blocked: "{origin} does not let pages of {page} ask (CORS).",
});

/** @param {Response} response */
export const retryMs = ({ headers }) => Number(headers.get("Retry-After")) * 1_000 || 0;

/** @param {Problem & {retryMs?: number}} problem */
export const failure = ({ message, ...problem }) =>
  Object.assign(new Error(message || fill(ENGLISH[problem.key ?? ""], problem, "en")), problem);

/** What the server refused. @param {Response} response @param {number} status HTTP's, or what it stands for */
export async function refusal(response, status) {
  const { detail: message = "" } = await response.json().catch(() => ({}));
  const key = message ? undefined : status === 401 ? "signIn" : "refused";
  return failure({ status, message, key, retryMs: retryMs(response) });
}

/** What a page can be blamed for, if nothing came. @param {TaskProgress} element @returns {Promise<Problem | null>} */
export async function whyNothing(element) {
  const { src } = element;
  await new Promise((resolve) => setTimeout(resolve, src ? 0 : EMPTY_MS));
  if (element.task || !element.isConnected || element.src !== src) return null;
  if (!src) return failure({ status: 0, message: "", key: "noSource" });
  const { href, origin } = new URL(src, document.baseURI);
  if (origin === location.origin) return null;
  // An answer that the page may not read is not the network's silence.
  const isAnswered = await fetch(`${href}/status`, { mode: "no-cors" }).catch(() => null);
  if (!isAnswered || element.task) return null;
  return failure({ status: 0, message: "", key: "blocked", origin, page: location.origin });
}
