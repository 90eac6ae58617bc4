/** Who is signed in: by a token that stays in this tab, or by a cookie of the application's. */

import { requestsTo, subject } from "../requests.js";

const TOKEN = "taskapi.token";
const { api = "/api/tasks/users/me", user: named } = document.body.dataset;

/** Of the caller's tasks. */
export const API = new URL(api, location.href).href;

export const token = () => sessionStorage.getItem(TOKEN);
export const isSignedIn = () => Boolean(token() || named);
/** The user's id. */
export const user = () => (token() ? subject(token()) : (named ?? ""));

/** @param {string} text */
export const signIn = (text) => sessionStorage.setItem(TOKEN, text);
export const signOut = () => sessionStorage.removeItem(TOKEN);

/** @param {string} taskId */
export const urlOf = (taskId) => new URL(`../${encodeURIComponent(taskId)}`, API).href;

/**
 * Ask the API, which tells administrators that there are more tasks than theirs. Throws what is refused, as an `Error`
 * with HTTP's `status`.
 *
 * @param {string} url @param {AbortSignal} [signal]
 */
export async function ask(url, signal) {
  const response = await requestsTo(url, token, signal).send("", {});
  if (linkOf(response, "collection")) document.dispatchEvent(new Event("administrator"));
  return response;
}

/** What an answer says where something is. @param {Response} response @param {string} relation @returns {string} */
export const linkOf = ({ headers }, relation) =>
  new RegExp(`<([^>]*)>;\\s*rel="${relation}"`).exec(headers.get("Link") ?? "")?.[1] ?? "";

/** Where a list goes on. @param {Response} response */
export const nextOf = (response) => linkOf(response, "next");
