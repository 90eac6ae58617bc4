/** What is shown, in the URL's fragment: no server and no log sees it. A name without a value is a view. */

/** @typedef {Record<string, string>} Wishes */

const TOKEN = "token";

/** @returns {URLSearchParams} */
export const read = () => new URLSearchParams(location.hash.slice(1));

/** As a fragment; what is empty falls away, but for the view. @param {Wishes} wishes */
export function fragment(wishes, view = "") {
  const parts = Object.fromEntries(Object.entries(wishes).filter(([, value]) => value));
  const query = new URLSearchParams(parts).toString();
  return [view, query].filter(Boolean).join("&");
}

/** Say what is shown; `isStep` makes it one that the browser's Back undoes. @param {string} text */
export function write(text, isStep = true) {
  const url = location.pathname + location.search + (text && `#${text}`);
  history[isStep ? "pushState" : "replaceState"](null, "", url);
}

/** Take the token out of `#token=…`: it must not stay in the address bar, the history or a bookmark. */
export function takeToken() {
  const wishes = read();
  const token = wishes.get(TOKEN)?.trim();
  if (!wishes.has(TOKEN)) return "";
  wishes.delete(TOKEN);
  write(wishes.toString().replace(/=(?=&|$)/g, ""), false);
  return token ?? "";
}
