/** What a failure left behind: the traceback, its end in sight. */

import { make } from "./element.js";
import { ENGLISH } from "./texts.js";

Object.assign(ENGLISH, { details: "What happened", copy: "Copy", copied: "Copied" });

/** @type {Extra} */
export const extra = (element, say, { below }) => {
  const [summary, traceback, copy] = [make("summary", "summary"), make("pre", "traceback"), make("button", "copy")];
  const details = make("details", "failure", summary, traceback, copy);
  traceback.tabIndex = 0;
  traceback.dir = "ltr";
  below.append(details);

  details.ontoggle = () => traceback.scrollTo(0, traceback.scrollHeight);
  copy.onclick = async () => {
    await navigator.clipboard.writeText(traceback.textContent ?? "");
    copy.textContent = say("copied");
  };
  return () => {
    const { error_details: text, result_message: reason, status = "" } = element.task ?? {};
    details.hidden = !text || !["failed", "timeout"].includes(status) || reason === "Cancelled.";
    summary.textContent = say("details");
    copy.textContent ||= say("copy");
    if (traceback.textContent !== text) traceback.textContent = text ?? "";
  };
};
