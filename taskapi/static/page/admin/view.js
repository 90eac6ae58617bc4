/** Everybody's tasks for whoever is on call: numbers, what fails and why, how long things take, and the list. */

import { fragment, write } from "../address.js";
import { find, make, put } from "../dom.js";
import { Filters, listen, show } from "../filters.js";
import { say } from "../texts.js";
import { NAME } from "./address.js";
import { CancelPart } from "./cancel.js";
import { FailuresPart } from "./failures.js";
import { formOf, offer } from "./form.js";
import { KindsPart } from "./kinds.js";
import { Everyones } from "./list.js";
import { Numbers } from "./numbers.js";
import { overview } from "./overview.js";
import { speak } from "./texts.js";

const EVERY_MS = 5_000;
const SHARE = 20; // what took long to answer is asked for again after so many times as long
const TITLE = "everyones-title";

await Promise.all([speak(), style()]).catch(() => {}); // the network was away: in English

const [numbers, failures, kinds] = [new Numbers(), new FailuresPart(), new KindsPart()];
const cancel = new CancelPart(() => list, refresh);
const list = new Everyones(() => cancel.show(), refresh);
const form = formOf();
const problem = make("p", { role: "alert" });
const content = make("div", {}, numbers.node, failures.node, kinds.node, section());
const place = find("#everyone");

/** @type {(problem: {status: number, message: string}) => void} */
let refuse = () => {};
/** @type {AbortController | undefined} */
let loading;
/** @type {number | undefined} */
let timer;
let isOpen = false;

/** Load how all this looks. */
function style() {
  const link = make("link", { rel: "stylesheet", href: new URL("./admin.css", import.meta.url).href });
  document.head.append(link);
  return new Promise((resolve) => (link.onload = link.onerror = resolve));
}

function section() {
  const title = make("h2", { id: TITLE, textContent: say("everyonesTasks") });
  const node = make("section", {}, title, form, cancel.node, list.node);
  node.setAttribute("aria-labelledby", TITLE);
  return node;
}

/** Ask for everything, now and from then on, while anybody can see it. */
async function refresh() {
  clearTimeout(timer);
  loading?.abort();
  if (!isOpen || document.hidden) return;
  const { signal } = (loading = new AbortController());
  const began = performance.now();
  try {
    const [[nowKinds, nowFailures]] = await Promise.all([overview(signal), list.load(signal)]);
    if (!signal.aborted) tell(nowKinds, nowFailures);
  } catch (/** @type {any} */ error) {
    if (!signal.aborted) fail(error);
  }
  if (!signal.aborted) timer = setTimeout(refresh, Math.max(EVERY_MS, SHARE * (performance.now() - began)));
}

/** @param {import("./overview.js").Kind[]} nowKinds @param {import("./overview.js").Failures} nowFailures */
function tell(nowKinds, nowFailures) {
  numbers.show(nowKinds, nowFailures);
  failures.show(nowFailures);
  kinds.show(nowKinds);
  offer(form, nowKinds);
  put(problem, "");
  content.hidden = false;
  connected("polling");
  document.dispatchEvent(new Event("administrator"));
}

/** What is shown stays, unless it is not for whoever asks. @param {{status?: number, message: string}} error */
function fail({ status, message }) {
  if (status === 401) return refuse({ status, message });
  if (status === 403) close();
  place.hidden = false;
  put(problem, status === 403 ? say("onlyAdministrators") : say("notCurrent", { reason: status ? message : say("unreachable") }));
  connected(status === 403 ? "" : "lost");
}

/** @param {"polling" | "lost" | ""} state */
function connected(state) {
  put(find("#connection"), state && say(state));
  find("#connection").dataset.state = state;
}

/** @param {Filters} filters */
function choose(filters) {
  list.filter(filters);
  cancel.clear();
  refresh();
}

/** Show everybody's tasks, in the list those that the address asks for. @param {URLSearchParams} wishes @param {typeof refuse} refused */
export function open(wishes, refused) {
  [isOpen, refuse] = [true, refused];
  const filters = new Filters(wishes);
  show(form, filters.wishes);
  place.hidden = false;
  document.dispatchEvent(new CustomEvent("arranged", { detail: [] }));
  choose(filters);
}

/** Ask for nothing any more, and show nothing. */
export function close() {
  isOpen = false;
  clearTimeout(timer);
  loading?.abort();
  put(problem, "");
  connected("");
  place.hidden = true;
  setTimeout(() => isOpen || forget()); // where other tasks of it are asked for, it is open again by then
}

function forget() {
  content.hidden = true;
  list.clear();
  kinds.show([]);
  failures.show({ hours: 0, count: 0, sample: 0, reasons: [] });
}

content.hidden = true;
place.append(problem, content);
listen(form, (wishes, isStep) => {
  write(fragment(wishes, NAME), isStep);
  choose(new Filters(new URLSearchParams(wishes)));
});
document.addEventListener("visibilitychange", refresh);
