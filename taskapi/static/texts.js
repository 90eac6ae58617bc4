/** What a task says, in words. @import { Task } from "./types.js" */

/** @param {Task} task */
export const isFinal = ({ status }) => ["completed", "failed", "timeout"].includes(status);

/** "generating_cards" as "Generating cards". @param {string} name */
export const words = (name) => name.replaceAll("_", " ").trim().replace(/^./u, (letter) => letter.toUpperCase());

/** The kind that a made task id begins with, else the id. @param {Task} task */
export const title = ({ task_id: id }) => words(/^(.*?[a-z].*?)_\d+_\d{8}/i.exec(id)?.[1] ?? "") || id;

/** @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const minutes = Math.floor(seconds / 60);
  if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return [minutes && `${minutes} min`, (seconds % 60 || !minutes) && `${seconds % 60} s`].filter(Boolean).join(" ");
}

/** What it is doing, or how it ended. @param {Task} task */
export function doing({ status, stage }) {
  if (status === "running" && stage) return words(stage);
  if (status === "pending") return "Waiting to start";
  return status === "timeout" ? "Timed out" : words(status);
}

/** @param {Task} task */
export function count({ completed_items: done, total_items: total }) {
  if (total) return `${done ?? 0} of ${total}`;
  return done ? `${done} done` : "";
}

/** From 0 to 100, or undefined while nothing is known. @param {Task} task */
export function share(task) {
  if (task.status === "completed") return 100;
  return isFinal(task) || task.progress || task.total_items ? task.progress : undefined;
}

/** What an even pace, seen for a while, lets expect. @param {{at: number, progress: number}[]} seen @param {number} now */
export function forecast(seen, now) {
  const [first, middle, last] = [seen[0], seen[seen.length >> 1], seen[seen.length - 1]];
  if (seen.length < 4 || last.at - first.at < 10_000 || now - last.at > 30_000) return "";
  const pace = (from = first, to = last) => (to.progress - from.progress) / (to.at - from.at);
  if (Math.abs(pace(first, middle) - pace(middle, last)) > pace() / 3) return "";
  const left = (100 - last.progress) / pace() - (now - last.at);
  const step = left < 60_000 ? 10_000 : 60_000;
  return `about ${duration(Math.max(1, Math.ceil(left / step)) * step)} left`;
}
