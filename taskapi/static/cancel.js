/** A button that asks, and then asks the task to stop. */

import { make } from "./element.js";
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

/** What a cookie's host wants to see, as Flask-JWT-Extended and Flask-WTF name and read it. */
function forgeryToken() {
  const [, cookie] = /(?:^|; )csrf_access_token=([^;]*)/.exec(document.cookie) ?? [];
  const meta = document.querySelector("meta[name=csrf-token]")?.getAttribute("content");
  return cookie ?? meta ?? "";
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
      const headers = { "X-CSRF-TOKEN": forgeryToken(), ...element.headers };
      await requestsTo(element.src, () => element.token).send("/cancel", { method: "POST", headers });
      if (element.task && !isFinal(element.task)) element.cancelling ??= new Date().toISOString();
    } catch (/** @type {any} */ { status, message }) {
      problem = status === 409 ? say("cancelTooLate") : status === 403 ? say("cancelForbidden") : say("cancelFailed", { reason: message });
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
    [cancel.textContent, asked.textContent] = [say("cancel"), say("cancelQuestion")];
    [yes.textContent, no.textContent] = [say("cancelYes"), say("cancelNo")];
    if (refusal.textContent !== problem) refusal.textContent = problem; // else it would be read out again
  };

  cancel.onclick = () => ask(true);
  no.onclick = () => ask(false);
  yes.onclick = stop;
  question.onkeydown = ({ key }) => key === "Escape" && ask(false);
  return show;
};
