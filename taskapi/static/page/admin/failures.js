/** What failed in the last day and why, the most frequent reason first; each leads to its tasks. */

import { format } from "../../texts.js";
import { make, put } from "../dom.js";
import { say, spoken } from "../texts.js";
import { ago } from "../times.js";
import { addressOf } from "./address.js";

/** @import { Failures, Reason } from "./overview.js" */

const SHOWN = 8;
const OWN = "…"; // in place of what is each failure's own

/** What all of its messages have in common, as far as one text can say it. @param {string} reason */
const common = (reason) =>
  reason
    .split(OWN)
    .map((part) => part.trim())
    .reduce((longest, part) => (part.length > longest.length ? part : longest), "");

/** @param {Reason} reason */
const wishesOf = ({ kind, reason }) => ({ status: "failed", kind: kind ?? "", q: common(reason) });

/** @param {Reason} reason @param {number} most */
function row({ kind, reason, count, first_at: first, last_at: last, ...rest }, most) {
  const share = make("span", { className: "share" });
  share.style.setProperty("--share", String(count / most));
  const link = make("a", { href: addressOf(wishesOf({ kind, reason, count, first_at: first, last_at: last, ...rest })) });
  link.append(
    make("strong", { textContent: format(Intl.NumberFormat, spoken()).format(count) }),
    make("span", { className: "reason", textContent: reason || say("noReason"), dir: "auto" }),
    make("small", { className: "kind", textContent: kind ?? say("noKind"), dir: "auto" }),
    make("small", { className: "when", textContent: say("lastFailure", { last: ago(last), first: ago(first) }) }),
    share,
  );
  return make("li", {}, link);
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
  show({ count, sample, reasons }) {
    put(this.#title, say("reasons"));
    put(this.#note, count ? (sample < count ? say("ofSample", { sample, count }) : "") : say("noneFailed"));
    this.#note.hidden = !this.#note.textContent;
    const rows = reasons.slice(0, SHOWN).map((reason) => row(reason, reasons[0].count));
    const shown = rows.map(({ outerHTML: html }) => html).join("");
    if (this.#shown === shown) return; // what is focused stays
    this.#shown = shown;
    this.#list.replaceChildren(...rows);
  }
}
