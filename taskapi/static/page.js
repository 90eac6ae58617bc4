/** The page at `/`: the caller's tasks over one stream, their history by pages. Text from tasks is only ever text. */

import { credentials, subject } from "./requests.js";
import { duration, follow, isFinal, TaskProgress, title, words } from "./task-progress.js";

const TOKEN = "taskapi.token";
const CONNECTIONS = { live: "Live", polling: "Updating every few seconds", lost: "No connection. Trying again…" };
const REFUSED = "This token was not accepted: it is mistaken or has expired. Please paste a new one.";
const API = document.body.dataset.api ?? "/api/tasks/users/me";
const USER = document.body.dataset.user; // whom a cookie of the application's names

/** @template {HTMLElement} T @param {string} selector @returns {T} */
const find = (selector) => /** @type {T} */ (document.querySelector(selector));

/** @param {string} tag @param {object} [properties] @param {Node[]} children */
function make(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// One task.

/** @param {string | null} moment @param {"short" | "medium"} [timeStyle] */
const when = (moment, timeStyle = "medium") =>
  moment && new Date(moment).toLocaleString(undefined, { dateStyle: "medium", timeStyle });

/** @param {Task} task */
const items = ({ completed_items: done, total_items: total }) => (total ? `${done ?? 0} of ${total}` : done || null);

/** @param {Task} task @returns {[name: string, value: unknown, className?: string][]} */
function facts(task) {
  const { started_at: from, ended_at: to } = task;
  return [
    ["Task id", task.task_id],
    ["Status", words(task.status)],
    ["Stage", task.stage && words(task.stage)],
    ["Items", items(task)],
    ["Created", when(task.created_at)],
    ["Started", when(from)],
    ["Last change", isFinal(task) ? null : when(task.updated_at)],
    ["Ended", when(to)],
    ["Took", from && to && duration(Date.parse(to) - Date.parse(from))],
    ["Learning path", task.learning_path_id],
    ["User", task.user_id],
    ["Result", task.result_message, "text"],
    ["Error", task.error_details, "code"],
  ];
}

/** A list entry: the bar, and details that open by a click anywhere on it. */
class Card {
  asked = 0;
  #described = "";

  constructor(bar = new TaskProgress()) {
    this.bar = bar;
    this.time = make("time");
    this.summary = make("summary", {}, make("span", { textContent: "Details" }), this.time);
    this.list = make("dl");
    this.details = /** @type {HTMLDetailsElement} */ (make("details", {}, this.summary, this.list));
    this.item = make("li", { className: "task" }, bar, this.details);
    this.item.addEventListener("click", ({ target }) => {
      if (!this.details.contains(/** @type {Node} */ (target)) && getSelection()?.isCollapsed) this.summary.click();
    });
    this.details.addEventListener("toggle", () => this.#describe());
    bar.addEventListener("progress", () => this.show());
    this.details.hidden = true;
  }

  /** What the bar shows. @returns {Task} */
  get task() {
    return /** @type {Task} */ (this.bar.task);
  }

  show() {
    this.details.hidden = false;
    this.item.dataset.taskId = this.task.task_id;
    this.time.textContent = when(this.task.created_at, "short");
    this.summary.ariaLabel = `Details of ${title(this.task)}, ${this.time.textContent}`;
    this.#describe();
  }

  #describe() {
    if (!this.details.open) return;
    const rows = facts(this.task).filter(([, value]) => value !== null && value !== "");
    const key = JSON.stringify(rows);
    if (this.#described === key) return; // a selection in the text stays
    this.#described = key;
    this.list.replaceChildren(
      ...rows.flatMap(([name, value, className = ""]) => [
        make("dt", { textContent: name }),
        make("dd", { textContent: String(value), className, tabIndex: className === "code" ? 0 : -1 }),
      ]),
    );
  }
}

// All tasks.

/** @type {Map<string, Card>} By task id. */
const cards = new Map();
/** @type {(() => void) | undefined} */
let unfollow;
/** @type {string | undefined} */
let older = API; // the page of the list that comes next
let moment = 0;

/** @param {Task} task */
const isWaiting = ({ status }) => status === "pending" || status === "queued";

/** What moves first, then newest first as the API orders them. @param {Task} a @param {Task} b */
const inOrder = (a, b) =>
  Number(isWaiting(a)) - Number(isWaiting(b)) || Date.parse(b.created_at) - Date.parse(a.created_at) || b.id - a.id;

/** What was asked for before the stream brought something newer is old. @param {Task} task @param {number} [asked] */
function take(task, asked = ++moment) {
  const card = cards.get(task.task_id) ?? new Card();
  if (asked < card.asked) return;
  cards.set(task.task_id, card);
  card.asked = asked;
  card.bar.task = task;
  card.show();
  place(card);
}

/** Put a card where it belongs. @param {Card} card */
function place({ item, task }) {
  const list = find(isFinal(task) ? "#history ul" : "#active ul");
  const next = [...list.children].find((other) => other !== item && inOrder(taskOf(other), task) > 0) ?? null;
  if (item.parentNode !== list || item.nextElementSibling !== next) {
    const focused = /** @type {HTMLElement} */ (document.activeElement);
    list.insertBefore(item, next);
    if (item.contains(focused)) focused.focus();
  }
  sift();
}

/** @param {Element} item */
const taskOf = (item) => /** @type {Card} */ (cards.get(/** @type {HTMLElement} */ (item).dataset.taskId ?? "")).task;

/** Show what the filter lets through. */
function sift() {
  const wanted = /** @type {HTMLInputElement} */ (find("#filter :checked")).value;
  let [active, seen] = [0, 0];
  for (const { item, task } of cards.values()) {
    const kind = isFinal(task) ? (task.status === "completed" ? "completed" : "failed") : "active";
    item.hidden = wanted !== "all" && wanted !== kind;
    active += Number(kind === "active");
    seen += Number(!item.hidden);
  }
  for (const name of ["#active", "#history"]) {
    find(name).hidden = !find(`${name} li:not([hidden])`) && !(name === "#history" && older);
  }
  find("#older").hidden = !older;
  find("#empty").hidden = cards.size > 0;
  find("#filter").hidden = !cards.size;
  find("#nothing").hidden = seen > 0 || !cards.size;
  document.title = active ? `(${active}) Tasks` : "Tasks";
}

/** Bring a page of the list. @param {string} url */
async function load(url) {
  const token = sessionStorage.getItem(TOKEN);
  const asked = ++moment;
  const response = await fetch(url, token ? { headers: { Authorization: credentials(token) } } : {});
  if (!response.ok) return;
  const tasks = await response.json();
  if (sessionStorage.getItem(TOKEN) !== token) return; // signed out meanwhile
  if (url === older) older = /<([^>]*)>;\s*rel="next"/.exec(response.headers.get("Link") ?? "")?.[1];
  for (const task of tasks) take(task, asked);
  find("#tasks").hidden = false;
  sift();
}

/** @param {Connection} state */
function connected(state) {
  Object.assign(find("#connection"), { textContent: CONNECTIONS[state] }).dataset.state = state;
  // Not before there is a connection: what changes between the list and the stream's first frame would be missed.
  if (state !== "lost") load(API).catch(() => {}); // the next connection brings it
}

// Signing in and out.

function start() {
  const token = sessionStorage.getItem(TOKEN);
  find("#sign-in").hidden = true;
  find("#sign-out").hidden = !token;
  find("#user").textContent = token ? subject(token) : (USER ?? "");
  find("#connection").textContent = "Connecting…";
  unfollow = follow(API, {
    token: () => sessionStorage.getItem(TOKEN),
    onsnapshot: (task) => take(task),
    oncancelling: ({ task_id: id, requested_at: since }) => {
      const card = cards.get(id);
      if (card) card.bar.cancelling = since;
    },
    onconnection: connected,
    onerror: ({ status, message }) => stop(token && status === 401 ? REFUSED : message),
  });
}

/** @param {string} [reason] Why, if it was not wanted. */
function stop(reason = "") {
  unfollow?.();
  unfollow = undefined;
  older = API;
  sessionStorage.removeItem(TOKEN);
  cards.clear();
  for (const list of document.querySelectorAll("#tasks ul")) list.replaceChildren();
  for (const name of ["#tasks", "#sign-out"]) find(name).hidden = true;
  find("#connection").textContent = "";
  document.title = "Tasks";
  find("#sign-in").hidden = false;
  find("#refusal").textContent = reason;
  find("#token").focus();
}

/** Take the token out of `#token=…`: it must not stay in the address bar, the history or a bookmark. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return false;
  history.replaceState(null, "", location.pathname + location.search);
  if (unfollow) stop();
  sessionStorage.setItem(TOKEN, token.trim());
  return true;
}

find("#sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (find("#token"));
  sessionStorage.setItem(TOKEN, field.value.trim());
  field.value = "";
  start();
});
find("#sign-out").addEventListener("click", () => stop());
find("#filter").addEventListener("change", sift);
find("#older").addEventListener("click", () => older && load(older).catch(() => {}));
find("#lookup").addEventListener("submit", (event) => {
  event.preventDefault();
  const bar = new TaskProgress();
  const taskId = /** @type {HTMLInputElement} */ (find("#task-id")).value.trim();
  bar.src = new URL(`../${encodeURIComponent(taskId)}`, new URL(API, location.href)).href;
  bar.token = () => sessionStorage.getItem(TOKEN);
  find("#found").replaceChildren(new Card(bar).item);
});
addEventListener("hashchange", () => takeToken() && start());

if (takeToken() || sessionStorage.getItem(TOKEN) || USER) start();
else stop();
