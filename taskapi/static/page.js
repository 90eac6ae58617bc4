/** The page at `/`: who is signed in, and which view the address asks for. */

import { read, takeToken } from "./page/address.js";
import { find, put } from "./page/dom.js";
import * as session from "./page/session.js";
import * as tasks from "./page/tasks.js";
import { say, speak } from "./page/texts.js";

/** @typedef {{open(wishes: URLSearchParams, refused: (problem: {status: number, message: string}) => void): void, close(): void}} View */

/** By the name that the fragment has for it; the tasks are shown where it has none. @type {Record<string, () => Promise<View>>} */
const VIEWS = { task: () => import("./page/task.js"), everyone: () => import("./page/admin/view.js") };

/** @type {View | undefined} */
let view;
let turn = 0;

/** Show what the address asks for. */
async function show() {
  const mine = ++turn;
  if (!session.isSignedIn()) return leave();
  const wishes = read();
  const name = Object.keys(VIEWS).find((each) => wishes.has(each));
  const next = name ? await VIEWS[name]() : tasks;
  if (mine !== turn) return;
  if (view && view !== next) find("main").focus({ preventScroll: true }); // what was focused is gone
  if (view !== next || name) view?.close();
  view = next;
  find("#sign-in").hidden = true;
  find("#sign-out").hidden = !session.token();
  put(find("#user"), session.user());
  for (const link of document.querySelectorAll("#views a")) {
    link.ariaCurrent = link.getAttribute("href") === `#${name ?? ""}` ? "page" : null;
  }
  view.open(wishes, refuse);
}

/** @param {{status: number, message: string}} problem */
function refuse({ status, message }) {
  leave(session.token() && status === 401 ? say("tokenRefused") : message);
}

/** Forget who it was, and ask. @param {string} [reason] Why, if it was not wanted. */
function leave(reason = "") {
  turn++;
  view?.close();
  view = undefined;
  session.signOut();
  find("#sign-out").hidden = find("#views").hidden = true;
  find("#sign-in").hidden = false;
  put(find("#refusal"), reason);
  find("#token").focus();
  document.dispatchEvent(new CustomEvent("arranged", { detail: [] }));
}

function enter() {
  const token = takeToken();
  if (token) {
    view?.close();
    view = undefined;
    session.signIn(token);
  }
  show();
}

find("#sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (find("#token"));
  session.signIn(field.value.trim());
  field.value = "";
  show();
});
find("#sign-out").addEventListener("click", () => leave());
find("#lookup").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = `${new URLSearchParams({ task: /** @type {HTMLInputElement} */ (find("#task-id")).value.trim() })}`;
});
document.addEventListener("arranged", async (/** @type {any} */ { detail: tasks }) => {
  (await import("./page/tab.js")).tell(tasks);
});
document.addEventListener("administrator", () => (find("#views").hidden = false));
addEventListener("hashchange", enter);

await speak().catch(() => {}); // the network was away: in English
enter();
