/** Numbers and lengths of time, short enough for many of them. */

import { duration, format } from "../../texts.js";
import { spoken } from "../texts.js";

const UNITS = Object.entries({ days: 86_400, hours: 3_600, minutes: 60, seconds: 1 });

/** @param {number} value */
export const number = (value) => format(Intl.NumberFormat, spoken()).format(value);

/** @param {number} value */
export const percent = (value) => format(Intl.NumberFormat, spoken(), { style: "percent" }).format(value);

/** In its two largest units. @param {number} seconds */
export function length(seconds) {
  if (seconds < 1) return duration(seconds * 1_000, spoken());
  let rest = Math.round(seconds);
  const largest = UNITS.findIndex(([, size]) => rest >= size);
  const parts = UNITS.slice(largest, largest + 2).map(([unit, size]) => {
    const count = Math.floor(rest / size);
    rest %= size;
    return [unit, count];
  });
  return format(Intl.DurationFormat, spoken(), { style: "narrow" }).format(Object.fromEntries(parts));
}
