/** What failed in the last day and why, the most frequent reason first; each leads to its tasks. */

import { make, put } from "../dom.js";
import { say } from "../texts.js";
import { ago } from "../times.js";
import { addressOf } from "./address.js";
import { replace } from "./rows.js";
import { number } from "./words.js";

/** @import { Failures, Reason } from "./overview.js" */

const SHOWN = 6;
const FRESH_MS = 600_000; // it is still going on, or was a moment ago
const OWN = "…"; // in place of what is each failure's own

/** What all of its messages have in common, as far as one text can say it. @param {string} reason */
const common = (reason) =>
  reason
    .split(OWN)
    .map((part) => part.trim())
    .reduce((longest, part) => (part.length > longest.length ? part : longest), "");

/** @param {Reason} reason @param {number} most */
function row({ kind, reason, count, first_at: first, last_at: last }, most) {
  const link = make(
    "a",
    { href: addressOf({ status: "failed", kind: kind ?? "", q: common(reason) }) },
    make("strong", { textContent: number(count) }),
    make("span", { className: "reason", textContent: reason || say("noReason"), dir: "auto" }),
    make("small", { className: "kind", textContent: kind ?? say("noKind"), dir: "auto" }),
    make("span", { className: "last", textContent: ago(last) }),
    make("small", { className: "first", textContent: count > 1 ? say("firstFailure", { first: ago(first) }) : "" }),
  );
  link.style.setProperty("--share", String(count / most));
  link.classList.toggle("fresh", Date.now() - Date.parse(last) < FRESH_MS);
  return make("li", {}, link);
}

/** What the rows do not say. @param {Failures} failures */
function noteOf({ count, sample, reasons }) {
  if (!count) return say("noneFailed");
  const shown = reasons.slice(0, SHOWN).reduce((sum, reason) => sum + reason.count, 0);
  return [
    shown < sample ? say("otherReasons", { count: sample - shown }) : "",
    sample < count ? say("ofSample", { sample, count }) : "",
  ].join(" ").trim();
}

export class FailuresPart {
  #title = make("h2", { id: "reasons-title" });
  #list = make("ul", { className: "reasons" });
  #note = make("p", { className: "hint" });
  #shown = "";
  node = make("section", {}, this.#title, this.#list, this.#note);

  constructor() {
    this.node.setAttribute("aria-labelledby", this.#title.id);
  }

  /** @param {Failures} failures */
  show(failures) {
    const { reasons } = failures;
    put(this.#title, say("reasons"));
    put(this.#note, noteOf(failures));
    const rows = reasons.slice(0, SHOWN).map((reason) => row(reason, reasons[0].count));
    const shown = rows.map(({ outerHTML: html }) => html).join("");
    if (this.#shown === shown) return;
    this.#shown = shown;
    replace(this.#list, rows);
  }
}
