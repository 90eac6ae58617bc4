/** What a task says, in a language's words and numbers. */

/** Said unless `messages` say otherwise; other names say themselves. @type {Messages} */
export const ENGLISH = {
  loading: "Loading…",
  pending: "Waiting to start",
  timeout: "Timed out",
  cancelling: "Cancelling…",
  count: "{completed} of {total}",
  countOnly: "{completed} done",
  lost: "No connection. Trying again…",
};

const CANCELLED = "Cancelled."; // as the server puts it

/** @type {Fill} */
export const fill = (message = "", values, language) =>
  typeof message === "function"
    ? message(values)
    : message.replace(/{(\w+)}/g, (_, name) => {
        const value = values[name] ?? "";
        return typeof value === "number" ? format(Intl.NumberFormat, language).format(value) : value;
      });

const formats = new Map();

/** One of `Intl`'s, dear to make. @type {Format} */
export const format = (Kind, ...options) => {
  const key = Kind.name + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Kind(...options));
  return formats.get(key);
};

export const percent = (progress = 0, language = "en") =>
  format(Intl.NumberFormat, language, { style: "percent" }).format(Math.floor(progress) / 100);

export function duration(ms = 0, language = "en") {
  const all = Math.max(0, ms) / 1_000;
  const parts = [all / 3600, (all / 60) % 60, all < 3600 ? all % 60 : 0, all < 1 ? all * 1000 : 0];
  const [hours, minutes, seconds, milliseconds] = parts.map(Math.floor);
  const options = { style: "short", secondsDisplay: all < 60 && !milliseconds ? "always" : "auto" };
  return format(Intl.DurationFormat, language, options).format({ hours, minutes, seconds, milliseconds });
}

/** @param {Task} task */
export const isFinal = ({ status }) => ["completed", "failed", "timeout"].includes(status);

/** @param {Task} task */
export const isWaiting = ({ status }) => ["pending", "queued"].includes(status);

/** The task's, and two that there is no status word for. @param {Task} task @param {unknown} isCancelling */
export function statusOf(task, isCancelling) {
  if (task.status === "failed" && task.result_message === CANCELLED) return "cancelled";
  return isCancelling && !isFinal(task) ? "cancelling" : task.status;
}

/** What came of it; that it was cancelled, its status says. @param {Task} task */
export const reasonOf = ({ result_message: message, error_details: details }) =>
  message === CANCELLED ? "" : (message ?? details?.trim().split("\n").at(-1));

/** "generating_cards" as "Generating cards". */
export const words = (name = "") => name.replaceAll("_", " ").trim().replace(/^./u, (letter) => letter.toUpperCase());

/** The kind that a made task id begins with, else the id. @param {Task} task */
export const title = ({ task_id: id }) => words(/^(.*?[a-z].*?)_\d+_\d{8}/i.exec(id)?.[1] ?? "") || id;

/** Undefined while nothing is known. @param {Task} task */
export function share(task) {
  if (task.status === "completed") return 100;
  return isFinal(task) || task.progress || task.total_items ? task.progress : undefined;
}
