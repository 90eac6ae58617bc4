/** All that is known of a task, as a list of facts. */

import { duration, isFinal, words } from "../task-progress.js";
import { format, statusOf } from "../texts.js";
import { make } from "./dom.js";
import { ENGLISH, say, spoken } from "./texts.js";
import { timeOf } from "./times.js";

const COPIED_MS = 2_000;

Object.assign(ENGLISH, {
  taskId: "Task id",
  status: "Status",
  stage: "Stage",
  items: "Items",
  created: "Created",
  started: "Started",
  changed: "Last change",
  ended: "Ended",
  took: "Took",
  learningPath: "Learning path",
  user: "User",
  result: "Result",
  error: "Error",
  copyId: "Copy id",
  copyLink: "Copy link",
  copied: "Copied",
  copyFailed: "Your browser did not let this page copy.",
});

/** Copies a text, and says so. @param {string} key @param {() => string} text */
function copyButton(key, text) {
  const button = make("button", { type: "button", className: "small", textContent: say(key) });
  button.addEventListener("click", async () => {
    button.textContent = await navigator.clipboard.writeText(text()).then(
      () => say("copied"),
      () => say("copyFailed"), // not on a page that came by plain HTTP
    );
    setTimeout(() => (button.textContent = say(key)), COPIED_MS);
  });
  return button;
}

/** @param {string} id */
const linkTo = (id) => new URL(`#${new URLSearchParams({ task: id })}`, location.href).href;

/** @param {string} id */
const idOf = (id) => [
  make("span", { textContent: id }),
  make(
    "span",
    { className: "buttons" },
    copyButton("copyId", () => id),
    copyButton("copyLink", () => linkTo(id)),
  ),
];

/** @param {Task} task */
function itemsOf({ completed_items: completed, total_items: total }) {
  if (total) return say("count", { completed: completed ?? 0, total });
  return completed ? format(Intl.NumberFormat, spoken()).format(completed) : "";
}

/** A fact: its name, what is said of it, and how that looks. @param {Task} task */
function factsOf(task) {
  const { started_at: from, ended_at: to } = task;
  return /** @type {[name: string, value: string | number | null | Node | Node[], className?: string][]} */ ([
    ["taskId", idOf(task.task_id), "id"],
    ["status", say(statusOf(task, null))],
    ["stage", task.stage && words(task.stage)],
    ["items", itemsOf(task)],
    ["created", timeOf(task.created_at)],
    ["started", from && timeOf(from)],
    ["changed", isFinal(task) ? null : timeOf(task.updated_at)],
    ["ended", to && timeOf(to)],
    ["took", from && to && duration(Date.parse(to) - Date.parse(from), spoken())],
    ["learningPath", task.learning_path_id],
    ["user", task.user_id],
    ["result", task.result_message, "text"],
    ["error", task.error_details, "code"],
  ]);
}

/** @param {string | number | Node | Node[]} value */
const nodesOf = (value) => (Array.isArray(value) ? value : [value instanceof Node ? value : String(value)]);

/** @type {WeakMap<Element, string>} */
const described = new WeakMap();

/** Put the facts into a part of the page; where nothing changed, a selection stays. @param {Task} task @param {Element} part */
export function describe(task, part) {
  const key = JSON.stringify(task);
  if (described.get(part) === key) return;
  described.set(part, key);
  const facts = factsOf(task).filter(([, value]) => value !== null && value !== "");
  const list = make("dl");
  for (const [name, value, className = ""] of facts) {
    const fact = make("dd", { className });
    fact.append(...nodesOf(/** @type {any} */ (value)));
    if (className === "code") fact.tabIndex = 0;
    list.append(make("dt", { textContent: say(name) }), fact);
  }
  part.querySelector("dl")?.remove();
  part.append(list);
}
