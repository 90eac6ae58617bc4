/** The languages that come with the element, beside English. */

const LANGUAGES = {
  ar: () => import("./languages/ar.js"),
  de: () => import("./languages/de.js"),
  es: () => import("./languages/es.js"),
  fr: () => import("./languages/fr.js"),
  ja: () => import("./languages/ja.js"),
};

/** That of the nearest `lang`. @param {Element} place */
function languageAt(place) {
  for (let at = place; at; at = /** @type {ShadowRoot} */ (at.getRootNode()).host) {
    const tag = at.closest("[lang]")?.getAttribute("lang") ?? "";
    if (/^[a-z]+([-_]\w+)*$/i.test(tag)) return tag.replaceAll("_", "-");
  }
  return "en";
}

/** The language of a place in the page, and its sentences where it has any. @param {Element} place */
export async function speechAt(place) {
  const language = languageAt(place);
  const load = LANGUAGES[/** @type {keyof typeof LANGUAGES} */ (language.split("-")[0])];
  return { language, sentences: load ? (await load()).default : {} };
}
