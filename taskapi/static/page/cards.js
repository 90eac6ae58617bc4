/** List entries: each a bar, a link and details. Only what is near the window has them. */

import { isFinal, TaskProgress, title } from "../task-progress.js";
import { make } from "./dom.js";
import { token, urlOf } from "./session.js";
import { say } from "./texts.js";
import { timeOf } from "./times.js";

const NEAR = "800px";
const PLACE = "7rem"; // about as high as a card will be

/** @type {WeakMap<Element, Card>} */
const cards = new WeakMap();
const nearby = new IntersectionObserver(
  (seen) => {
    for (const { target, isIntersecting, boundingClientRect } of seen) {
      const card = /** @type {Card} */ (cards.get(target));
      if (isIntersecting) card.furnish();
      else if (target.isConnected) card.strip(boundingClientRect.height);
    }
  },
  { rootMargin: NEAR },
);

/** The kind and the learning path. @param {Task} task */
export function labelOf(task) {
  const name = title(task);
  return task.learning_path_id === null ? name : say("titleOfPath", { title: name, path: String(task.learning_path_id) });
}

/** A bar that is told what it shows, and asks for nothing but to cancel. @param {Task} task */
function barOf(task) {
  const bar = new TaskProgress();
  if (isFinal(task)) return bar;
  bar.src = urlOf(task.task_id);
  bar.token = token;
  bar.setAttribute("cancel", "");
  return bar;
}

/** Whether a click was meant for something inside. @param {Event} event */
const isTaken = (event) =>
  event.composedPath().some((node) => node instanceof Element && node.matches("a, button, label, summary, dl, details details"));

export class Card {
  /** @type {TaskProgress | undefined} */
  bar;
  /** @type {import("./list.js").List | undefined} Where it is. */
  list;
  /** When it was asked for, in a time that only counts. */
  asked = 0;
  /** @type {string | null} */
  #cancelling = null;
  #time = make("time");
  #link = make("a", { className: "when" }, this.#time);
  #summary = make("summary");
  details = make("details", {}, this.#summary);
  item = make("li", { className: "task" });
  #task;

  /** @param {Task} task */
  constructor(task) {
    this.#task = task;
    this.item.dataset.taskId = task.task_id;
    this.#link.href = `#${new URLSearchParams({ task: task.task_id })}`;
    cards.set(this.item, this);
    this.item.style.blockSize = PLACE;
    nearby.observe(this.item);
    this.item.addEventListener("click", (event) => {
      if (this.bar && !isTaken(event) && getSelection()?.isCollapsed) this.#summary.click();
    });
    this.details.addEventListener("toggle", () => this.#describe());
  }

  get task() { return this.#task; }
  set task(task) {
    this.#task = task;
    this.show();
  }

  /** Since when it is asked to stop. @param {string} since */
  set cancelling(since) {
    this.#cancelling = since;
    if (this.bar) this.bar.cancelling = since;
  }

  furnish() {
    if (this.bar) return;
    this.bar = barOf(this.#task);
    this.item.style.blockSize = "";
    this.item.append(this.bar, make("div", { className: "foot" }, this.details, this.#link));
    this.show();
    this.bar.cancelling = this.#cancelling;
    this.settle();
  }

  /** Leave the place empty, as high as it was; not what is being read. */
  strip(height = 0) {
    if (!this.bar || this.details.open || this.item.contains(document.activeElement)) return;
    this.item.style.blockSize = `${height}px`;
    this.item.replaceChildren();
    this.bar = undefined;
  }

  /** The page's stream brings its news. To be called whenever it was put into the page. */
  settle() {
    this.bar?.close();
  }

  get label() { return labelOf(this.#task); }

  show() {
    const { bar, task, label } = this;
    if (!bar) return;
    if (bar.label !== label) bar.label = label;
    bar.task = task;
    timeOf(task.created_at, this.#time);
    const values = { title: label, time: this.#time.textContent };
    this.#link.ariaLabel = say("linkOf", values);
    this.#summary.ariaLabel = say("detailsOf", values);
    this.#summary.textContent = say("showDetails");
    this.item.classList.toggle("ended", isFinal(task));
    this.#describe();
  }

  #describe() {
    if (this.details.open) import("./details.js").then(({ describe }) => describe(this.task, this.details));
  }
}
