/** Where in the page everybody's tasks are. */

import { fragment } from "../address.js";

export const NAME = "everyone";

/** The part of everybody's tasks that has these values. @param {Record<string, string>} wishes */
export const addressOf = (wishes = {}) => `#${fragment(wishes, NAME)}`;
