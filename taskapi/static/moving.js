/** A bar that moves: what lies ahead of it, and what a screen reader hears. */

import { make } from "./element.js";
import { duration, ENGLISH, format, isFinal, isWaiting } from "./texts.js";

const WINDOW_MS = 60_000;
const REGION_MS = 100; // a live region is heard once it has been there for a moment
const END = 4;
const UNSEEN = "position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%)";
const ORDINALS = { zero: "th", one: "st", two: "nd", few: "rd", many: "th", other: "th" };

Object.assign(ENGLISH, {
  position: (/** @type {{ position: number }} */ { position }) =>
    `${position}${ORDINALS[new Intl.PluralRules("en", { type: "ordinal" }).select(position)]} in line`,
  startsIn: "about {duration}",
  endsIn: "about {duration} left",
});

/** How many are done. @param {Task} task */
const quarterOf = (task) => (isFinal(task) ? END : Math.min(END - 1, Math.floor(task.progress / 25)));

/** How long it is until the middle of what is expected, by this clock. @param {Span | null} span */
const until = (span) => (span ? Date.parse(span.p50) - Date.now() : 0);

/** As rough as a forecast is; nothing once it is over. @param {number} ms @param {string} language */
function roughly(ms, language) {
  const step = ms < 60_000 ? 10_000 : ms < 3_600_000 ? 60_000 : 300_000;
  return ms > 0 ? duration(Math.ceil(ms / step) * step, language) : "";
}

export class Moving {
  /** @type {Forecast | undefined} */
  #forecast;
  /** @type {{at: number, progress: number}[]} How it went in the last minute. */
  #seen = [];
  /** @type {string | null} Of the attempt that was seen. */
  #startedAt = null;
  #live = make("div", "live");
  #heard;

  /** @param {ShadowRoot} root @param {Task} before */
  constructor(root, before) {
    this.#heard = quarterOf(before);
    this.#live.ariaLive = "polite";
    this.#live.style.cssText = UNSEEN;
    root.querySelector("[part=live]")?.remove(); // another task's
    root.append(this.#live);
  }

  /** @param {Task} task @param {Forecast} [forecast] */
  see({ progress, started_at: startedAt }, forecast = this.#forecast) {
    this.#forecast = forecast;
    const at = performance.now();
    const last = this.#seen.at(-1)?.progress ?? 0;
    const isAnew = progress < last || startedAt !== this.#startedAt;
    if (progress === last && !isAnew) return;
    this.#startedAt = startedAt;
    this.#seen = isAnew ? [] : this.#seen.filter((sample) => at - sample.at < WINDOW_MS);
    if (progress) this.#seen.push({ at, progress });
  }

  /** A sentence at each quarter and the end. @param {Task} task @param {Record<string, Node>} texts */
  announce(task, { label, stage, percent, message }, language = "") {
    const quarter = quarterOf(task);
    const isNews = quarter > this.#heard;
    this.#heard = quarter;
    if (!isNews) return;
    const parts = [label, stage, percent, message].flatMap(({ textContent: text }) => text || []);
    const sentence = format(Intl.ListFormat, language, { type: "unit" }).format(parts);
    setTimeout(() => (this.#live.textContent = sentence), REGION_MS);
  }

  /**
   * What lies ahead, as the server forecasts, else as an even pace lets expect; nothing where nothing is known.
   *
   * @param {Task} task @param {Say} say @param {string} language
   */
  tell(task, say, language) {
    if (isWaiting(task)) return this.#tellStart(say, language);
    const left = until(this.#forecast?.ends_at ?? null);
    const text = roughly(left > 0 ? left : this.#left(), language);
    return text && say("endsIn", { duration: text });
  }

  /** @param {Say} say @param {string} language */
  #tellStart(say, language) {
    const { position, starts_at: span = null } = this.#forecast ?? {};
    const text = roughly(until(span), language);
    const parts = [position ? say("position", { position }) : "", text && say("startsIn", { duration: text })];
    return format(Intl.ListFormat, language, { type: "unit" }).format(parts.filter(Boolean));
  }

  /** How many milliseconds an even pace still takes; 0 where it is not even. */
  #left() {
    const seen = this.#seen;
    const now = performance.now();
    const [first, middle, last] = [seen[0], seen[seen.length >> 1], seen[seen.length - 1]];
    if (seen.length < 4 || last.at - first.at < 10_000 || now - last.at > 30_000) return 0;
    const pace = (from = first, to = last) => (to.progress - from.progress) / (to.at - from.at);
    if (Math.abs(pace(first, middle) - pace(middle, last)) > pace() / 3) return 0;
    return Math.max(1, (100 - last.progress) / pace() - (now - last.at));
  }
}
