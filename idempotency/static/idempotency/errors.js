/**
 * Errors of a POST: the server refused it, or no answer came.
 */

/** The server answered with an error: an `application/problem+json` (RFC 9457), or a proxy's own. */
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
export class UnansweredError extends Error {
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
