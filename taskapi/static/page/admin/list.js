/** Everybody's tasks, page by page. Those that go on can be chosen, and stopped together. */

import { isFinal } from "../../task-progress.js";
import { Card } from "../cards.js";
import { make, put } from "../dom.js";
import { List, newestFirst } from "../list.js";
import { API, ask, linkOf } from "../session.js";
import { say } from "../texts.js";

/** @import { Filters } from "../filters.js" */

const LIMIT = 50;
const ALL = new URL("..", API).href.slice(0, -1);

/** A card that says whose task it is, and can be chosen while the task goes on. */
class Row extends Card {
  #pick = make("input", { type: "checkbox" });
  #label = make("label", { className: "pick" }, this.#pick);

  get isChosen() { return this.#pick.checked && this.canBeChosen; }
  set isChosen(isChosen) { this.#pick.checked = isChosen; }

  get canBeChosen() { return !isFinal(this.task); }

  get label() { return say("ofUser", { title: super.label, user: String(this.task.user_id) }); }

  furnish() {
    super.furnish();
    this.item.prepend(this.#label);
    this.show();
  }

  show() {
    super.show();
    this.#label.hidden = !this.canBeChosen;
    this.#pick.ariaLabel = say("choose", { title: this.label });
  }
}

export class Everyones {
  /** @type {Map<string, Row>} By task id. */
  #rows = new Map();
  #query = "";
  /** @type {Record<"prev" | "next", string>} */
  #pages = { prev: "", next: "" };
  #asked = 0;
  #list = make("ul", { className: "everyones" });
  #cards = new List(this.#list, newestFirst);
  #newer = make("button", { type: "button" });
  #older = make("button", { type: "button" });
  #nothing = make("p", { className: "hint", role: "status" });
  node = make("div", {}, this.#list, this.#nothing, make("div", { className: "pages" }, this.#newer, this.#older));

  /** @param {() => void} changed Called when what is chosen may have. @param {() => void} turned When another page is wanted. */
  constructor(changed, turned) {
    this.changed = changed;
    this.#list.addEventListener("change", changed);
    for (const [button, relation] of /** @type {const} */ ([[this.#newer, "prev"], [this.#older, "next"]])) {
      button.addEventListener("click", () => {
        this.#query = new URL(this.#pages[relation], ALL).search;
        this.choose(false);
        turned();
        this.node.closest("section")?.scrollIntoView({ block: "start" });
      });
    }
  }

  /** Those that go on. */
  get able() { return [...this.#rows.values()].filter((row) => row.canBeChosen); }
  get chosen() { return this.able.filter((row) => row.isChosen).map((row) => row.task.task_id); }

  /** All of them, or none. */
  choose(isChosen = true) {
    for (const row of this.#rows.values()) row.isChosen = isChosen;
    this.changed();
  }

  /** Begin with the first page of others. @param {Filters} filters */
  filter({ wishes, statuses }) {
    const query = `?${new URLSearchParams({ ...wishes, status: statuses.join(","), limit: String(LIMIT) })}`;
    if (query === this.#query) return;
    this.#query = query;
    this.choose(false);
  }

  /** @param {AbortSignal} signal */
  async load(signal) {
    const asked = ++this.#asked;
    const query = this.#query;
    const response = await ask(ALL + query, signal);
    const tasks = await response.json();
    if (asked !== this.#asked || query !== this.#query) return;
    this.#pages = { prev: linkOf(response, "prev"), next: linkOf(response, "next") };
    this.#show(tasks);
  }

  /** While some are chosen, none comes or goes under the hand. @param {Task[]} tasks */
  #show(tasks) {
    const isHeld = this.chosen.length > 0;
    const ids = new Set(tasks.map(({ task_id: id }) => id));
    for (const [id, row] of this.#rows) if (!isHeld && !ids.has(id)) this.#drop(id, row);
    for (const task of tasks) if (!isHeld || this.#rows.has(task.task_id)) this.#put(task);
    this.#cards.sort();
    put(this.#nothing, this.#rows.size ? "" : say("nothing"));
    put(this.#newer, say("newer"));
    put(this.#older, say("older"));
    this.#newer.hidden = !this.#pages.prev;
    this.#older.hidden = !this.#pages.next;
    this.changed();
  }

  /** @param {Task} task */
  #put(task) {
    const row = this.#rows.get(task.task_id) ?? new Row(task);
    this.#rows.set(task.task_id, row);
    row.task = task;
    this.#cards.put(row);
  }

  /** @param {string} id @param {Row} row */
  #drop(id, row) {
    this.#rows.delete(id);
    this.#cards.remove(row);
  }

  clear() {
    this.#asked++;
    this.#query = "";
    this.#rows.clear();
    this.#cards.clear();
    this.changed();
  }
}
