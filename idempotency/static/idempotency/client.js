/**
 * Send a POST that must take effect exactly once, from a browser on a bad network.
 *
 *     import { createClient } from "/static/idempotency/client.js";
 *     const funds = createClient({ environment: "prod", operation: "fund-create" });
 *     const { status, body } = await funds.post("/api/funds", fund, { key: funds.draftKey("fund-setup") });
 *     funds.forget("fund-setup");
 *
 * Which key? One for each thing the user wants done (docs/how-to/frontend.md, "Which idempotency key"):
 *
 * - `{ key }`: one random key for each draft, kept beside it. A draft then becomes at most one fund, also when it was
 *   edited after an answer got lost: that is a ConflictError, and the person decides. What forms should use.
 * - `{ nonce }`: mixed into the hash of the content. Editing makes a new key; the same content twice on purpose is
 *   possible with two nonces.
 * - neither: the hash of the content alone. The same content within 24 hours is the same fund, **also on purpose**.
 *   For imports and scripts that may run twice.
 */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} StorageLike */

/**
 * @typedef {object} ClientOptions
 * @property {string} environment the server's, such as `prod`: a key for another one is refused
 * @property {string} operation such as `fund-create`
 * @property {(url: string, init: RequestInit) => Promise<Response>} [fetch]
 * @property {StorageLike | null} [storage] where draft keys are kept; localStorage by default
 * @property {number} [timeout] ms for one attempt, its answer's body included
 * @property {number} [retries] attempts after the first
 * @property {number} [backoff] ms; the first pause is up to this, each further one up to twice the one before
 * @property {string | (() => string | Promise<string>)} [token] a bearer token; then no cookies are sent
 * @property {boolean | (() => string)} [csrf] send Django's CSRF token to this page's own origin: from the cookie
 *   `csrftoken` (true, the default without a token), or from your function
 * @property {Record<string, string>} [headers] more of them
 */

/**
 * @typedef {object} PostOptions
 * @property {string} [key] the key itself: 1-255 of `A-Z a-z 0-9 _ . : ~ -`
 * @property {string} [nonce] mixed into the hash of the content
 * @property {AbortSignal} [signal] the person gave up; whether the request took effect is then unknown
 * @property {(attempt: Attempt) => void} [onAttempt] called before each attempt
 */

/** @typedef {{attempt: number, of: number, key: string, cause: Error | null}} Attempt */

/**
 * @typedef {object} Result
 * @property {"created" | "replayed"} status
 * @property {Response} response its body is read already
 * @property {any} body
 * @property {string} key as sent: `environment|operation|token`
 * @property {number} attempts
 */

const TIMEOUT = 15_000; // ms; longer than any statement of the server may take
const RETRIES = 6;
const BACKOFF = 250; // ms
const BACKOFF_MAX = 8000; // ms
const RETRY_AFTER_MAX = 30; // s; nobody waits longer in front of a form: say so instead
const WAIT = 2; // s the server may wait for a first attempt that is still running (Prefer: wait)
const TOKEN = /^[A-Za-z0-9_.:~-]{1,255}$/;

// --- What can go wrong ----------------------------------------------------------------------------------------

/** The server answered, and not with success: an `application/problem+json` (RFC 9457), or something like it. */
export class ProblemError extends Error {
  name = "ProblemError";

  /**
   * @param {Response} response
   * @param {any} problem
   * @param {string} key
   * @param {number} attempts
   */
  constructor(response, problem, key, attempts) {
    const code = String(problem?.code ?? `http_${response.status}`);
    super(String(problem?.detail ?? problem?.title ?? `The server answered ${response.status}.`));
    this.status = response.status;
    /** A stable name for programs, such as `validation_error`. */
    this.code = code;
    this.title = String(problem?.title ?? response.statusText);
    this.detail = this.message;
    /** @type {{field: string, code: string, detail: string}[]} */
    this.errors = Array.isArray(problem?.errors) ? problem.errors : [];
    /** Seconds, or null. */
    this.retryAfter = readRetryAfter(response.headers.get("Retry-After"));
    this.problem = problem;
    this.response = response;
    this.key = key;
    this.attempts = attempts;
  }
}

/** The key was used for a request with other content (409 `idempotency_key_reused`). Never retried. */
export class ConflictError extends ProblemError {
  name = "ConflictError";
}

/** No answer came. Whether the request took effect is unknown: send it again with the same key. */
class UnansweredError extends Error {
  /**
   * @param {string} message
   * @param {string} key
   * @param {number} attempts
   * @param {unknown} cause
   */
  constructor(message, key, attempts, cause) {
    super(message, { cause });
    this.key = key;
    this.attempts = attempts;
  }
}

/** No network, or a server that cannot be reached. */
export class OfflineError extends UnansweredError {
  name = "OfflineError";
}

/** The server did not answer in time. */
export class TimeoutError extends UnansweredError {
  name = "TimeoutError";
}

// --- Keys -----------------------------------------------------------------------------------------------------

/**
 * One text for all payloads of the same value: keys sorted, no white space. It is what is sent, too, so every attempt
 * has the same bytes, a reload later as well.
 * @param {unknown} payload what JSON can say; NaN and Infinity are refused, since JSON would make null of them
 * @returns {string}
 */
export function canonical(payload) {
  const text = JSON.stringify(payload, function (_name, value) {
    if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${value} is not a JSON number`);
    if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
  if (text === undefined) throw new TypeError("the payload is nothing that JSON can say");
  return text;
}

/**
 * The key of a content: its hash, with the environment in it (runbook, "Environment Scoping").
 * @param {{environment: string, operation: string, nonce?: string}} scope
 * @param {string} content from `canonical`
 * @returns {Promise<string>} `environment|operation|<64 hex digits>`
 */
export async function contentKey({ environment, operation, nonce = "" }, content) {
  const hash = await sha256(JSON.stringify([environment, operation, nonce, content]));
  return `${environment}|${operation}|${hash}`;
}

/**
 * SHA-256 in hex. Browsers have `crypto.subtle` on HTTPS and localhost alone; elsewhere the same is computed here.
 * @param {string} text
 * @returns {Promise<string>}
 */
export async function sha256(text) {
  const bytes = new TextEncoder().encode(text);
  const digest = globalThis.crypto?.subtle
    ? new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))
    : sha256Bytes(bytes);
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The same without `crypto.subtle` (FIPS 180-4). Its constants are the first 32 bits of the fractional parts of the
 * square roots (8) and cube roots (64) of the first primes.
 * @param {Uint8Array} bytes
 * @returns {Uint8Array}
 */
export function sha256Bytes(bytes) {
  /** @param {number} root */
  const fraction = (root) => ((root - Math.floor(root)) * 2 ** 32) | 0;
  /** @type {number[]} */ const primes = [];
  for (let candidate = 2; primes.length < 64; candidate++) {
    if (primes.every((prime) => candidate % prime)) primes.push(candidate);
  }
  const constants = primes.map((prime) => fraction(Math.cbrt(prime)));
  const state = Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));

  const padded = new Uint8Array(((bytes.length + 8) >> 6) * 64 + 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, bytes.length << 3);

  /** @type {(value: number, by: number) => number} */
  const rotate = (value, by) => (value >>> by) | (value << (32 - by));
  const words = new Int32Array(64);
  const at = (/** @type {number} */ index) => /** @type {number} */ (words[index]);
  for (let block = 0; block < padded.length; block += 64) {
    for (let i = 0; i < 16; i++) words[i] = view.getInt32(block + i * 4);
    for (let i = 16; i < 64; i++) {
      const [early, late] = [at(i - 15), at(i - 2)];
      const s0 = rotate(early, 7) ^ rotate(early, 18) ^ (early >>> 3);
      const s1 = rotate(late, 17) ^ rotate(late, 19) ^ (late >>> 10);
      words[i] = at(i - 16) + s0 + at(i - 7) + s1;
    }
    let [a, b, c, d, e, f, g, h] = /** @type {[number, number, number, number, number, number, number, number]} */ (
      /** @type {unknown} */ (Array.from(state))
    );
    for (let i = 0; i < 64; i++) {
      const choice = (e & f) ^ (~e & g);
      const majority = (a & b) ^ (a & c) ^ (b & c);
      const t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choice + (constants[i] ?? 0) + at(i);
      const t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + majority;
      [a, b, c, d, e, f, g, h] = [(t1 + t2) | 0, a, b, c, (d + t1) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => (state[i] = /** @type {number} */ (state[i]) + value));
  }
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((value, i) => digest.setInt32(i * 4, value));
  return new Uint8Array(digest.buffer);
}

/** @returns {string} */
function randomToken() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// --- Retrying -------------------------------------------------------------------------------------------------

/**
 * Read `Retry-After`: seconds, or a date (RFC 9110).
 * @param {string | null} value
 * @returns {number | null} seconds
 */
export function readRetryAfter(value) {
  if (!value) return null;
  if (/^\s*\d+\s*$/.test(value)) return Number(value);
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, (date - Date.now()) / 1000);
}

/**
 * May this answer be another one next time?
 * @param {ProblemError} problem
 * @returns {boolean}
 */
function isPassing({ status, code }) {
  return status >= 500 || status === 429 || (status === 409 && code === "idempotency_request_in_progress");
}

/**
 * The pause before attempt `attempt` + 1: full jitter, and at least what the server asked for.
 * @param {number} attempt the one that failed, from 1
 * @param {number} backoff ms
 * @param {number | null} retryAfter s
 * @returns {number} ms
 */
export function pause(attempt, backoff, retryAfter) {
  const spread = Math.random() * Math.min(BACKOFF_MAX, backoff * 2 ** (attempt - 1));
  return (retryAfter ?? 0) * 1000 + spread;
}

/**
 * Sleep; wake early when the network is back, and reject when the person gives up.
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

/** @returns {StorageLike | null} */
function pageStorage() {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

/**
 * @param {string} url
 * @returns {boolean}
 */
function isOwnOrigin(url) {
  const page = globalThis.location?.href;
  return page !== undefined && new URL(url, page).origin === new URL(page).origin;
}

/** @returns {string} */
function csrfCookie() {
  return /(?:^|;\s*)csrftoken=([^;]*)/.exec(globalThis.document?.cookie ?? "")?.[1] ?? "";
}

/**
 * @param {ClientOptions} options
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
    throw new TypeError("environment and operation are 1-255 of A-Z a-z 0-9 _ . : ~ -");
  }
  /** @type {Map<string, Promise<Result>>} */ const running = new Map();
  /** @type {Map<string, string>} */ const drafts = new Map(); // for browsers that keep nothing

  /**
   * The random key of a draft, made at the first call and kept in storage until `forget`: a reload sends it again.
   * @param {string} name of the draft
   * @returns {string}
   */
  function draftKey(name) {
    const place = `idempotency.draft.${operation}.${name}`;
    try {
      const known = storage?.getItem(place);
      if (known && TOKEN.test(known)) return known;
    } catch {
      // blocked: the page's memory has to do
    }
    const key = drafts.get(place) ?? randomToken();
    drafts.set(place, key);
    try {
      storage?.setItem(place, key);
    } catch {
      // full
    }
    return key;
  }

  /**
   * Forget the key of a draft: it became a fund, or the person means a new one.
   * @param {string} name
   */
  function forget(name) {
    const place = `idempotency.draft.${operation}.${name}`;
    drafts.delete(place);
    try {
      storage?.removeItem(place);
    } catch {
      // blocked: it was never stored
    }
  }

  /**
   * Send `payload` until there is an answer. The same call while it runs (a double click) is the same promise.
   * @param {string} url
   * @param {unknown} payload
   * @param {PostOptions} [options]
   * @returns {Promise<Result>}
   * @throws {ConflictError | ProblemError | OfflineError | TimeoutError} or the reason of `signal`
   */
  function post(url, payload, options = {}) {
    const { key, nonce } = options;
    const body = canonical(payload);
    if (key !== undefined && !TOKEN.test(key)) throw new TypeError("a key is 1-255 of A-Z a-z 0-9 _ . : ~ -");
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
      const now = { attempt, of: retries + 1, key, cause };
      queueMicrotask(() => onAttempt?.(now)); // what it throws is not ours to lose a request over
      const outcome = await send(url, body, { key, attempt, signal });
      if (!(outcome instanceof Error)) return outcome;
      cause = outcome;
      const retryAfter = outcome instanceof ProblemError ? outcome.retryAfter : null;
      const final = outcome instanceof ProblemError && !isPassing(outcome);
      if (final || attempt > retries || (retryAfter ?? 0) > RETRY_AFTER_MAX) throw outcome;
      await sleep(pause(attempt, backoff, retryAfter), signal, outcome instanceof OfflineError);
    }
  }

  /**
   * One attempt: a result, or what went wrong with it.
   * @param {string} url
   * @param {string} body
   * @param {{key: string, attempt: number, signal: AbortSignal | undefined}} options
   * @returns {Promise<Result | ProblemError | UnansweredError>}
   */
  async function send(url, body, { key, attempt, signal }) {
    const sent = await requestHeaders(url, key, attempt);
    signal?.throwIfAborted();
    const ending = new AbortController();
    const giveUp = () => ending.abort();
    signal?.addEventListener("abort", giveUp);
    let late = false;
    const deadline = setTimeout(() => {
      late = true;
      ending.abort();
    }, timeout);
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: sent,
        body,
        credentials: token === undefined ? "same-origin" : "omit",
        redirect: "error", // a login page is no answer
        cache: "no-store",
        signal: ending.signal,
      });
      const answer = await readBody(response);
      if (response.ok) {
        const said = response.headers.get("Idempotency-Status");
        const status = (said ?? (response.status === 201 ? "created" : "replayed")) === "created" ? "created" : "replayed";
        return { status, response, body: answer, key, attempts: attempt };
      }
      const reused = response.status === 409 && answer?.code === "idempotency_key_reused";
      return new (reused ? ConflictError : ProblemError)(response, answer, key, attempt);
    } catch (error) {
      signal?.throwIfAborted();
      return late
        ? new TimeoutError(`No answer within ${timeout / 1000} s.`, key, attempt, error)
        : new OfflineError("The server cannot be reached.", key, attempt, error);
    } finally {
      clearTimeout(deadline);
      signal?.removeEventListener("abort", giveUp);
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
      ...headers,
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
 * Read an answer. A success that is not JSON comes from something between us and the server (a hotel's login page),
 * and is no answer; an error that is not JSON still has its status.
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
