/** Moments and durations, in the reader's words. */

import { format } from "../texts.js";
import { make } from "./dom.js";
import { say, spoken } from "./texts.js";

const STEPS = /** @type {const} */ ([["day", 86_400], ["hour", 3_600], ["minute", 60]]);
const DAYS = 30; // longer ago, a date tells more
const REFRESH_MS = 20_000;

/** @param {string} moment */
const date = (moment, options = {}) => format(Intl.DateTimeFormat, spoken(), options).format(new Date(moment));

/** "3 minutes ago", or the date. @param {string} moment */
export function ago(moment, now = Date.now()) {
  const seconds = (Date.parse(moment) - now) / 1_000;
  const [unit, size] = STEPS.find(([, each]) => Math.abs(seconds) >= each) ?? ["second", 1];
  if (Math.abs(seconds) >= DAYS * 86_400) return date(moment, { dateStyle: "medium" });
  if (Math.abs(seconds) < 10) return say("now");
  const count = size === 1 ? Math.trunc(seconds / 10) * 10 : Math.trunc(seconds / size);
  return format(Intl.RelativeTimeFormat, spoken(), { numeric: "auto" }).format(count, unit);
}

/** A moment that says how long ago it was, and when exactly as its title. @param {string} moment */
export function timeOf(moment, node = make("time")) {
  if (node.dateTime !== moment) {
    node.dateTime = moment;
    node.title = date(moment, { dateStyle: "full", timeStyle: "long" });
  }
  const text = ago(moment);
  if (node.textContent !== text) node.textContent = text;
  return node;
}

setInterval(() => {
  if (document.hidden) return;
  for (const node of document.querySelectorAll("time")) timeOf(node.dateTime, node);
}, REFRESH_MS);
