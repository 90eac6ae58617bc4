/** The types that the package comes with are those of its modules; `tsc -p .ci/jsconfig.json` says where not. */

import { TaskProgress } from "../../taskapi/static/element.js";
import { follow } from "../../taskapi/static/follow.js";
import { duration, isFinal, title, words } from "../../taskapi/static/texts.js";

/** @type {typeof import("../../taskapi/static/task-progress.js")} */
export const door = { TaskProgress, follow, duration, isFinal, title, words };
