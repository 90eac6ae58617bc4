/** What the administrators' view says. */

import { ENGLISH, learn } from "../texts.js";

Object.assign(ENGLISH, {
  onlyAdministrators: "Only administrators see everybody’s tasks.",
  notCurrent: "Not up to date: {reason}",
  numbers: "Now",
  waiting: "Waiting",
  oldestWaiting: "Oldest waiting",
  stalled: "Stalled",
  stalledHint: "Started, and their worker is silent",
  failedLately: "Failed in 24 hours",
  reasons: "What fails, and why",
  noneFailed: "Nothing has failed in the last 24 hours.",
  noReason: "No reason was given",
  noKind: "Without a kind",
  firstFailure: "first {first}",
  otherReasons: "{count} more for other reasons.",
  ofSample: "From the last {sample} of {count} failures.",
  kinds: "How long it takes",
  waits: "Waits",
  takes: "Takes",
  nineInTen: "9 in 10: {p90}",
  quantilesHint: "Of the last hundred of each kind: half are done within the first time, nine in ten within the second.",
  failedOf: "{failed} of {sample}",
  kind: "Kind",
  user: "User",
  learningPath: "Learning path",
  search: "Search",
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
