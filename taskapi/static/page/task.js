/** One task, by a link that can be sent to somebody else; and what to say to who may not see it. */

import { isFinal, TaskProgress } from "../task-progress.js";
import { labelOf } from "./cards.js";
import { describe } from "./details.js";
import { find, put } from "./dom.js";
import { token, urlOf } from "./session.js";
import { ENGLISH, say } from "./texts.js";

Object.assign(ENGLISH, {
  notYours: "This task is somebody else’s. Ask whoever sent you the link, or sign in as somebody who may see it.",
  noSuchTask: "There is no such task. It may have been deleted since, or the link is not complete.",
});

/** What a refusal means here, by HTTP's status. @type {Record<number, string>} */
const REFUSALS = { 403: "notYours", 404: "noSuchTask" };

/** @param {URLSearchParams} wishes @param {(problem: {status: number, message: string}) => void} refused */
export function open(wishes, refused) {
  const bar = new TaskProgress();
  const place = find("#one");
  const tell = (problem = "") => put(find("#task-problem"), problem);
  bar.addEventListener("progress", ({ detail: task }) => {
    bar.label = labelOf(task);
    describe(task, place);
    find("#task").dispatchEvent(new CustomEvent("arranged", { bubbles: true, detail: isFinal(task) ? [] : [task] }));
  });
  bar.addEventListener("error", ({ detail: problem }) => {
    if (problem.status === 401) return refused(problem);
    place.hidden = true;
    tell(REFUSALS[problem.status] ? say(REFUSALS[problem.status]) : problem.message);
  });
  tell();
  place.hidden = false;
  bar.setAttribute("cancel", "");
  bar.token = token;
  bar.src = urlOf(wishes.get("task") ?? "");
  place.replaceChildren(bar);
  find("#task").hidden = false;
}

export function close() {
  find("#one").replaceChildren();
  find("#task").hidden = true;
}
