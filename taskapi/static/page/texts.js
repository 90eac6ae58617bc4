/** The page's sentences, in the reader's language. `TaskProgress.messages` says any of them otherwise. */

import { TaskProgress } from "../element.js";
import { ENGLISH as OF_BARS, fill, words } from "../texts.js";
import { find } from "./dom.js";

/** What scripts say; the rest stands in the page itself, as `data-say` names it. @type {Messages} */
export const ENGLISH = {
  connecting: "Connecting…",
  live: "Live",
  polling: "Updating every few seconds",
  tokenRefused: "This token was not accepted: it is mistaken or has expired. Please paste a new one.",
  titleOfPath: "{title} · path {path}",
  showDetails: "Details",
  detailsOf: "Details of {title}, {time}",
  linkOf: "{title}, {time}: link to this task",
  now: "just now",
  showOlder: "Show older",
  tryAgain: "Try again",
  loadingOlder: "Loading…",
  listFailed: "These tasks could not be loaded: {reason}",
  unreachable: "the server did not answer.",
  titleActive: "({count}) {title}",
};

const LANGUAGES = {
  ar: () => import("./languages/ar.js"),
  de: () => import("./languages/de.js"),
  es: () => import("./languages/es.js"),
  fr: () => import("./languages/fr.js"),
  ja: () => import("./languages/ja.js"),
};
const RIGHT_TO_LEFT = ["ar"];
const ATTRIBUTES = { say: "textContent", sayLabel: "ariaLabel", sayPlaceholder: "placeholder" };

let language = "en";
/** @type {Messages} */
let sentences = {};

/** The language that is spoken, for `Intl`. */
export const spoken = () => language;

/** @type {Say} */
export const say = (key, values = {}) => {
  const texts = [TaskProgress.messages, sentences, ENGLISH, OF_BARS].find((each) => each[key]);
  return fill(texts?.[key] ?? words(key), values, language);
};

/** As a browser writes it, or nothing. */
function canonical(tag = "") {
  try {
    return Intl.getCanonicalLocales(tag)[0] ?? "";
  } catch {
    return "";
  }
}

/** The first that we speak: `?lang=`, what the page was made in, unless that is English, what the browser prefers. */
function wanted() {
  const { lang } = document.documentElement;
  const made = /^en\b/.test(lang) ? "" : lang;
  const wishes = [new URLSearchParams(location.search).get("lang") ?? "", made, ...navigator.languages];
  return wishes.map(canonical).find((tag) => /^(ar|de|en|es|fr|ja)\b/.test(tag)) ?? "en";
}

/** Speak the reader's language. */
export async function speak() {
  const tag = wanted();
  const name = /** @type {keyof typeof LANGUAGES} */ (tag.split("-")[0]);
  Object.assign(document.documentElement, { lang: tag, dir: RIGHT_TO_LEFT.includes(name) ? "rtl" : "ltr" });
  language = tag;
  sentences = LANGUAGES[name] ? await sentencesOf(name) : {};
  translate(document);
  document.title = find("h1").textContent ?? "";
}

/** The page's, and those of its bars. @param {keyof typeof LANGUAGES} name */
async function sentencesOf(name) {
  const [{ default: ours }, { speechAt }] = await Promise.all([LANGUAGES[name](), import("../languages.js")]);
  return { ...(await speechAt(document.documentElement)).sentences, ...ours };
}

/** Learn the sentences of a part that came later. @param {typeof LANGUAGES} languages */
export async function learn(languages) {
  const load = languages[/** @type {keyof typeof LANGUAGES} */ (language.split("-")[0])];
  if (load) sentences = { ...sentences, ...(await load()).default };
}

/** What stands in the page. @param {ParentNode} part */
export function translate(part) {
  for (const [name, property] of Object.entries(ATTRIBUTES)) {
    const attribute = `data-${name.replace(/[A-Z]/, (letter) => `-${letter.toLowerCase()}`)}`;
    for (const node of part.querySelectorAll(`[${attribute}]`)) {
      const key = node.getAttribute(attribute) ?? "";
      const text = TaskProgress.messages[key] ?? sentences[key];
      if (text) Reflect.set(node, property, fill(text, {}, language));
    }
  }
}
