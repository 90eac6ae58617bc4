/** What the list is asked for, as a form. */

import { make } from "../dom.js";
import { say } from "../texts.js";

/** @import { Kind } from "./overview.js" */

const KINDS = "everyones-kinds";
/** What is said of each of the statuses that `Filters` knows. */
const STATUSES = { "": "all", running: "running", waiting: "waiting", completed: "completed", failed: "failed" };

/** @param {string} value @param {string} key */
const choice = (value, key) =>
  make(
    "label",
    {},
    make("input", { type: "radio", name: "status", value, defaultChecked: !value }),
    make("span", { textContent: say(key) }),
  );

/** @param {string} name @param {string} key @param {object} [properties] */
const field = (name, key, properties) =>
  make(
    "label",
    {},
    make("span", { textContent: say(key) }),
    make("input", { name, autocomplete: "off", autocapitalize: "off", spellcheck: false, ...properties }),
  );

export function formOf() {
  const choices = Object.entries(STATUSES).map(([value, key]) => choice(value, key));
  const legend = make("legend", { className: "unseen", textContent: say("show") });
  const kind = field("kind", "kind");
  kind.querySelector("input")?.setAttribute("list", KINDS);
  const form = make(
    "form",
    { className: "asked" },
    make("fieldset", { className: "choice" }, legend, ...choices),
    make(
      "div",
      { className: "row" },
      kind,
      field("user_id", "user", { inputMode: "numeric", className: "number" }),
      field("learning_path_id", "learningPath", { inputMode: "numeric", className: "number" }),
      field("q", "search", { type: "search", maxLength: 255 }),
    ),
    make("datalist", { id: KINDS }),
  );
  form.role = "search";
  return form;
}

/** Offer kinds to choose from. @param {HTMLFormElement} form @param {Kind[]} kinds */
export function offer(form, kinds) {
  const names = kinds.flatMap(({ kind }) => kind ?? []);
  const list = /** @type {HTMLElement} */ (form.querySelector("datalist"));
  if (list.childElementCount === names.length) return;
  list.replaceChildren(...names.map((value) => make("option", { value })));
}
