/** Of the tabs that follow the same, one has the connection and tells the others. */

const PREFIX = "taskapi"; // of our locks' names

/** How many connections all tabs hold, if the browser tells. */
export async function connections() {
  const { held = [] } = (await navigator.locks?.query()) ?? {};
  return held.filter(({ name }) => name?.startsWith(PREFIX)).length;
}

/** @type {Meet} */
export const meet = (topic, signal, hear) => {
  const name = `${PREFIX} ${topic}`;
  const channel = new BroadcastChannel(name);
  let hasTurn = false;
  // Who has the turn has the news: what else is told are the last words of the one before.
  channel.onmessage = ({ data }) => hasTurn === Boolean(data.isNew) && hear(data);
  signal.addEventListener("abort", () => channel.close());
  return {
    async takeTurn(connect, first) {
      const turn = async () => {
        hasTurn = true;
        await connect().finally(() => (hasTurn = false));
        return true;
      };
      if (await navigator.locks.request(name, { ifAvailable: true }, (lock) => lock && turn())) return;
      await first();
      if (signal.aborted) return;
      channel.postMessage({ isNew: true });
      await navigator.locks.request(name, { signal }, turn);
    },

    tell(said) {
      if (hasTurn) channel.postMessage(said);
    },
  };
};
