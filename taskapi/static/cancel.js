/** A button that asks, and then asks the task to stop. */

import { make } from "./element.js";
import { put } from "./extras.js";
import { requestsTo } from "./requests.js";
import { ENGLISH, isFinal } from "./texts.js";

Object.assign(ENGLISH, {
  cancel: "Cancel",
  cancelQuestion: "Stop this task?",
  cancelYes: "Stop it",
  cancelNo: "Let it go on",
  cancelTooLate: "This task has already ended.",
  cancelForbidden: "You may not stop this task.",
  cancelFailed: "It could not be stopped: {reason}",
});

/** What a refusal means here, by HTTP's status. @type {Record<number, string>} */
const REFUSALS = { 403: "cancelForbidden", 409: "cancelTooLate" };

/** What a cookie's host wants to see, as Flask-JWT-Extended and Flask-WTF read it. @returns {Record<string, string>} */
export function againstForgery(src = "") {
  const [, cookie] = /(?:^|; )csrf_access_token=([^;]*)/.exec(document.cookie) ?? [];
  const token = cookie ?? document.querySelector("meta[name=csrf-token]")?.getAttribute("content");
  const isOwn = new URL(src, document.baseURI).origin === location.origin;
  return token && isOwn ? { "X-CSRF-TOKEN": token } : {};
}

/** @type {Extra} */
export const extra = (element, say, { actions, below }) => {
  const [cancel, yes, no] = [make("button", "cancel"), make("button", "yes"), make("button", "no")];
  const asked = make("span", "asked");
  const question = make("div", "question", asked, yes, no);
  const refusal = make("p", "refusal");
  let problem = "";
  question.hidden = true;
  question.role = "group";
  refusal.role = "alert";
  actions.append(cancel);
  below.append(question, refusal);

  /** @param {boolean} isAsking */
  const ask = (isAsking) => {
    question.hidden = !isAsking;
    show();
    (isAsking ? no : cancel).focus();
  };
  const stop = async () => {
    ask(false);
    problem = "";
    try {
      const headers = { ...againstForgery(element.src), ...element.headers };
      await requestsTo(element.src, () => element.token).send("/cancel", { method: "POST", headers });
      if (element.task && !isFinal(element.task)) element.cancelling ??= new Date().toISOString();
    } catch (/** @type {any} */ { status, message }) {
      problem = say(REFUSALS[status] ?? "cancelFailed", { reason: message });
    }
    show();
  };
  const show = () => {
    const { task, src, cancelling } = element;
    const may = element.hasAttribute("cancel") && src && task && !isFinal(task) && !cancelling;
    if (!may) question.hidden = true;
    cancel.hidden = !may || !question.hidden;
    refusal.hidden = !problem;
    question.ariaLabel = say("cancelQuestion");
    put(cancel, say("cancel"));
    put(asked, say("cancelQuestion"));
    put(yes, say("cancelYes"));
    put(no, say("cancelNo"));
    put(refusal, problem);
  };

  cancel.onclick = () => ask(true);
  no.onclick = () => ask(false);
  yes.onclick = stop;
  question.onkeydown = ({ key }) => key === "Escape" && ask(false);
  return show;
};
