/**
 * Sends a draft until there is an answer: the same bytes under the same key, in one tab at a time.
 */

import { ConflictError, ProblemError, UnansweredError, createClient, readRetryAfter } from "../../idempotency/client.js";
import { withLock } from "./locks.js";

/** @typedef {import("./layouts.js").Draft} Draft */
/** @typedef {import("./layouts.js").Submission} Submission */
/** @typedef {import("./locks.js").Locks} Locks */
/** @typedef {"created" | "replayed" | "conflict"} Outcome */

const SENDING = "fundSetup:sending"; // the lock of the one tab that sends
const ROUND_PAUSES = /** @type {const} */ ([5, 10, 20, 30]); // s between rounds, after the client's own retries
const KEY_LIFE = 23 * 3600 * 1000; // ms; the server forgets a key after 24 h, and would then create a second fund

/**
 * @typedef {object} Options
 * @property {string} environment
 * @property {string} url of `POST /api/funds`
 * @property {() => string} csrf
 * @property {() => Record<string, string>} headers more headers of each attempt
 * @property {Locks | null} locks
 * @property {() => Draft} latest returns the page's draft, after taking over what another tab has saved
 * @property {() => Draft} current returns the page's draft
 * @property {() => void} onProgress a request began or ended
 * @property {(status: number, code: string | undefined, seconds: number | null) => void} onWait an attempt failed
 *   (status 0: without an answer), and another follows in `seconds`
 * @property {(submission: Submission, state: Outcome, fundId: number | null) => void} onAnswer
 * @property {(error: unknown) => void} onFailure the error is final
 * @property {(submission: Submission) => Promise<void>} onExpired the server may have forgotten the key
 */

/** @param {Options} options */
export function createSender({
  environment,
  url,
  csrf,
  headers,
  locks,
  latest,
  current,
  onProgress,
  onWait,
  onAnswer,
  onFailure,
  onExpired,
}) {
  const client = createClient({ environment, operation: "fund-create", csrf, headers, fetch: sendExactly });
  /** @type {AbortController | null} */ let request = null; // the one that runs in this tab
  /** @type {(() => void) | null} */ let wake = null; // ends the pause before the next round
  let running = false;

  /**
   * Send the JSON text of a fund. The client writes a payload as JSON, which would round numbers. So its payload is the
   * JSON text itself, and this function takes the text out of its quotes again.
   * @param {string} url
   * @param {RequestInit} init
   * @returns {Promise<Response>}
   */
  async function sendExactly(url, init) {
    try {
      const response = await fetch(url, { ...init, body: JSON.parse(String(init.body)) });
      const code = response.status === 409 ? (await response.clone().json().catch(() => null))?.code : undefined;
      onWait(response.status, code, readRetryAfter(response.headers.get("Retry-After"), response.headers.get("Date")));
      return response;
    } catch (error) {
      if (!init.signal?.aborted) onWait(0, undefined, null);
      throw error;
    }
  }

  /** Send a pending draft until there is an answer. When this tab is closed, the next one goes on. */
  async function run() {
    if (running) return;
    running = true;
    try {
      await (locks ? withLock(locks, SENDING, rounds) : rounds());
    } finally {
      running = false;
    }
    if (current().submission?.state === "pending") run(); // submitted again while it was being stopped
  }

  async function rounds() {
    for (let round = 0; ; round++) {
      const { submission } = latest();
      if (submission?.state !== "pending") return;
      if (Date.now() - submission.at > KEY_LIFE) {
        await onExpired(submission);
        return;
      }
      if (!navigator.onLine) {
        onWait(0, undefined, null);
        await pause(Infinity);
      } else {
        const seconds = await send(submission, ROUND_PAUSES[Math.min(round, ROUND_PAUSES.length - 1)] ?? 30);
        if (seconds === null) return;
        await pause(seconds);
      }
    }
  }

  /**
   * Wait, until `wake` ends the pause early.
   * @param {number} seconds
   * @returns {Promise<void>}
   */
  function pause(seconds) {
    return new Promise((resolve) => {
      const timer = Number.isFinite(seconds) ? setTimeout(resolve, seconds * 1000) : undefined;
      wake = () => {
        clearTimeout(timer);
        wake = null;
        resolve();
      };
    });
  }

  /**
   * @param {Submission} submission
   * @param {number} again seconds to the next round, unless the server asks for more
   * @returns {Promise<number | null>} seconds to the next round; null when there is no other round
   */
  async function send(submission, again) {
    const { nonce } = current();
    const controller = new AbortController();
    request = controller;
    onProgress();
    try {
      const result = await client.post(url, submission.body, { key: nonce, signal: controller.signal });
      if (current().nonce !== nonce) return null; // another tab has started another draft
      onAnswer(submission, result.status, result.body?.id ?? null);
      return null;
    } catch (error) {
      if (controller.signal.aborted) return null;
      return afterError(submission, error, again);
    } finally {
      request = null;
      onProgress();
    }
  }

  /**
   * @param {Submission} submission
   * @param {unknown} error
   * @param {number} again
   * @returns {number | null} as `send`
   */
  function afterError(submission, error, again) {
    if (error instanceof ConflictError) {
      onAnswer(submission, "conflict", null);
      return null;
    }
    if (error instanceof UnansweredError) {
      onWait(0, undefined, again);
      return again;
    }
    if (error instanceof ProblemError && isTransient(error)) {
      const seconds = Math.max(again, error.retryAfter ?? 0);
      onWait(error.status, error.code, seconds);
      return seconds;
    }
    onFailure(error);
    return null;
  }

  return {
    run,
    /** True while a request is on its way. */
    get busy() {
      return request !== null;
    },
    /** End the request that runs. */
    abort() {
      request?.abort();
    },
    /** End the pause before the next round. */
    wake() {
      wake?.();
    },
  };
}

/**
 * Return whether another round may get another answer. After a 500 it may not: the client has tried seven times.
 * @param {ProblemError} problem
 */
function isTransient({ status, code }) {
  return code === "idempotency_request_in_progress" || [429, 502, 503, 504].includes(status);
}
