/**
 * Send a POST that must take effect exactly once, from a browser on a bad network.
 *
 *     import { createClient } from "https://funds.example.com/static/idempotency/client.js";
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
 *
 * The server remembers a key for 24 hours (`ttl`) from its first sending. After that nothing is sent under it: an
 * ExpiredKeyError lets the person decide.
 */

import {
  ConflictError,
  ExpiredKeyError,
  ForeignAnswerError,
  OfflineError,
  ProblemError,
  TimeoutError,
  UnansweredError,
} from "./errors.js";
import { TOKEN, canonical, contentKey, createDraftKeys, pageStorage } from "./keys.js";

export * from "./errors.js";
export { canonical, contentKey } from "./keys.js";
export { sha256, sha256Bytes } from "./sha256.js";

/** @typedef {import("./keys.js").StorageLike} StorageLike */

/** @typedef {string | null | undefined} Token none: the server answers 401 */

/**
 * @typedef {object} ClientOptions
 * @property {string} environment the server's, such as `prod`: a key for another one is refused
 * @property {string} operation such as `fund-create`
 * @property {(url: string, init: RequestInit) => Promise<Response>} [fetch]
 * @property {StorageLike | null} [storage] where draft keys are kept; localStorage by default
 * @property {number} [ttl] s that the server remembers a key, its `IDEMPOTENCY_TTL`
 * @property {number} [timeout] ms for one attempt, from `token()` to the body of its answer
 * @property {number} [retries] attempts after the first
 * @property {number} [backoff] ms; the first pause is up to this, each further one up to twice the one before
 * @property {string | ((asked: {refused: boolean}) => Token | Promise<Token>)} [token] a bearer token; then no cookies are
 *   sent. A function is called for each attempt; `refused` is true after a 401, when a new token is needed
 * @property {boolean | (() => string | Promise<string>)} [csrf] send Django's CSRF token to this page's own origin: from
 *   the cookie `csrftoken` (true, the default without a token), or from your function
 * @property {HeadersInit | (() => HeadersInit | Promise<HeadersInit>)} [headers] further ones; a function is called for
 *   each attempt
 */

/**
 * @typedef {object} PostOptions
 * @property {string} [key] the key itself: 1-255 characters of `A-Z a-z 0-9 _ . : ~ -`
 * @property {string} [nonce] mixed into the hash of the content
 * @property {number | null} [firstSentAt] ms since the epoch, when your own key was sent first; null: never. The client
 *   keeps this time for the keys of `draftKey`
 * @property {AbortSignal} [signal] cancels; whether the request took effect is then unknown
 * @property {(attempt: Attempt) => void} [onAttempt] called before each attempt
 */

/** @typedef {{attempt: number, of: number, key: string, firstSentAt: number, cause: Error | null}} Attempt */

/**
 * @template [Body=any]
 * @typedef {object} Result
 * @property {"created" | "replayed"} status
 * @property {Response} response its body is read already
 * @property {Body} body
 * @property {string} text the body as it came: a number in it may have more digits than JavaScript's
 * @property {string} key as sent: `environment|operation|token`
 * @property {number} attempts
 */

/**
 * @typedef {object} Client
 * @property {<Body = any>(url: string, payload: unknown, options?: PostOptions) => Promise<Result<Body>>} post send
 *   `payload` until there is an answer; rejects with a ConflictError or another ProblemError, an
 *   OfflineError, TimeoutError or ForeignAnswerError, an ExpiredKeyError, or the reason of `signal`
 * @property {(name: string) => string} draftKey the random key of a draft, kept in storage until `forget`
 * @property {(name: string) => void} forget the key of a draft that became a fund, or that is sent as a new one
 */

const TIMEOUT = 15_000; // ms; longer than any statement of the server may take
const RETRIES = 6;
const TTL = 24 * 3600; // s
const BACKOFF = 250; // ms
const BACKOFF_MAX = 8000; // ms
const RETRY_AFTER_MAX = 30; // s; nobody waits longer in front of a form: the call fails instead
const TOO_LARGE = 413; // also by a proxy; the same bytes are too large again
const TIMER_MAX = 2 ** 31 - 1; // ms; above it timers fire at once
const CLOCK_STEP = 60_000; // ms that a clock may be set back, or differ between tabs, and still tell a key's age
const WAIT = 2; // s that the server may wait for an earlier attempt that still runs (Prefer: wait)

// --- Retrying -------------------------------------------------------------------------------------------------

/**
 * Return whether the next attempt may get another answer.
 * @param {ProblemError | UnansweredError} error
 * @returns {boolean}
 */
function isTransient(error) {
  if (error instanceof UnansweredError) return true;
  const { status, code } = error;
  return status >= 500 || status === 429 || (status === 409 && code === "idempotency_request_in_progress");
}

/**
 * Return whether the server has refused the request without any effect.
 * @param {ProblemError | UnansweredError} error
 * @returns {boolean}
 */
function isRefusal(error) {
  return error instanceof ProblemError && error.status < 500 && error.status !== 409;
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
 * Return a promise that is rejected when the signal aborts.
 * @param {AbortSignal} signal
 * @param {AbortSignal} [until] ends the listening
 * @returns {Promise<never>}
 */
function aborted(signal, until) {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true, signal: until });
  });
}

/**
 * Sleep; wake early when the network is back, and reject when the call is cancelled.
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @param {boolean} untilOnline
 * @returns {Promise<void>}
 */
async function sleep(milliseconds, signal, untilOnline) {
  const listening = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let timer;
  const slept = new Promise((resolve) => {
    timer = setTimeout(resolve, milliseconds);
    if (untilOnline) globalThis.window?.addEventListener("online", resolve, { signal: listening.signal });
  });
  try {
    await Promise.race([slept, aborted(signal, listening.signal)]);
  } finally {
    clearTimeout(timer);
    listening.abort();
  }
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

/**
 * @param {unknown} value
 * @returns {boolean} false for NaN
 */
function isNumber(value) {
  return typeof value === "number" && !Number.isNaN(value);
}

/** @returns {string} Django's CSRF token; empty without the cookie */
export function csrfCookie() {
  return /(?:^|;\s*)csrftoken=([^;]*)/.exec(globalThis.document?.cookie ?? "")?.[1] ?? "";
}

/**
 * A call on the wire, and the callers who wait for it.
 * @typedef {object} Call
 * @property {Promise<Result>} result
 * @property {Set<PostOptions>} callers
 * @property {AbortController} wire aborted when the last caller has left
 * @property {Attempt | null} latest
 */

/**
 * Tell a caller of an attempt, later: an error in its function must not lose the request.
 * @param {PostOptions} caller
 * @param {Attempt} attempt
 */
function tell(caller, attempt) {
  queueMicrotask(() => caller.onAttempt?.(attempt));
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
  ttl = TTL,
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
  if (!(isNumber(ttl) && ttl > 0)) throw new TypeError("ttl must be seconds, a number above 0");
  if (!(isNumber(timeout) && timeout > 0 && timeout <= TIMER_MAX)) {
    throw new TypeError(`timeout must be ms, a number above 0 and at most ${TIMER_MAX}`);
  }
  if (![retries, backoff].every((number) => isNumber(number) && number >= 0)) {
    throw new TypeError("retries and backoff must be numbers, at least 0");
  }
  /** @type {Map<string, Call>} */ const running = new Map();
  const { draftKey, forget, firstSent, markSent, markUnsent } = createDraftKeys(operation, storage);

  /**
   * Send `payload` until there is an answer. The same call while it runs (a double click) is not sent again: each caller
   * gets its answer, and can leave by its own `signal`.
   * @param {string} url
   * @param {unknown} payload
   * @param {PostOptions} [options]
   * @returns {Promise<Result>}
   * @throws {ConflictError | ProblemError | UnansweredError | ExpiredKeyError} or the reason of `signal`
   */
  function post(url, payload, options = {}) {
    const { key, nonce, signal } = options;
    const body = canonical(payload);
    if (key !== undefined && !(typeof key === "string" && TOKEN.test(key))) {
      throw new TypeError("a key must be a string: 1-255 characters of A-Z a-z 0-9 _ . : ~ -");
    }
    if (nonce !== undefined && typeof nonce !== "string") throw new TypeError("a nonce must be a string");
    if (signal?.aborted) return Promise.reject(signal.reason);
    const identity = JSON.stringify([url, key, nonce, body]);
    const call = running.get(identity) ?? start(identity, url, body, options);
    const caller = { ...options };
    call.callers.add(caller);
    if (call.latest) tell(caller, call.latest);
    if (!signal) return call.result;
    return new Promise((resolve, reject) => {
      const listening = new AbortController();
      const leave = () => {
        call.callers.delete(caller);
        if (call.callers.size === 0) {
          end(identity, call); // nobody joins an aborted call
          call.wire.abort(signal.reason);
        }
        reject(signal.reason);
      };
      signal.addEventListener("abort", leave, { signal: listening.signal });
      call.result.finally(() => listening.abort()).then(resolve, reject);
    });
  }

  /**
   * Begin a call. It runs after its first caller has joined.
   * @param {string} identity
   * @param {string} url
   * @param {string} body
   * @param {PostOptions} options
   * @returns {Call}
   */
  function start(identity, url, body, options) {
    const result = Promise.resolve()
      .then(() => deliver(call, url, body, options))
      .finally(() => end(identity, call));
    /** @type {Call} */ const call = { result, callers: new Set(), wire: new AbortController(), latest: null };
    running.set(identity, call);
    return call;
  }

  /**
   * @param {string} identity
   * @param {Call} call
   */
  function end(identity, call) {
    if (running.get(identity) === call) running.delete(identity);
  }

  /**
   * @param {Call} call
   * @param {string} url
   * @param {string} body
   * @param {PostOptions} options
   * @returns {Promise<Result>}
   */
  async function deliver(call, url, body, { key: own, nonce, firstSentAt }) {
    const { signal } = call.wire;
    const key =
      own === undefined ? await contentKey({ environment, operation, nonce }, body) : `${environment}|${operation}|${own}`;
    // A time that was kept as text would make `first + ttl` a text, too.
    let first = firstSentAt == null ? (own === undefined ? null : firstSent(own)) : Number(firstSentAt);
    /** @type {ProblemError | UnansweredError | null} */ let cause = null;
    let mayHaveWorked = first !== null;
    /** @type {string | null} */ let mark = null;
    let renewed = false;
    for (let attempt = 1; ; attempt++) {
      signal.throwIfAborted();
      const sentBefore = first;
      const admit = () => {
        if (sentBefore === null || isRemembered(sentBefore)) return;
        throw new ExpiredKeyError(key, attempt - 1, sentBefore, cause);
      };
      admit();
      first ??= Date.now();
      if (own !== undefined) mark = markSent(own, first, mark);
      call.latest = { attempt, of: retries + 1, key, firstSentAt: first, cause };
      for (const caller of call.callers) tell(caller, call.latest);
      const outcome = await send(url, body, { key, attempt, refused: cause?.status === 401, signal, admit });
      if (!(outcome instanceof Error)) return outcome;
      cause = outcome;
      mayHaveWorked ||= !isRefusal(outcome);
      if (!mayHaveWorked && own !== undefined) markUnsent(own, mark);
      const renew = outcome.status === 401 && typeof token === "function" && !renewed;
      if (attempt > retries || !(renew || isTransient(outcome))) throw outcome;
      if ((outcome.retryAfter ?? 0) > RETRY_AFTER_MAX) throw outcome;
      if (renew) renewed = true;
      else await sleep(pause(attempt, backoff, outcome.retryAfter), signal, outcome instanceof OfflineError);
    }
  }

  /**
   * Return whether the server still knows the key when an attempt that begins now arrives.
   * @param {number} first ms since the epoch, when the key was sent first
   */
  function isRemembered(first) {
    const now = Date.now();
    return first <= now + CLOCK_STEP && now + timeout < first + ttl * 1000; // false for NaN, too
  }

  /**
   * Make one attempt, and return its result or its error.
   * @param {string} url
   * @param {string} body
   * @param {{key: string, attempt: number, refused: boolean, signal: AbortSignal, admit: () => void}} options
   * @returns {Promise<Result | ProblemError | UnansweredError>}
   */
  async function send(url, body, { key, attempt, refused, signal, admit }) {
    const request = new AbortController();
    const cancel = () => request.abort();
    signal.addEventListener("abort", cancel);
    let timedOut = false;
    const deadline = setTimeout(() => {
      timedOut = true;
      request.abort();
    }, timeout);
    let failure = "token(), headers() or csrf() failed. Nothing was sent.";
    const exchange = async () => {
      const sentHeaders = await requestHeaders(url, key, attempt, refused);
      request.signal.throwIfAborted(); // the attempt may have ended before token() did
      admit(); // a laptop may have slept meanwhile
      failure = "The server cannot be reached.";
      const response = await fetch(url, {
        method: "POST",
        headers: sentHeaders,
        body,
        credentials: token === undefined ? "same-origin" : "omit",
        redirect: "error", // a sign-in page is no answer
        cache: "no-store",
        signal: request.signal,
      });
      failure = "The answer broke off.";
      return readAnswer(response, await response.text(), key, attempt);
    };
    try {
      return await Promise.race([exchange(), aborted(request.signal)]);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ExpiredKeyError) throw error;
      return timedOut
        ? new TimeoutError(`No answer within ${timeout / 1000} s.`, key, attempt, error)
        : new OfflineError(failure, key, attempt, error);
    } finally {
      clearTimeout(deadline);
      signal.removeEventListener("abort", cancel);
    }
  }

  /**
   * @param {string} url
   * @param {string} key
   * @param {number} attempt
   * @param {boolean} refused whether the last attempt's token was
   * @returns {Promise<Headers>}
   */
  async function requestHeaders(url, key, attempt, refused) {
    const all = new Headers({
      Accept: "application/json, application/problem+json",
      "Content-Type": "application/json",
    });
    // Whatever the case of their names: fetch joins two spellings of one.
    new Headers((typeof headers === "function" ? await headers() : headers) ?? {}).forEach((value, name) => all.set(name, value));
    all.set("Idempotency-Key", key);
    if (attempt > 1) all.set("Prefer", `wait=${WAIT}`);
    const bearer = typeof token === "function" ? await token({ refused }) : token;
    if (bearer) all.set("Authorization", `Bearer ${bearer}`);
    if (csrf && isOwnOrigin(url)) all.set("X-CSRFToken", typeof csrf === "function" ? await csrf() : csrfCookie());
    return all;
  }

  return { post, draftKey, forget };
}

/**
 * Read an answer, and tell whether the server gave it. Its success has `Idempotency-Status`; its error is a problem with a
 * code, or repeats the key. A proxy's 413, 429 or 5xx means what it says. Anything else is no answer.
 * @param {Response} response
 * @param {string} text
 * @param {string} key
 * @param {number} attempts
 * @returns {Result | ProblemError | UnansweredError}
 */
function readAnswer(response, text, key, attempts) {
  const { ok, status: code, headers } = response;
  const status = headers.get("Idempotency-Status");
  const type = headers.get("Content-Type") ?? "";
  if (ok && (status === "created" || status === "replayed")) {
    const hasBody = text || /\bjson\b/i.test(type); // JSON without a character has lost them
    return { status, response, body: hasBody ? JSON.parse(text) : null, text, key, attempts };
  }
  const problem = ok ? null : parse(text);
  const isProblem = /^application\/problem\+json\b/i.test(type) && problem?.code;
  const isOwn = isProblem || headers.get("Idempotency-Key") === key || code === TOO_LARGE || code === 429 || code >= 500;
  if (ok || !isOwn) return new ForeignAnswerError(response, key, attempts);
  const reused = code === 409 && problem?.code === "idempotency_key_reused";
  return new (reused ? ConflictError : ProblemError)(response, problem, key, attempts);
}

/**
 * @param {string} text
 * @returns {any} null when it is no JSON
 */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
