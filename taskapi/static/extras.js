/** What some bars have beside: a button to cancel, one for notifications, what a failure left behind. */

import { sheetOf } from "./style.js";

/** @import { TaskProgress } from "./element.js" */
const STYLE = `
:host { --ink: var(--task-progress-text, light-dark(#1f2328, #e6e8eb)) }
button {
  font: inherit; font-size: .8125rem; font-weight: 400; line-height: 1.4; padding: .1em .7em; border-radius: .4em; flex: none;
  color: var(--ink); background: none; border: 1px solid color-mix(in srgb, currentColor 35%, transparent); cursor: pointer;
}
[part=notify] { order: 1 }
[part=cancel] { order: 2 }
button:hover { border-color: currentColor }
button:focus-visible, summary:focus-visible, pre:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
[part=question] { display: flex; flex-wrap: wrap; gap: .3em .6em; align-items: baseline; margin-top: .3em }
[part=asked] { color: var(--ink) }
[part=yes], [part=refusal] { color: var(--task-progress-failed, light-dark(#c4302b, #ff8a80)) }
[part=failure] { margin-top: .2em }
summary { cursor: pointer; inline-size: fit-content }
[part=traceback] {
  margin: .4em 0; padding: .75em; max-block-size: 12em; overflow: auto; border-radius: .5em; background: var(--track);
  color: var(--ink); font: .8125rem/1.5 ui-monospace, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; text-align: left;
}`;

/** @type {{isWanted(element: TaskProgress): boolean, load(): Promise<{extra: Extra}>}[]} */
const EXTRAS = [
  { isWanted: (element) => element.hasAttribute("notify"), load: () => import("./notify.js") },
  { isWanted: (element) => element.hasAttribute("cancel"), load: () => import("./cancel.js") },
  { isWanted: ({ task }) => Boolean(task?.error_details), load: () => import("./failure.js") },
];

/** What stays the same is left alone: so does a selection. */
export function put(/** @type {Node} */ node, text = "") {
  if (node.textContent !== text) node.textContent = text;
}

/** Returns what shows them anew. @param {TaskProgress} element @param {Say} say @param {Parts} parts */
export function dress(element, say, parts) {
  /** @type {(() => void)[]} */
  const shows = [];
  /** @type {ShadowRoot} */ (element.shadowRoot).adoptedStyleSheets.push(sheetOf(STYLE));

  /** @param {number} number */
  async function bring(number) {
    shows[number] = () => {}; // it is on its way
    try {
      const { extra } = await EXTRAS[number].load();
      shows[number] = extra(element, say, parts);
      shows[number]();
    } catch {
      delete shows[number]; // the network was away
    }
  }

  return () => {
    for (const [number, { isWanted }] of EXTRAS.entries()) {
      if (!shows[number] && isWanted(element)) bring(number);
      shows[number]?.();
    }
  };
}
