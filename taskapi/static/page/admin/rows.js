/** Rows that come anew. */

/** Put others in their place; a link that is there again keeps the focus. @param {Element} parent @param {Element[]} rows */
export function replace(parent, rows) {
  const focused = document.activeElement;
  const href = focused && parent.contains(focused) ? focused.getAttribute("href") : null;
  parent.replaceChildren(...rows);
  if (href) [...parent.querySelectorAll("a")].find((link) => link.getAttribute("href") === href)?.focus();
}
