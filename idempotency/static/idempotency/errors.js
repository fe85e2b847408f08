/**
 * Errors of a POST: the server refused it, no answer came, or its key may be forgotten.
 */

const RETRY_AFTER_MAX = 24 * 3600; // s; above it a server means "not today", and timers of browsers overflow

/** The server answered with an error, an `application/problem+json` (RFC 9457); or a proxy with 413, 429 or 5xx. */
export class ProblemError extends Error {
  name = "ProblemError";

  /**
   * @param {Response} response
   * @param {Record<string, unknown> | null} problem
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
    this.retryAfter = retryAfterOf(response);
    /** The body; null where it is no problem. */
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
export class UnansweredError extends Error {
  /** Of a foreign answer. */
  status = 0;
  /** @type {number | null} seconds */ retryAfter = null;

  /**
   * @param {string} message
   * @param {string} key
   * @param {number} attempts
   * @param {unknown} [cause]
   */
  constructor(message, key, attempts, cause) {
    super(message, { cause });
    this.key = key;
    this.attempts = attempts;
  }
}

/** No network, a server that cannot be reached, or a `token()`, `headers()` or `csrf()` that failed: see `cause`. */
export class OfflineError extends UnansweredError {
  name = "OfflineError";
}

/** The server, or `token()`, did not answer in time. */
export class TimeoutError extends UnansweredError {
  name = "TimeoutError";
}

/** Something on the way answered in place of the server: a proxy, a sign-in page of the network. */
export class ForeignAnswerError extends UnansweredError {
  name = "ForeignAnswerError";

  /**
   * @param {Response} response
   * @param {string} key
   * @param {number} attempts
   */
  constructor(response, key, attempts) {
    const missing = response.ok ? "no readable Idempotency-Status" : "no problem of the server";
    const answer = `${response.status}, ${missing}`;
    super(`Something other than the server answered (${answer}): check the network, then send again.`, key, attempts);
    this.status = response.status;
    this.response = response;
    this.retryAfter = retryAfterOf(response);
  }
}

/**
 * The server may have forgotten the key, so nothing was sent: a request that took effect would take effect again. Show
 * the newest results; only a person can tell whether to send it as a new one.
 */
export class ExpiredKeyError extends Error {
  name = "ExpiredKeyError";

  /**
   * @param {string} key
   * @param {number} attempts sent by this call
   * @param {number} firstSentAt ms since the epoch; NaN: unknown
   * @param {unknown} cause the error of the last attempt; null without one
   */
  constructor(key, attempts, firstSentAt, cause) {
    const known = !Number.isNaN(firstSentAt);
    const when = known ? `on ${new Date(firstSentAt).toUTCString()}` : "at an unknown time";
    super(`First sent ${when}, so the server may have forgotten the key: check whether it took effect.`, { cause });
    this.key = key;
    this.attempts = attempts;
    /** Null: unknown. */
    this.firstSentAt = known ? firstSentAt : null;
  }
}

/**
 * Return how long the server wants to be left alone.
 * @param {Response} response
 * @returns {number | null} seconds
 */
function retryAfterOf({ headers }) {
  return readRetryAfter(headers.get("Retry-After"), headers.get("Date"));
}

/**
 * Read `Retry-After`: seconds, or a date (RFC 9110). A date is by the server's clock, so it is compared with the answer's
 * own `Date`, and with the browser's clock only where that cannot be read.
 * @param {string | null} value
 * @param {string | null} [date] the answer's `Date`
 * @returns {number | null} seconds, at most a day
 */
export function readRetryAfter(value, date = null) {
  if (!value) return null;
  const until = readDate(value);
  const seconds = /^\s*\d+\s*$/.test(value) ? Number(value) : (until - (readDate(date) || Date.now())) / 1000;
  return Number.isNaN(seconds) ? null : Math.min(Math.max(0, seconds), RETRY_AFTER_MAX);
}

/**
 * Read an HTTP-date in any of its three forms. The oldest has no zone, and means GMT.
 * @param {string | null} value
 * @returns {number} ms; NaN when it is none
 */
function readDate(value) {
  if (!/^\s*[A-Z][a-z]+,? .*\d\d:\d\d:\d\d/.test(value ?? "")) return NaN;
  return Date.parse(/GMT\s*$/.test(value ?? "") ? `${value}` : `${value} GMT`);
}
