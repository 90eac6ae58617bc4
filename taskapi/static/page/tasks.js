/** The caller's tasks: what is going on over one stream, what has ended by pages. */

import { follow, isFinal } from "../task-progress.js";
import { format } from "../texts.js";
import { fragment, read, write } from "./address.js";
import { Card } from "./cards.js";
import { find, put } from "./dom.js";
import { Filters, listen, offer, show } from "./filters.js";
import { History } from "./history.js";
import { List } from "./list.js";
import { API, ask, nextOf, token } from "./session.js";
import { say, spoken } from "./texts.js";

const FRAME_MS = 16; // what comes within is shown together
const AGAIN_MS = 2_000;
const FIRST = 20; // of what has ended
const PAGES = 10; // of what has not, at most: as many as the stream begins with

/** @typedef {{task: Task, asked: number}} News */

/** @type {Map<string, Card>} By task id. */
const cards = new Map();
/** @type {Map<string, News>} */
const news = new Map();
/** @type {Map<string, number>} When a task was asked for, by its id: what was asked for earlier is old. */
const asked = new Map();
/** @type {Map<string, string>} What the server was asked about, in that state. */
const unwanted = new Map();
const running = new List(find("#active ul"));
const ended = new List(find("#history ul"));
const form = /** @type {HTMLFormElement} */ (find("#filter"));

let filters = new Filters();
let moment = 0;
let isLoaded = false;
/** @type {(() => void) | undefined} */
let unfollow;
/** @type {AbortController | undefined} */
let loading;
/** @type {number | undefined} */
let timer;
/** @type {number | undefined} */
let again;

const old = new History((tasks, when) => {
  for (const task of tasks) accept(task, when);
  arrange();
}, () => ++moment);

/** What a text may be found in, beside what never changes. @param {Task} task */
const stateOf = ({ status, stage, result_message: message }) => `${status} ${stage} ${message}`;

/** From the stream: to be shown soon, unless something newer comes. @param {Task} task */
function take(task) {
  const now = ++moment;
  asked.set(task.task_id, now);
  news.set(task.task_id, { task, asked: now });
  timer ??= setTimeout(flush, FRAME_MS);
}

function flush() {
  timer = undefined;
  for (const { task } of news.values()) hear(task);
  news.clear();
  arrange();
}

/** Of a task that is not shown, the stream may only say: ask again. @param {Task} task */
function hear(task) {
  if (!filters.let(task)) drop(task.task_id);
  else if (cards.has(task.task_id) || filters.areTold) place(task);
  else if (unwanted.get(task.task_id) !== stateOf(task)) {
    unwanted.set(task.task_id, stateOf(task));
    again ??= setTimeout(load, AGAIN_MS);
  }
}

/** From a list that was asked for: not what the stream has brought meanwhile. @param {Task} task @param {number} when */
function accept(task, when) {
  if (when < (asked.get(task.task_id) ?? 0)) return;
  asked.set(task.task_id, when);
  place(task);
}

/** @param {Task} task */
function place(task) {
  const card = cards.get(task.task_id) ?? new Card(task);
  cards.set(task.task_id, card);
  card.task = task;
  (isFinal(task) ? ended : running).put(card);
}

/** @param {string} id */
function drop(id) {
  const card = cards.get(id);
  cards.delete(id);
  card?.list?.remove(card);
}

/** Show what there is. */
function arrange() {
  for (const list of [running, ended]) list.sort();
  find("#tasks").hidden = !isLoaded && !cards.size && !find("#problem").textContent;
  put(find("#count"), format(Intl.NumberFormat, spoken()).format(running.size));
  find("#active").hidden = !running.size;
  find("#history").hidden = !ended.size && !old.hasOlder;
  find("#nothing").hidden = !isLoaded || cards.size > 0 || !filters.areSet;
  find("#empty").hidden = !isLoaded || cards.size > 0 || filters.areSet;
  form.hidden = !cards.size && !filters.areSet;
  find("#tasks").dispatchEvent(new CustomEvent("arranged", { bubbles: true, detail: [...cards.values()].map(({ task }) => task) }));
}

/** Ask the server which they are. */
async function load() {
  again = void clearTimeout(again);
  loading?.abort();
  const { signal } = (loading = new AbortController());
  const when = ++moment;
  find("#tasks").ariaBusy = "true";
  try {
    const [active, [past, next]] = await Promise.all([
      pages(filters.query(false), filters.areTold ? 1 : PAGES, signal),
      pages(filters.query(true, FIRST), 1, signal),
    ]);
    signal.throwIfAborted();
    const found = [...active[0], ...past];
    sift(new Set(found.map(({ task_id: id }) => id)), when);
    for (const task of found) accept(task, when);
    if (!isLoaded) old.begin(next);
    isLoaded = true;
    fail("");
  } catch (/** @type {any} */ { status, message }) {
    if (signal.aborted) return;
    fail(say("listFailed", { reason: status ? message : say("unreachable") }));
  }
  find("#tasks").ariaBusy = null;
  arrange();
}

/** So many pages of a list, and where it goes on. @param {string} query @param {AbortSignal} signal */
async function pages(query, most = 1, signal) {
  /** @type {Task[]} */
  const tasks = [];
  let next = query && API + query;
  for (let count = 0; next && count < most; count++) {
    const response = await ask(new URL(next, API).href, signal);
    tasks.push(...(await response.json()));
    next = nextOf(response);
  }
  return /** @type {const} */ ([tasks, next]);
}

/** Of what is shown, keep what was found, and what is known otherwise. @param {Set<string>} found @param {number} when */
function sift(found, when) {
  for (const [id, { task }] of cards) {
    const isKnown = isFinal(task) ? isLoaded : filters.areTold;
    if (!found.has(id) && !isKnown && (asked.get(id) ?? 0) < when) drop(id);
  }
}

/** Say what is wrong with the list. */
function fail(problem = "") {
  put(find("#problem"), problem);
  find("#again").hidden = !problem;
}

/** Ask for others. @param {Filters} others */
function choose(others) {
  filters = others;
  unwanted.clear();
  isLoaded = false;
  for (const [id, { task }] of cards) if (!filters.let(task)) drop(id);
  arrange();
  load();
}

/** @param {Connection} state */
function connected(state) {
  put(find("#connection"), say(state));
  find("#connection").dataset.state = state;
  // Not before there is a connection: what changes between the list and the stream's first frame would be missed.
  if (state !== "lost") load();
}

/** Show the tasks that the address asks for. @param {URLSearchParams} wishes @param {(problem: {status: number, message: string}) => void} refused */
export function open(wishes, refused) {
  const others = new Filters(wishes);
  /** @type {HTMLAnchorElement} */ (find("#back")).href = `#${fragment(others.wishes)}`;
  show(form, others.wishes);
  if (unfollow) return choose(others);
  filters = others;
  put(find("#connection"), say("connecting"));
  unfollow = follow(API, {
    token,
    whileHidden: () => running.size > 0, // the tab's title tells of them
    onsnapshot: take,
    oncancelling: ({ task_id: id, requested_at: since }) => {
      const card = cards.get(id);
      if (card) card.cancelling = since;
    },
    onconnection: connected,
    onerror: refused,
  });
}

/** Forget everything. */
export function close() {
  unfollow?.();
  unfollow = undefined;
  loading?.abort();
  for (const id of [timer, again]) clearTimeout(id);
  timer = again = undefined;
  isLoaded = false;
  for (const each of [cards, news, asked, unwanted, running, ended]) each.clear();
  old.begin("");
  fail("");
  put(find("#connection"), "");
  find("#tasks").hidden = true;
}

listen(form, (wishes, isStep) => {
  if (!unfollow) return; // typed, and gone elsewhere
  write(fragment(wishes), isStep);
  open(read(), () => {});
});
find("#again").addEventListener("click", load);
find("#clear").addEventListener("click", () => {
  form.reset();
  form.requestSubmit();
});
form.addEventListener("focusin", () => offer(new Set([...cards.values()].flatMap(({ task }) => kindOf(task) ?? []))));

/** As a made task id begins with it. @param {Task} task */
const kindOf = ({ task_id: id }) => /^(.*?[a-z].*?)_\d+_\d{8}/i.exec(id)?.[1];
