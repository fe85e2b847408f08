/**
 * Telemetry events, and the request bodies that carry them.
 */

import { randomUuid } from "./identity.js";

/**
 * One event, as sent and as in the exported `telemetry-buffer.json`.
 * @typedef {object} TelemetryEvent
 * @property {string} id
 * @property {string} event such as `heartbeat`, `migration_succeeded`, `migration_failed`, `validation_error`
 * @property {string} category `error`, `migration` or `usage`
 * @property {boolean} ok
 * @property {string} at ISO 8601, by this browser's clock
 * @property {string | null} flag
 * @property {string | null} variant
 * @property {string | null} detail at most 500 characters
 */

/**
 * @typedef {object} RecordOptions
 * @property {string} [category] by default `error` when not ok, `migration` for events of that name, else `usage`
 * @property {boolean} [ok] by default false for `…_failed`, `…_failure`, `…error` and `…_warning`
 * @property {string | null} [flag]
 * @property {string | null} [variant]
 * @property {unknown} [detail] a text, or a value that JSON has
 */

export const BUFFER_SIZE = 200; // events (runbook, "Monitoring False Positives")
export const DETAIL_LENGTH = 500; // characters
const BODY_SIZE = 60_000; // bytes; browsers refuse more than 64 KiB with keepalive, and as a beacon

/**
 * Cut a detail to 500 characters, never through a surrogate pair.
 * @param {unknown} detail
 * @returns {string | null}
 */
export function truncate(detail) {
  if (detail === undefined || detail === null) return null;
  let text;
  try {
    text = typeof detail === "string" ? detail : detail instanceof Error ? String(detail) : JSON.stringify(detail);
  } catch {
    text = String(detail); // a cycle, a BigInt
  }
  text = String(text).replace(/\p{Surrogate}/gu, "\ufffd"); // a server refuses half a pair
  return text.length <= DETAIL_LENGTH ? text : text.slice(0, DETAIL_LENGTH - 1).replace(/[\ud800-\udbff]$/, "") + "…";
}

/**
 * Build an event with its defaults.
 * @param {string} event
 * @param {RecordOptions} options
 * @returns {TelemetryEvent}
 */
export function makeEvent(event, { ok, category, flag = null, variant = null, detail }) {
  const succeeded = ok ?? !/(_failed|_failure|error|_warning)$/.test(event);
  return {
    id: randomUuid(),
    event,
    category: category ?? (succeeded ? (event.startsWith("migration") ? "migration" : "usage") : "error"),
    ok: succeeded,
    at: new Date().toISOString(),
    flag,
    variant,
    detail: truncate(detail),
  };
}

/**
 * Split events into request bodies of at most 200 events and 60,000 bytes each.
 * @param {TelemetryEvent[]} events
 * @param {Record<string, unknown>} envelope `clientId`, `sessionId`, `sentAt`, `dropped`
 * @returns {{ids: string[], body: string}[]}
 */
export function toBatches(events, envelope) {
  const frame = byteLength(JSON.stringify({ ...envelope, events: [] }));
  /** @type {TelemetryEvent[][]} */ const batches = [];
  let size = Infinity;
  for (const event of events) {
    const length = byteLength(JSON.stringify(event)) + 1;
    if (size + length > BODY_SIZE || /** @type {TelemetryEvent[]} */ (batches.at(-1)).length === BUFFER_SIZE) {
      batches.push([]);
      size = frame;
    }
    batches.at(-1)?.push(event);
    size += length;
  }
  return batches.map((batch) => ({
    ids: batch.map(({ id }) => id),
    body: JSON.stringify({ ...envelope, events: batch }),
  }));
}

/** @param {string} text */
function byteLength(text) {
  return new TextEncoder().encode(text).length;
}
