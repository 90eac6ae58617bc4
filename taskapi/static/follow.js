/** Following: on a page, whoever follows the same URL shares a channel. */

import { channelOf } from "./channel.js";
import { connections, meet } from "./tabs.js";
import { connect, pause, poll } from "./transport.js";

const CROWDED = 3; // streams, of six connections: who comes later shares one

/** @type {Map<string, Channel>} */
const channels = new Map();

/** @type {Follow} */
export const follow = (url, follower) => {
  const { href } = new URL(url, document.baseURI);
  const channel = channels.get(href) ?? channelOf(href);
  if (channels.get(href) !== channel) {
    channels.set(href, channel);
    channel.signal.addEventListener("abort", () => channels.get(href) === channel && channels.delete(href));
    queueMicrotask(() => run(channel));
  }
  return channel.join(follower);
};

/** @param {Channel} channel */
async function run(channel) {
  try {
    if (!channel.hasMany && (await isCrowded(channel))) {
      const crowd = await import("./crowd.js").catch(() => null); // without it, each has a stream
      await crowd?.followAmongAll(channel, follow);
    }
    while (!channel.signal.aborted) await (channel.isPaused() ? pause(channel.signal) : takeTurns(channel));
  } catch (/** @type {any} */ error) {
    channel.fail(error);
  }
}

/** Whether there are many streams, on this page or in all tabs. @param {Channel} channel */
async function isCrowded({ all }) {
  const tasks = [...channels.values()].filter((other) => other.all === all && !other.hasMany);
  return tasks.length > 1 || (await connections()) >= CROWDED;
}

/** Connect when it is this tab's turn. @param {Channel} channel */
async function takeTurns(channel) {
  if (!navigator.locks) return connect(channel); // not on a page that came by plain HTTP
  let user = await channel.requests.user();
  if (!user && channel.hasMany) {
    await poll(channel); // whose cookies these are, only tasks can tell
    user = String(channel.owner() ?? "");
    if (!user) return connect(channel);
  }
  channel.tabs ??= meet(`${channel.url} ${user}`, channel.signal, (said) => channel.hear(said));
  // May this tab's user see it? The first answer also shows it at once.
  await channel.tabs.takeTurn(() => connect(channel), () => poll(channel));
}
