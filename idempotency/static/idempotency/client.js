/**
 * Send a POST that must take effect exactly once, from a browser on a bad network.
 *
 *     import { createClient } from "/static/idempotency/client.js";
 *     const funds = createClient({ environment: "prod", operation: "fund-create" });
 *     const { status, body } = await funds.post("/api/funds", fund, { key: funds.draftKey("fund-setup") });
 *     funds.forget("fund-setup");
 *
 * One key for each thing that the person wants done (docs/how-to/frontend.md, "Which idempotency key"):
 *
 * - `{ key }`: one random key for each draft, kept beside it. A draft becomes at most one fund. When it was edited
 *   after an answer got lost, a ConflictError lets the person decide. For forms.
 * - `{ nonce }`: mixed into the hash of the content. Editing makes a new key; two nonces send the same content twice on
 *   purpose.
 * - neither: the hash of the content alone. The same content within 24 hours is the same fund, **also on purpose**.
 *   For imports and scripts that may run twice.
 */

import { ConflictError, OfflineError, ProblemError, TimeoutError } from "./errors.js";
import { TOKEN, canonical, contentKey, createDraftKeys, pageStorage } from "./keys.js";

export { ConflictError, OfflineError, ProblemError, TimeoutError, readRetryAfter } from "./errors.js";
export { canonical, contentKey } from "./keys.js";
export { sha256, sha256Bytes } from "./sha256.js";

/** @typedef {import("./errors.js").UnansweredError} UnansweredError */
/** @typedef {import("./keys.js").StorageLike} StorageLike */

/**
 * @typedef {object} ClientOptions
 * @property {string} environment the server's, such as `prod`: a key for another one is refused
 * @property {string} operation such as `fund-create`
 * @property {(url: string, init: RequestInit) => Promise<Response>} [fetch]
 * @property {StorageLike | null} [storage] where draft keys are kept; localStorage by default
 * @property {number} [timeout] ms for one attempt, including the body of its answer
 * @property {number} [retries] attempts after the first
 * @property {number} [backoff] ms; the first pause is up to this, each further one up to twice the one before
 * @property {string | (() => string | Promise<string>)} [token] a bearer token; then no cookies are sent
 * @property {boolean | (() => string)} [csrf] send Django's CSRF token to this page's own origin: from the cookie
 *   `csrftoken` (true, the default without a token), or from your function
 * @property {Record<string, string> | (() => Record<string, string>)} [headers] further ones; a function is called for
 *   each attempt
 */

/**
 * @typedef {object} PostOptions
 * @property {string} [key] the key itself: 1-255 characters of `A-Z a-z 0-9 _ . : ~ -`
 * @property {string} [nonce] mixed into the hash of the content
 * @property {AbortSignal} [signal] cancels; whether the request took effect is then unknown
 * @property {(attempt: Attempt) => void} [onAttempt] called before each attempt
 */

/** @typedef {{attempt: number, of: number, key: string, cause: Error | null}} Attempt */

/**
 * @template [Body=any]
 * @typedef {object} Result
 * @property {"created" | "replayed"} status
 * @property {Response} response its body is read already
 * @property {Body} body
 * @property {string} key as sent: `environment|operation|token`
 * @property {number} attempts
 */

/**
 * @typedef {object} Client
 * @property {<Body = any>(url: string, payload: unknown, options?: PostOptions) => Promise<Result<Body>>} post send
 *   `payload` until there is an answer; rejects with a ConflictError, another ProblemError, an OfflineError, a
 *   TimeoutError, or the reason of `signal`
 * @property {(name: string) => string} draftKey the random key of a draft, kept in storage until `forget`
 * @property {(name: string) => void} forget the key of a draft that became a fund, or that is sent as a new one
 */

const TIMEOUT = 15_000; // ms; longer than any statement of the server may take
const RETRIES = 6;
const BACKOFF = 250; // ms
const BACKOFF_MAX = 8000; // ms
const RETRY_AFTER_MAX = 30; // s; nobody waits longer in front of a form: the call fails instead
const WAIT = 2; // s that the server may wait for an earlier attempt that still runs (Prefer: wait)

// --- Retrying -------------------------------------------------------------------------------------------------

/**
 * Return whether the next attempt may get another answer.
 * @param {ProblemError} problem
 * @returns {boolean}
 */
function isTransient({ status, code }) {
  return status >= 500 || status === 429 || (status === 409 && code === "idempotency_request_in_progress");
}

/**
 * Return the pause after a failed attempt: full jitter, and at least what the server asked for.
 * @param {number} attempt from 1
 * @param {number} backoff ms
 * @param {number | null} retryAfter s
 * @returns {number} ms
 */
export function pause(attempt, backoff, retryAfter) {
  const spread = Math.random() * Math.min(BACKOFF_MAX, backoff * 2 ** (attempt - 1));
  return (retryAfter ?? 0) * 1000 + spread;
}

/**
 * Sleep; wake early when the network is back, and reject when the person cancels.
 * @param {number} milliseconds
 * @param {AbortSignal | undefined} signal
 * @param {boolean} untilOnline
 * @returns {Promise<void>}
 */
function sleep(milliseconds, signal, untilOnline) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) reject(signal.reason);
    const listening = new AbortController();
    const end = () => {
      clearTimeout(timer);
      listening.abort();
    };
    const wake = () => {
      end();
      resolve();
    };
    const timer = setTimeout(wake, milliseconds);
    if (untilOnline) globalThis.window?.addEventListener("online", wake, { signal: listening.signal });
    signal?.addEventListener(
      "abort",
      () => {
        end();
        reject(signal.reason);
      },
      { signal: listening.signal },
    );
  });
}

// --- The client -----------------------------------------------------------------------------------------------

/**
 * @param {string} url
 * @returns {boolean}
 */
function isOwnOrigin(url) {
  const page = globalThis.location?.href;
  return page !== undefined && new URL(url, page).origin === new URL(page).origin;
}

/** @returns {string} Django's CSRF token; empty without the cookie */
export function csrfCookie() {
  return /(?:^|;\s*)csrftoken=([^;]*)/.exec(globalThis.document?.cookie ?? "")?.[1] ?? "";
}

/**
 * @param {ClientOptions} options
 * @returns {Client}
 */
export function createClient({
  environment,
  operation,
  fetch = (input, init) => globalThis.fetch(input, init),
  storage = pageStorage(),
  timeout = TIMEOUT,
  retries = RETRIES,
  backoff = BACKOFF,
  token,
  csrf = token === undefined,
  headers = {},
}) {
  if (![environment, operation].every((part) => typeof part === "string" && TOKEN.test(part))) {
    throw new TypeError("environment and operation must be 1-255 characters of A-Z a-z 0-9 _ . : ~ -");
  }
  /** @type {Map<string, Promise<Result>>} */ const running = new Map();
  const { draftKey, forget } = createDraftKeys(operation, storage);

  /**
   * Send `payload` until there is an answer. The same call while it runs (a double click) returns the same promise.
   * @param {string} url
   * @param {unknown} payload
   * @param {PostOptions} [options]
   * @returns {Promise<Result>}
   * @throws {ConflictError | ProblemError | OfflineError | TimeoutError} or the reason of `signal`
   */
  function post(url, payload, options = {}) {
    const { key, nonce } = options;
    const body = canonical(payload);
    if (key !== undefined && !TOKEN.test(key)) {
      throw new TypeError("a key must be 1-255 characters of A-Z a-z 0-9 _ . : ~ -");
    }
    const identity = JSON.stringify([url, key, nonce, body]);
    const first = running.get(identity);
    if (first) return first;
    const result = deliver(url, body, options).finally(() => running.delete(identity));
    running.set(identity, result);
    return result;
  }

  /**
   * @param {string} url
   * @param {string} body
   * @param {PostOptions} options
   * @returns {Promise<Result>}
   */
  async function deliver(url, body, { key: token, nonce, signal, onAttempt }) {
    const key =
      token === undefined
        ? await contentKey({ environment, operation, nonce }, body)
        : `${environment}|${operation}|${token}`;
    /** @type {ProblemError | UnansweredError | null} */ let cause = null;
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      const info = { attempt, of: retries + 1, key, cause };
      queueMicrotask(() => onAttempt?.(info)); // an error in it must not lose the request
      const outcome = await send(url, body, { key, attempt, signal });
      if (!(outcome instanceof Error)) return outcome;
      cause = outcome;
      const retryAfter = outcome instanceof ProblemError ? outcome.retryAfter : null;
      const final = outcome instanceof ProblemError && !isTransient(outcome);
      if (final || attempt > retries || (retryAfter ?? 0) > RETRY_AFTER_MAX) throw outcome;
      await sleep(pause(attempt, backoff, retryAfter), signal, outcome instanceof OfflineError);
    }
  }

  /**
   * Make one attempt, and return its result or its error.
   * @param {string} url
   * @param {string} body
   * @param {{key: string, attempt: number, signal: AbortSignal | undefined}} options
   * @returns {Promise<Result | ProblemError | UnansweredError>}
   */
  async function send(url, body, { key, attempt, signal }) {
    const sentHeaders = await requestHeaders(url, key, attempt);
    signal?.throwIfAborted();
    const request = new AbortController();
    const cancel = () => request.abort();
    signal?.addEventListener("abort", cancel);
    let timedOut = false;
    const deadline = setTimeout(() => {
      timedOut = true;
      request.abort();
    }, timeout);
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: sentHeaders,
        body,
        credentials: token === undefined ? "same-origin" : "omit",
        redirect: "error", // a sign-in page is no answer
        cache: "no-store",
        signal: request.signal,
      });
      const answer = await readBody(response);
      if (response.ok) {
        const header = response.headers.get("Idempotency-Status");
        const created = header === null ? response.status === 201 : header === "created";
        const status = created ? "created" : "replayed";
        return { status, response, body: answer, key, attempts: attempt };
      }
      const reused = response.status === 409 && answer?.code === "idempotency_key_reused";
      return new (reused ? ConflictError : ProblemError)(response, answer, key, attempt);
    } catch (error) {
      signal?.throwIfAborted();
      return timedOut
        ? new TimeoutError(`No answer within ${timeout / 1000} s.`, key, attempt, error)
        : new OfflineError("The server cannot be reached.", key, attempt, error);
    } finally {
      clearTimeout(deadline);
      signal?.removeEventListener("abort", cancel);
    }
  }

  /**
   * @param {string} url
   * @param {string} key
   * @param {number} attempt
   * @returns {Promise<Record<string, string>>}
   */
  async function requestHeaders(url, key, attempt) {
    /** @type {Record<string, string>} */
    const all = {
      Accept: "application/json, application/problem+json",
      "Content-Type": "application/json",
      ...(typeof headers === "function" ? headers() : headers),
      "Idempotency-Key": key,
    };
    if (attempt > 1) all.Prefer = `wait=${WAIT}`;
    if (token !== undefined) all.Authorization = `Bearer ${typeof token === "function" ? await token() : token}`;
    if (csrf && isOwnOrigin(url)) all["X-CSRFToken"] = typeof csrf === "function" ? csrf() : csrfCookie();
    return all;
  }

  return { post, draftKey, forget };
}

/**
 * Read an answer. A success that is not JSON comes from a proxy on the way (a hotel's login page), and is no answer; an
 * error that is not JSON still has its status.
 * @param {Response} response
 * @returns {Promise<any>}
 */
async function readBody(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch (error) {
    if (response.ok) throw error;
    return null;
  }
}
