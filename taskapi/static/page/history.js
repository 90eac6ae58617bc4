/** What has ended, by pages of the API's list. */

import { find, put } from "./dom.js";
import { ask, nextOf } from "./session.js";
import { say } from "./texts.js";

const OLDER = 100; // at a time, after the first few

export class History {
  #next = "";
  #button = find("#older");
  #problem = find("#older-problem");

  /** @param {(tasks: Task[], when: number) => void} take What is done with a page. @param {() => number} now A clock. */
  constructor(take, now) {
    this.take = take;
    this.now = now;
    this.#button.addEventListener("click", () => this.#older());
  }

  /** Whether there is more. */
  get hasOlder() { return Boolean(this.#next); }

  /** Begin anew after a first page. @param {string} next */
  begin(next) {
    this.#next = next;
    this.#say("");
  }

  async #older() {
    const url = new URL(this.#next, location.href);
    const [was, when] = [this.#next, this.now()];
    url.searchParams.set("limit", String(OLDER));
    this.#button.ariaDisabled = "true";
    put(this.#button, say("loadingOlder"));
    try {
      const response = await ask(url.href);
      const tasks = await response.json();
      if (this.#next !== was) return; // another list meanwhile
      this.#next = nextOf(response);
      this.#say("");
      this.take(tasks, when);
    } catch (/** @type {any} */ { status, message }) {
      if (this.#next === was) this.#say(say("listFailed", { reason: status ? message : say("unreachable") }));
    }
  }

  #say(problem = "") {
    this.#button.ariaDisabled = null;
    put(this.#button, say(problem ? "tryAgain" : "showOlder"));
    put(this.#problem, problem);
    this.#button.hidden = !this.hasOlder;
  }
}
