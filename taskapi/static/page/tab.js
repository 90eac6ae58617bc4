/** What the tab says of the tasks: how many are going on, and how far they are while nobody looks. */

import { isFinal } from "../task-progress.js";
import { percent, share } from "../texts.js";
import { find } from "./dom.js";
import { say, spoken } from "./texts.js";

const icon = /** @type {HTMLLinkElement} */ (find("link[rel=icon]"));
const still = icon.href;
/** @type {Map<string, Task>} What was going on when the tab was hidden, and since. */
const watched = new Map();
/** @type {Task[]} */
let tasks = [];

/** @param {Task[]} all */
const active = (all) => all.filter((task) => !isFinal(task));

/** How far they are together, from 0 to 100. @param {Task[]} all */
const mean = (all) => all.reduce((sum, task) => sum + (isFinal(task) ? 100 : (share(task) ?? 0)), 0) / all.length;

/** A bar as the icon is, so far. @param {number} progress */
function drawn(progress, colour = "#3b62d6") {
  const bar = `<rect y='5' width='16' height='6' rx='3' fill='#a9b8e8'/>`;
  const done = `<rect y='5' width='${(progress * 16) / 100}' height='6' rx='3' fill='${colour}'/>`;
  const svg = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>${bar}${done}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

/** @param {Task[]} all */
function showHidden(all) {
  const name = find("h1").textContent;
  const hasFailed = all.some((task) => isFinal(task) && task.status !== "completed");
  const far = Math.floor(mean(all));
  const word = active(all).length ? percent(far, spoken()) : say(hasFailed ? "failed" : "completed");
  document.title = `${word} · ${name}`;
  icon.href = drawn(far, hasFailed ? "#c4302b" : far === 100 ? "#2a8550" : undefined);
}

function show() {
  for (const task of tasks) if (!isFinal(task) || watched.has(task.task_id)) watched.set(task.task_id, task);
  if (document.hidden && watched.size) return showHidden([...watched.values()]);
  const count = active(tasks).length;
  const title = find("h1").textContent ?? "";
  document.title = count ? say("titleActive", { count, title }) : title;
  if (icon.href !== still) icon.href = still;
}

/** @param {Task[]} all The tasks that are shown now. */
export function tell(all) {
  tasks = all;
  show();
}

document.addEventListener("visibilitychange", () => {
  watched.clear();
  show();
});
