/**
 * Sends a draft until there is an answer: the same bytes under the same key, in one tab at a time.
 */

import {
  ConflictError,
  ExpiredKeyError,
  ForeignAnswerError,
  ProblemError,
  UnansweredError,
  createClient,
  readRetryAfter,
} from "../../idempotency/client.js";
import { withLock } from "./locks.js";

/** @typedef {import("./layouts.js").Draft} Draft */
/** @typedef {import("./layouts.js").Submission} Submission */
/** @typedef {import("./locks.js").Locks} Locks */
/** @typedef {"created" | "replayed" | "conflict"} Outcome */

const SENDING = "fundSetup:sending"; // the lock of the one tab that sends
const FOREIGN = "foreign_answer"; // in place of a problem's code
const ROUND_PAUSES = /** @type {const} */ ([5, 10, 20, 30]); // s between rounds, after the client's own retries

/**
 * @typedef {object} Options
 * @property {string} environment
 * @property {string} url of `POST /api/funds`
 * @property {number} ttl s that the server remembers a key
 * @property {() => string} csrf
 * @property {() => Record<string, string>} headers more headers of each attempt
 * @property {Locks | null} locks
 * @property {() => Draft} latest returns the page's draft, after taking over what another tab has saved
 * @property {() => Draft} current returns the page's draft
 * @property {() => number | undefined} firstSentAt returns when the draft's key was first sent, in ms
 * @property {(at: number) => void} onFirstSending the draft's key is about to be sent for the first time, in ms
 * @property {() => void} onProgress a request began or ended
 * @property {(status: number, code: string | undefined, seconds: number | null) => void} onWait an attempt failed
 *   (status 0: without an answer), and another follows in `seconds`
 * @property {(submission: Submission, state: Outcome, fundId: number | null) => void} onAnswer
 * @property {(error: unknown, unanswered: boolean) => void} onFailure the error is final; `unanswered` when an earlier
 *   request of the same key may have created the fund
 * @property {(submission: Submission) => void} onExpired the server may have forgotten the key: it was not sent again
 */

/** @param {Options} options */
export function createSender({
  environment,
  url,
  ttl,
  csrf,
  headers,
  locks,
  latest,
  current,
  firstSentAt,
  onFirstSending,
  onProgress,
  onWait,
  onAnswer,
  onFailure,
  onExpired,
}) {
  const client = createClient({ environment, operation: "fund-create", ttl, csrf, headers, fetch: sendExactly });
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
    const sentBefore = firstSentAt();
    /** @param {{firstSentAt: number, cause: Error | null}} attempt */
    const note = (attempt) => {
      if (firstSentAt() === undefined && current().nonce === nonce) onFirstSending(attempt.firstSentAt);
      if (attempt.cause instanceof ForeignAnswerError) onWait(attempt.cause.status, FOREIGN, null);
    };
    request = controller;
    onProgress();
    try {
      const result = await client.post(url, submission.body, {
        key: nonce,
        firstSentAt: sentBefore,
        signal: controller.signal,
        onAttempt: note,
      });
      if (current().nonce !== nonce) return null; // another tab has started another draft
      onAnswer(submission, result.status, result.body?.id ?? null);
      return null;
    } catch (error) {
      if (controller.signal.aborted) return null;
      return afterError(submission, error, { again, first: sentBefore === undefined });
    } finally {
      request = null;
      onProgress();
    }
  }

  /**
   * @param {Submission} submission
   * @param {unknown} error
   * @param {{again: number, first: boolean}} round `first`: the key had never been sent before
   * @returns {number | null} as `send`
   */
  function afterError(submission, error, { again, first }) {
    if (error instanceof ExpiredKeyError) {
      onExpired(submission);
      return null;
    }
    if (error instanceof ConflictError) {
      onAnswer(submission, "conflict", null);
      return null;
    }
    if (error instanceof UnansweredError || (error instanceof ProblemError && isTransient(error))) {
      const seconds = Math.max(again, error.retryAfter ?? 0);
      const code = error instanceof ProblemError ? error.code : undefined;
      onWait(error.status, error instanceof ForeignAnswerError ? FOREIGN : code, seconds);
      return seconds;
    }
    const refused = error instanceof ProblemError && error.status < 500; // a 5xx may come from a proxy on the way
    onFailure(error, !(refused && first && error.attempts === 1));
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
