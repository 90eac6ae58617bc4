/** The numbers that whoever is on call sees first. Each leads to its tasks. */

import { make, put } from "../dom.js";
import { say } from "../texts.js";
import { addressOf } from "./address.js";
import { length, number } from "./words.js";

/** @import { Kind, Failures } from "./overview.js" */

/** @param {Kind[]} kinds @param {"waiting" | "running" | "stalled"} name */
const sum = (kinds, name) => kinds.reduce((total, kind) => total + kind[name], 0);

/** The kind whose first task waits longest. @param {Kind[]} kinds */
const longest = (kinds) =>
  kinds
    .filter((kind) => kind.oldest_waiting_at)
    .sort((a, b) => Date.parse(a.oldest_waiting_at ?? "") - Date.parse(b.oldest_waiting_at ?? ""))[0];

class Tile {
  #value = make("strong");
  #name = make("span");
  #note = make("small");
  #link = make("a", {}, this.#value, this.#name, this.#note);
  node = make("li", {}, this.#link);

  /** @param {string} value @param {string} key @param {Record<string, string>} wishes @param {string} note */
  show(value, key, wishes, note = "", isAlarming = false) {
    put(this.#value, value);
    put(this.#name, say(key));
    put(this.#note, note);
    this.#link.href = addressOf(wishes);
    this.node.classList.toggle("alarming", isAlarming);
  }
}

export class Numbers {
  #tiles = Array.from({ length: 5 }, () => new Tile());
  node = make("ul", { className: "numbers" }, ...this.#tiles.map(({ node }) => node));

  /** @param {Kind[]} kinds @param {Failures} failures */
  show(kinds, { count }) {
    const [running, waiting, oldest, stalled, failed] = this.#tiles;
    const first = longest(kinds);
    const since = first?.oldest_waiting_at;
    const isSilent = sum(kinds, "stalled") > 0;
    this.node.ariaLabel = say("numbers");
    running.show(number(sum(kinds, "running")), "running", { status: "running" });
    waiting.show(number(sum(kinds, "waiting")), "waiting", { status: "waiting" });
    oldest.show(
      since ? length((Date.now() - Date.parse(since)) / 1_000) : "–",
      "oldestWaiting",
      { status: "waiting", kind: first?.kind ?? "" },
      first?.kind ?? "",
    );
    stalled.show(number(sum(kinds, "stalled")), "stalled", { status: "running" }, isSilent ? say("stalledHint") : "", isSilent);
    failed.show(number(count), "failedLately", { status: "failed" });
  }
}
