/** Cards in their order, each in its place. */

/** @import { Card } from "./cards.js" */

/** @param {Task} task */
const isWaiting = ({ status }) => status === "pending" || status === "queued";

/** As the API orders them. @param {Card} a @param {Card} b */
export const newestFirst = ({ task: a }, { task: b }) => Date.parse(b.created_at) - Date.parse(a.created_at) || b.id - a.id;

/** What moves first. @param {Card} a @param {Card} b */
const inOrder = (a, b) => Number(isWaiting(a.task)) - Number(isWaiting(b.task)) || newestFirst(a, b);

/** What its place depends on. @param {Card} card */
const keyOf = ({ task }) => `${isWaiting(task)} ${task.created_at} ${task.id}`;

export class List {
  /** @type {Map<Card, string>} With what their place depended on. */
  #cards = new Map();
  #isSorted = true;

  /** @param {Element} list @param {(a: Card, b: Card) => number} [order] */
  constructor(list, order = inOrder) {
    this.list = list;
    this.order = order;
  }

  get size() { return this.#cards.size; }

  /** Take a card, from another list too, or see whether its place has changed. @param {Card} card */
  put(card) {
    const key = keyOf(card);
    if (card.list !== this) {
      card.list?.forget(card);
      card.list = this;
      if (card.item.isConnected) this.#insert(card, null);
    }
    if (this.#cards.get(card) === key) return;
    this.#cards.set(card, key);
    this.#isSorted = false;
  }

  /** @param {Card} card */
  forget(card) {
    this.#cards.delete(card);
  }

  /** @param {Card} card */
  remove(card) {
    this.forget(card);
    card.item.remove();
  }

  clear() {
    this.#cards.clear();
    this.list.replaceChildren();
  }

  /** Put every card where it belongs; one that is there is not touched. */
  sort() {
    if (this.#isSorted) return;
    this.#isSorted = true;
    let at = this.list.firstElementChild;
    for (const card of [...this.#cards.keys()].sort(this.order)) {
      if (at === card.item) at = at.nextElementSibling;
      else this.#insert(card, at);
    }
  }

  /** Whoever reads it goes on. @param {Card} card @param {Element | null} before */
  #insert(card, before) {
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    const isFocused = card.item.contains(focused);
    this.list.insertBefore(card.item, before);
    card.settle();
    if (isFocused) focused?.focus();
  }
}
