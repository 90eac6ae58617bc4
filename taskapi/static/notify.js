/** A notification at the end, for who is looking elsewhere. */

import { make } from "./element.js";
import { put } from "./extras.js";
import { ENGLISH, isFinal } from "./texts.js";

Object.assign(ENGLISH, {
  notify: "Tell me when it ends",
  notifyBlocked: "Your browser lets this page send no notifications.",
});

/** @param {HTMLElement} element @param {string} part */
const textOf = (element, part) => element.shadowRoot?.querySelector(`[part=${part}]`)?.textContent ?? "";

/** @type {Extra} */
export const extra = (element, say, { actions, below }) => {
  const button = make("button", "notify");
  const refusal = make("p", "refusal");
  actions.append(button);
  below.append(refusal);
  let hasAsked = false;

  const show = () => {
    const isWanted = element.hasAttribute("notify") && element.task && !isFinal(element.task);
    const permission = globalThis.Notification?.permission ?? "denied"; // there is none on plain HTTP
    button.hidden = !isWanted || permission !== "default";
    refusal.hidden = !isWanted || permission !== "denied" || !hasAsked;
    put(button, say("notify"));
    put(refusal, say("notifyBlocked"));
  };

  button.onclick = async () => {
    hasAsked = true;
    await Notification.requestPermission();
    show();
  };
  element.addEventListener("done", () => {
    const isAllowed = globalThis.Notification?.permission === "granted";
    if (!isAllowed || !document.hidden || !element.hasAttribute("notify")) return;
    const [title, ...body] = ["label", "stage", "message"].map((part) => textOf(element, part));
    try {
      const notification = new Notification(title, { body: body.filter(Boolean).join("\n"), tag: element.src });
      notification.onclick = () => focus();
    } catch {
      // on a phone, only a service worker may
    }
  });
  return show;
};
