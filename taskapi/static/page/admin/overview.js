/** What the API says of all tasks at once. */

import { API, ask } from "../session.js";

/**
 * @typedef {{p50: number, p90: number} | null} Quantiles In seconds.
 * @typedef {{
 *   kind: string | null, waiting: number, oldest_waiting_at: string | null, running: number, stalled: number,
 *   sample: number, failed: number, wait_seconds: Quantiles, run_seconds: Quantiles,
 * }} Kind
 * @typedef {{
 *   kind: string | null, reason: string, count: number, first_at: string, last_at: string, last_task_id: string,
 * }} Reason
 * @typedef {{hours: number, count: number, sample: number, reasons: Reason[]}} Failures
 */

/** @param {string} path Beside that of the caller's tasks. @param {AbortSignal} signal */
const bring = async (path, signal) => (await ask(new URL(path, API).href, signal)).json();

/** @param {AbortSignal} signal @returns {Promise<[Kind[], Failures]>} */
export const overview = (signal) => Promise.all([bring("../kinds", signal), bring("../failures", signal)]);
