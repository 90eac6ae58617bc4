/** `<task-progress src="/api/tasks/TASK_ID" label="Learning path">`: a live bar for one task. See README.md. */

import { TaskProgress } from "./element.js";

export { follow } from "./follow.js";
export { duration, isFinal, title, words } from "./texts.js";
export { TaskProgress };

if (!globalThis.customElements?.get("task-progress")) globalThis.customElements?.define("task-progress", TaskProgress);
