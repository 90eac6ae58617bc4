/** Many bars of a page share the stream of all of the user's tasks; a page with one bar needs none of this. */

const NOT_MINE_MS = 2_000; // what the stream of all my tasks has not brought by then is not mine, or has ended

/** Bring a channel its task for as long as that of all has it. @param {Channel} channel @param {Follow} follow */
export async function followAmongAll(channel, follow) {
  if (channel.signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers();
  let isKnown = false;
  /** @type {number | undefined} */
  let timer;
  channel.signal.addEventListener("abort", resolve);
  const leave = follow(channel.all, {
    token: () => channel.requests.token(),
    whileHidden: () => !channel.isPaused(),
    onsnapshot: (task) => {
      if (task.task_id !== channel.taskId) return;
      isKnown = true;
      channel.connected("live");
      channel.take({ tasks: [task] });
    },
    oncancelling: (hint) => hint.task_id === channel.taskId && channel.hint("cancelling", hint),
    onconnection: (connection) => {
      if (isKnown) channel.connected(connection);
      else if (connection !== "lost") timer ??= setTimeout(() => isKnown || resolve(null), NOT_MINE_MS);
    },
    onerror: resolve,
  });
  await promise;
  clearTimeout(timer);
  leave();
}
