/** What a failure left behind: the traceback, its end in sight. */

import { make } from "./element.js";
import { put } from "./extras.js";
import { ENGLISH } from "./texts.js";

Object.assign(ENGLISH, { details: "What happened", copy: "Copy", copied: "Copied" });

/** @type {Extra} */
export const extra = (element, say, { below }) => {
  const [summary, traceback, copy] = [make("summary", "summary"), make("pre", "traceback"), make("button", "copy")];
  const details = make("details", "failure", summary, traceback, copy);
  traceback.tabIndex = 0;
  traceback.dir = "ltr";
  below.append(details);

  let isCopied = false;
  details.ontoggle = () => traceback.scrollTo(0, traceback.scrollHeight);
  copy.onclick = async () => {
    await navigator.clipboard.writeText(traceback.textContent ?? "");
    isCopied = true;
    show();
  };
  const show = () => {
    const { error_details: text, result_message: reason, status = "" } = element.task ?? {};
    details.hidden = !text || !["failed", "timeout"].includes(status) || reason === "Cancelled.";
    copy.hidden = !navigator.clipboard; // there is none on plain HTTP
    put(summary, say("details"));
    put(copy, say(isCopied ? "copied" : "copy"));
    put(traceback, text ?? "");
  };
  return show;
};
