/** Which tasks are asked for: a form, the address, and the API's query say the same. */

import { isFinal } from "../task-progress.js";
import { find, make } from "./dom.js";

/** @import { Wishes } from "./address.js" */

/** The API's words for a choice of the form. @type {Record<string, string[]>} */
const STATUSES = {
  active: ["pending", "queued", "starting", "running"],
  completed: ["completed"],
  failed: ["failed", "timeout"],
  waiting: ["pending", "queued"],
  running: ["starting", "running"],
};
const ALL = [STATUSES.active, STATUSES.completed, STATUSES.failed].flat();
const NAMES = ["status", "kind", "learning_path_id", "q", "user_id"];
const TYPING_MS = 350;

export class Filters {
  /** @param {URLSearchParams} [wishes] What the address says. */
  constructor(wishes = new URLSearchParams()) {
    /** @type {Wishes} */
    this.wishes = {};
    for (const name of NAMES) {
      const value = wishes.get(name)?.trim();
      if (value) this.wishes[name] = value;
    }
    if (!(this.wishes.status in STATUSES)) delete this.wishes.status;
    this.statuses = STATUSES[this.wishes.status] ?? ALL;
  }

  /** Whether there are any. */
  get areSet() { return Object.keys(this.wishes).length > 0; }

  /** Whether a task tells by itself that it is wanted; of its kind, and where a text is found, only the server knows. */
  get areTold() { return !this.wishes.kind && !this.wishes.q; }

  /** Whether a task may be one of them. @param {Task} task */
  let({ status, learning_path_id: path, user_id: user }) {
    const { learning_path_id: wantedPath, user_id: wantedUser } = this.wishes;
    const isOfPath = !wantedPath || Number(wantedPath) === path;
    return this.statuses.includes(status) && isOfPath && (!wantedUser || Number(wantedUser) === user);
  }

  /** The query of those that have ended, or have not; nothing where none of them is wanted. */
  query(isEnded = false, limit = 100) {
    const statuses = this.statuses.filter((status) => isFinal(/** @type {Task} */ ({ status })) === isEnded);
    if (!statuses.length) return "";
    return `?${new URLSearchParams({ ...this.wishes, status: statuses.join(","), limit: String(limit) })}`;
  }
}

/** Fill a form in. @param {HTMLFormElement} form @param {Wishes} wishes */
export function show(form, wishes) {
  for (const field of /** @type {NodeListOf<HTMLInputElement>} */ (form.querySelectorAll("input"))) {
    const value = wishes[field.name] ?? "";
    if (field.type === "radio") field.checked = field.value === value;
    else if (field !== document.activeElement || !value) field.value = value;
  }
  const more = form.querySelector("details");
  if (more && (wishes.kind || wishes.learning_path_id || wishes.user_id)) more.open = true;
}

/**
 * Tell what a form says once it says something else: at once where it was chosen, after a moment where it is typed.
 *
 * @param {HTMLFormElement} form @param {(wishes: Wishes, isStep: boolean) => void} tell
 */
export function listen(form, tell) {
  /** @type {number | undefined} */
  let timer;
  const wishes = () => /** @type {Wishes} */ (Object.fromEntries(new FormData(form)));
  const say = (isStep = true) => {
    clearTimeout(timer);
    tell(wishes(), isStep);
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    say();
  });
  form.addEventListener("input", ({ target }) => {
    clearTimeout(timer);
    const { type } = /** @type {HTMLInputElement} */ (target);
    timer = setTimeout(say, type === "radio" ? 0 : TYPING_MS, type === "radio");
  });
}

/** Offer kinds to choose from. @param {Iterable<string>} kinds */
export function offer(kinds) {
  find("#kinds").replaceChildren(...[...kinds].sort().map((value) => make("option", { value })));
}
