/** What stops the tasks that are chosen, after a question. */

import { againstForgery } from "../../cancel.js";
import { requestsTo } from "../../requests.js";
import { make, put } from "../dom.js";
import { API, token } from "../session.js";
import { say } from "../texts.js";

/** @import { Everyones } from "./list.js" */

const CANCEL = new URL("../cancel", API).href;
const OUTCOMES = /** @type {const} */ (["accepted", "ended", "unknown"]);

/** @param {string[]} ids @returns {Promise<{task_id: string, outcome: string}[]>} */
async function stop(ids) {
  const headers = { "Content-Type": "application/json", ...againstForgery(CANCEL) };
  const answer = await requestsTo(CANCEL, token).send("", { method: "POST", headers, body: JSON.stringify(ids) });
  return answer.json();
}

export class CancelPart {
  #all = make("input", { type: "checkbox" });
  #allName = make("span");
  #cancel = make("button", { type: "button" });
  #asked = make("span");
  #yes = make("button", { type: "button", className: "primary" });
  #no = make("button", { type: "button" });
  #question = make("div", { className: "question", hidden: true }, this.#asked, this.#yes, this.#no);
  #outcome = make("p", { className: "hint" });
  #tools = make("div", { className: "tools" }, make("label", {}, this.#all, this.#allName), this.#cancel, this.#question);
  node = make("div", { className: "chosen" }, this.#tools, this.#outcome);

  /** @param {() => Everyones} list @param {() => void} stopped Called when some may have been. */
  constructor(list, stopped) {
    this.list = list;
    this.stopped = stopped;
    this.#question.role = "group";
    this.#outcome.role = "status";
    this.#all.addEventListener("change", () => list().choose(this.#all.checked));
    this.#cancel.addEventListener("click", () => this.#ask(true));
    this.#no.addEventListener("click", () => this.#ask(false));
    this.#yes.addEventListener("click", () => this.#stop());
    this.#question.addEventListener("keydown", ({ key }) => key === "Escape" && this.#ask(false));
  }

  show() {
    const { able, chosen } = this.list();
    const count = chosen.length;
    this.#tools.hidden = !able.length;
    this.#all.checked = count > 0 && count === able.length;
    this.#all.indeterminate = count > 0 && count < able.length;
    if (!count) this.#question.hidden = true;
    this.#cancel.hidden = !count || !this.#question.hidden;
    put(this.#allName, say("chooseAll"));
    put(this.#cancel, say("cancelChosen", { count }));
    put(this.#asked, say("cancelChosenQuestion", { count }));
    put(this.#yes, say("cancelChosenYes"));
    put(this.#no, say("cancelChosenNo"));
    this.#question.ariaLabel = this.#asked.textContent;
  }

  /** Say nothing any more of what was stopped. */
  clear() {
    put(this.#outcome, "");
  }

  #ask(isAsking = true) {
    this.#question.hidden = !isAsking;
    this.show();
    (isAsking ? this.#no : this.#cancel).focus();
  }

  async #stop() {
    const ids = this.list().chosen;
    this.#question.hidden = true;
    try {
      const told = await stop(ids);
      const counts = OUTCOMES.map((name) => [name, told.filter(({ outcome }) => outcome === name).length]);
      put(this.#outcome, say("cancelledSo", Object.fromEntries(counts)));
      this.list().choose(false);
    } catch (/** @type {any} */ { status, message }) {
      put(this.#outcome, say("cancelFailed", { reason: status ? message : say("unreachable") }));
    }
    this.show();
    (this.#tools.hidden ? this.#outcome : this.#all).focus();
    this.stopped();
  }
}
