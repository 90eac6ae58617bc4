/** How long each kind of task waits and takes: half of them, and nine in ten; and how many of them fail. */

import { make, put } from "../dom.js";
import { say, spoken } from "../texts.js";
import { addressOf } from "./address.js";
import { replace } from "./rows.js";
import { length, number, percent } from "./words.js";

/** @import { Kind, Quantiles } from "./overview.js" */

const SHOWN = 20;

/** @param {string} text @param {string} name Of its column, where there is no row of names. @param {Node[]} children */
function cell(text, name, className = "", ...children) {
  const node = make("td", { className }, make("span", { textContent: text }), ...children);
  node.role = "cell";
  node.dataset.name = name;
  return node;
}

/** As bars: half of them, and nine in ten. @param {Quantiles} seconds @param {number} most */
function bars(seconds, most) {
  const node = make("span", { className: "quantiles" });
  node.style.setProperty("--p50", String((seconds?.p50 ?? 0) / most));
  node.style.setProperty("--p90", String((seconds?.p90 ?? 0) / most));
  return node;
}

/** @param {string} textContent */
const aside = (textContent) => make("small", { textContent });

/** @param {string} key @param {Quantiles} seconds @param {Node[]} children */
const times = (key, seconds, ...children) =>
  seconds
    ? cell(length(seconds.p50), say(key), "", aside(say("nineInTen", { p90: length(seconds.p90) })), ...children)
    : cell("–", say(key), "none");

/** @param {Kind} kind */
const failed = ({ failed: count, sample }) =>
  sample
    ? cell(percent(count / sample), say("failed"), count ? "" : "none", aside(say("failedOf", { failed: count, sample })))
    : cell("–", say("failed"), "none");

/** @param {Kind} kind @param {number} most */
function row(kind, most) {
  const name = kind.kind ?? say("noKind");
  const link = kind.kind
    ? make("a", { href: addressOf({ kind: kind.kind }), textContent: name, dir: "auto" })
    : make("span", { textContent: name });
  const head = make("th", { scope: "row" }, link);
  head.role = "rowheader";
  const node = make(
    "tr",
    {},
    head,
    cell(number(kind.running), say("running"), kind.running ? "" : "none"),
    cell(number(kind.waiting), say("waiting"), kind.waiting ? "" : "none"),
    failed(kind),
    times("waits", kind.wait_seconds),
    times("takes", kind.run_seconds, bars(kind.run_seconds, most)),
  );
  node.role = "row";
  return node;
}

/** @param {string[]} names */
function heads(names) {
  const cells = names.map((name) => {
    const node = make("th", { scope: "col", textContent: name });
    node.role = "columnheader";
    return node;
  });
  const node = make("tr", {}, ...cells);
  node.role = "row";
  return node;
}

/** What is most used first. @param {Kind} a @param {Kind} b */
const inOrder = (a, b) =>
  b.running + b.waiting - (a.running + a.waiting) || b.sample - a.sample || (a.kind ?? "").localeCompare(b.kind ?? "");

export class KindsPart {
  #title = make("h2", { id: "kinds-title" });
  #head = make("thead");
  #body = make("tbody");
  #hint = make("p", { className: "hint" });
  #shown = "";
  node = make("section", { className: "kinds" }, this.#title);

  constructor() {
    const table = make("table", {}, this.#head, this.#body);
    // Where it is too narrow for a table, rows are shown as blocks: what they are is said nevertheless.
    table.role = "table";
    this.#head.role = this.#body.role = "rowgroup";
    table.setAttribute("aria-labelledby", this.#title.id);
    this.node.append(table, this.#hint);
  }

  /** @param {Kind[]} kinds */
  show(kinds) {
    this.node.hidden = !kinds.length;
    put(this.#title, say("kinds"));
    put(this.#hint, say("quantilesHint"));
    const most = Math.max(...kinds.map(({ run_seconds: seconds }) => seconds?.p90 ?? 0), 0.001);
    const shown = JSON.stringify([kinds, spoken()]);
    if (this.#shown === shown) return;
    this.#shown = shown;
    this.#head.replaceChildren(heads(["kind", "running", "waiting", "failed", "waits", "takes"].map((key) => say(key))));
    replace(this.#body, [...kinds].sort(inOrder).slice(0, SHOWN).map((kind) => row(kind, most)));
  }
}
