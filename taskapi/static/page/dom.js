/** Nodes of the page. Text is only ever text: nothing here takes HTML. */

/** @template {HTMLElement} T @param {string} selector @returns {T} */
export const find = (selector) => /** @type {T} */ (document.querySelector(selector));

/** @template {keyof HTMLElementTagNameMap} Tag @param {Tag} tag @param {object} [properties] @param {Node[]} children */
export function make(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** What stays the same is left alone: so does a selection. @param {Node} node */
export function put(node, text = "") {
  if (node.textContent !== text) node.textContent = text;
}
