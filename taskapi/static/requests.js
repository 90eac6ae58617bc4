/** Requests, with a token or with cookies. */

/** Whether asking again may help. @param {any} error Without a status, it is the network's. */
export const isOutage = ({ status = 503 }) => status === 429 || status >= 500;

/** The user that a token names. @param {Token} token */
export function subject(token) {
  try {
    const [, claims] = String(token).split(".");
    return String(JSON.parse(atob(claims.replaceAll("-", "+").replaceAll("_", "/"))).sub);
  } catch {
    return token ?? "";
  }
}

/** A bearer token, or one that names another kind ("Token …"). */
export const credentials = (token = "") => (token.includes(" ") ? token : `Bearer ${token}`);

/** HTTP's, or 401 for a login page: as HTML, or a redirect elsewhere. @param {Response} response */
const statusOf = ({ headers, ok, status, type }) =>
  type === "opaqueredirect" || (ok && headers.get("Content-Type")?.startsWith("text/html")) ? 401 : status;

/** To follow a redirect to elsewhere fails, as without a network. @type {typeof fetch} */
const reach = (url, init) => fetch(url, init).catch(() => fetch(url, { ...init, redirect: "manual" }));

/** @type {RequestsTo} */
export const requestsTo = (url, provider, signal) => {
  /** @type {Token} Not used yet. */
  let spare;
  return {
    async token() {
      const token = spare || provider();
      spare = undefined;
      return typeof token === "function" ? token() : token;
    },

    async user() {
      return subject((spare = await this.token()));
    },

    async send(path, init) {
      for (let token = await this.token(), isSecond = false; ; isSecond = true) {
        const headers = { ...init.headers, ...(token && { Authorization: credentials(token) }) };
        const response = await reach(url + path, { ...init, headers, signal });
        const status = statusOf(response);
        if (status < 400) return response;
        const refused = token;
        if (status === 401 && !isSecond && (token = await this.token()) !== refused) continue;
        throw await (await import("./trouble.js")).refusal(response, status);
      }
    },

    async stream(cursor) {
      const address = new URL(`${url}/events`);
      const token = (spare = await this.token());
      if (!token) import("./polls.js").catch(() => {}); // later, a login page may stand before it
      if (token) {
        const ticket = await (await this.send("/events", { method: "POST" })).json();
        address.href = new URL(ticket.url, url).href;
      }
      if (cursor) address.searchParams.set("last_event_id", cursor);
      signal?.throwIfAborted();
      return new EventSource(address, { withCredentials: !token });
    },
  };
};
