/** What the administrators' view says. */

import { ENGLISH, learn } from "../texts.js";

Object.assign(ENGLISH, {
  everyone: "All users",
  myTasks: "My tasks",
  onlyAdministrators: "Only administrators see everybody’s tasks.",
  notCurrent: "Not up to date: {reason}",
  now: "Now",
  waiting: "Waiting",
  oldestWaiting: "Oldest waiting",
  stalled: "Stalled",
  stalledHint: "Started, and their worker is silent",
  failedLately: "Failed in 24 hours",
  reasons: "What fails, and why",
  noneFailed: "Nothing has failed in the last 24 hours.",
  noReason: "No reason was given",
  noKind: "Without a kind",
  lastFailure: "last {last}, first {first}",
  ofSample: "From the last {sample} of {count} failures.",
  kinds: "How long it takes",
  waits: "Waits",
  takes: "Takes",
  quantiles: "{p50}, 9 in 10 within {p90}",
  failedOf: "{failed} of {sample}",
  everyonesTasks: "Everybody’s tasks",
  ofUser: "{title} · user {user}",
  newer: "Newer",
  older: "Older",
  choose: "Select {title}",
  chooseAll: "Select all",
  cancelChosen: "Cancel selected ({count})",
  cancelChosenQuestion: "Stop the selected tasks? ({count})",
  cancelChosenYes: "Stop them",
  cancelChosenNo: "Let them go on",
  cancelledSo: "Stopped, or asked to stop: {accepted}. Had already ended: {ended}. Not found: {unknown}.",
});

const LANGUAGES = {
  ar: () => import("./languages/ar.js"),
  de: () => import("./languages/de.js"),
  es: () => import("./languages/es.js"),
  fr: () => import("./languages/fr.js"),
  ja: () => import("./languages/ja.js"),
};

/** Learn to say it in the reader's language. */
export const speak = () => learn(LANGUAGES);
