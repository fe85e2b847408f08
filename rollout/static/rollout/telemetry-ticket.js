/**
 * Tickets: the proof, sent with telemetry, that a signed-in user sends it.
 *
 *     createTelemetry({ endpoint, ticket: ticketSource() });
 *     createTelemetry({ endpoint, ticket: ticketSource({ url, token: () => sessionStorage.getItem("token") }) });
 */

const FETCH_TIMEOUT = 10_000; // ms

/**
 * @typedef {object} Ticket
 * @property {string} ticket
 * @property {string} [expiresAt] ISO 8601; without it, a ticket is renewed when the server refuses it
 */

/**
 * @typedef {object} Options
 * @property {string} [url] of `POST /api/telemetry/ticket`
 * @property {Ticket | null} [first] the one that came with the page, for the first call
 * @property {() => string | null | undefined | Promise<string | null | undefined>} [token] a bearer token; without it the
 *   session's cookie is sent
 * @property {() => string} [csrf] Django's token for the session; by default its cookie, for this page's own origin alone
 * @property {(url: string, init: RequestInit) => Promise<Response>} [fetch]
 */

/**
 * Return a function that gets a new ticket from the server each time; null when nobody is signed in.
 * @param {Options} [options]
 * @returns {() => Promise<Ticket | null>}
 */
export function ticketSource({
  url = "/api/telemetry/ticket",
  first = null,
  token,
  csrf = () => cookie("csrftoken", url),
  fetch = (input, init) => globalThis.fetch(input, init),
} = {}) {
  return async function next() {
    if (first?.ticket) {
      const given = first;
      first = null;
      return given;
    }
    const timeout = new AbortController();
    const deadline = setTimeout(() => timeout.abort(), FETCH_TIMEOUT);
    try {
      const bearer = await token?.();
      const response = await fetch(url, {
        method: "POST",
        headers: { Accept: "application/json", ...(bearer ? { Authorization: `Bearer ${bearer}` } : { "X-CSRFToken": csrf() }) },
        signal: timeout.signal,
      });
      if (response.status === 401 || response.status === 403) return null;
      const issued = response.ok ? await response.json() : null;
      if (typeof issued?.ticket !== "string") throw new Error(`${url} gave no ticket (${response.status})`);
      return issued;
    } finally {
      clearTimeout(deadline);
    }
  };
}

/**
 * @param {string} name
 * @param {string} url where it would be sent
 */
function cookie(name, url) {
  const { document, location } = globalThis;
  if (!document || new URL(url, location.href).origin !== location.origin) return "";
  return document.cookie.split("; ").find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";
}
