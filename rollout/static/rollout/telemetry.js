/**
 * Telemetry of this browser: the last 200 events, sent where an intake is named.
 *
 *     import { createTelemetry } from "https://funds.example.com/static/rollout/telemetry.js";
 *     const telemetry = createTelemetry({
 *       endpoint: "/api/telemetry",
 *       flag: "USE_FUND_STORE",
 *       variant: () => rollouts.variant("USE_FUND_STORE"),
 *       ready: rollouts.refresh,
 *       ticket: ticketSource(),
 *     });
 *     telemetry.record("migration_succeeded");
 *     telemetry.record("migration_failed", { detail: error.message });
 *
 * Without an `endpoint` nothing is sent, and support downloads the buffer: `telemetry.download()`.
 * An event stays until the server has acknowledged it; its id makes sending it twice harmless.
 */

import { randomUuid, stableUuid } from "./identity.js";
import { browserStorage, getItem, setItem } from "./storage.js";
import { BUFFER_SIZE, makeEvent, toBatches, truncate } from "./telemetry-events.js";

export { BUFFER_SIZE, DETAIL_LENGTH, makeEvent, toBatches, truncate } from "./telemetry-events.js";
export { ticketSource } from "./telemetry-ticket.js";

/** @typedef {import("./storage.js").StorageLike} StorageLike */
/** @typedef {import("./telemetry-events.js").RecordOptions} RecordOptions */
/** @typedef {import("./telemetry-events.js").TelemetryEvent} TelemetryEvent */
/** @typedef {import("./telemetry-ticket.js").Ticket} Ticket */

const FLUSH_INTERVAL = 10_000; // ms
const FLUSH_INTERVAL_MAX = 300_000; // ms; after repeated failures
const HEARTBEAT_INTERVAL = 60_000; // ms; the judge evaluates every minute
const FETCH_TIMEOUT = 10_000; // ms
const TICKET_PAUSE = 60_000; // ms between two requests for a ticket, whatever the browser's clock says
const TICKET_SHARE = 0.8; // of a ticket's time, after which it is renewed
const SAVE_DELAY = 250; // ms; a crash of the browser loses as much
const SESSION_KEY = "rollouts.session"; // sessionStorage: survives a reload, ends with the tab

/**
 * @typedef {object} Options
 * @property {string | null} [endpoint] of the intake, such as `/api/telemetry`; null keeps the buffer and sends nothing
 * @property {string | null} [flag] written into each event that names no other
 * @property {string | null | (() => string | null)} [variant] the same, asked for each event: `() => rollouts.variant(…)`;
 *   null while it is not known, and then the judge counts the event in no sample
 * @property {() => unknown} [ready] waited for before each heartbeat, ten seconds at most, so that its variant is known
 *   and fresh: `rollouts.refresh`
 * @property {Ticket | string | null | (() => Promise<Ticket | string | null>)} [ticket] of the signed-in user; a function,
 *   such as `ticketSource()`, is asked for the first and for each new one
 * @property {boolean} [consoleHooks] also record `console.warn` and `console.error`
 * @property {number} [flushInterval] ms
 * @property {number} [heartbeatInterval] ms
 * @property {(url: string, init: RequestInit) => Promise<Response>} [fetch]
 * @property {StorageLike | null} [storage] where the browser's uuid lives
 * @property {StorageLike | null} [sessionStorage] where the session and its events live through a reload
 * @property {EventTarget & {hidden: boolean}} [document]
 * @property {EventTarget} [events] receives `error`, `unhandledrejection`, `pagehide`, `online`: the window
 * @property {{onLine?: boolean, sendBeacon?: (url: string, body: string) => boolean}} [navigator]
 */

/**
 * @typedef {object} Telemetry
 * @property {string} clientId the browser's uuid
 * @property {string} sessionId of this tab
 * @property {number} dropped events of this session that were pushed out before the server acknowledged them
 * @property {(event: string, options?: RecordOptions) => TelemetryEvent} record
 * @property {() => Promise<void>} flush send unsent events now; never rejects
 * @property {() => TelemetryEvent[]} export the last 200 events, as in `telemetry-buffer.json`
 * @property {() => void} download save them as `telemetry-buffer.json`
 * @property {() => void} stop no more events, no more requests
 */

/**
 * Return an interval that timers keep: NaN, 0, or more than 24 days would fire without a pause.
 * @param {number} interval
 * @param {number} usual
 */
function milliseconds(interval, usual) {
  return interval > 0 ? Math.min(interval, 2 ** 31 - 1) : usual;
}

/**
 * Record this page's events, and send them where `endpoint` says.
 * @param {Options} [options]
 * @returns {Telemetry}
 */
export function createTelemetry({
  endpoint = null,
  flag = null,
  variant = null,
  ready,
  ticket = null,
  consoleHooks = false,
  flushInterval = FLUSH_INTERVAL,
  heartbeatInterval = HEARTBEAT_INTERVAL,
  fetch = (input, init) => globalThis.fetch(input, init),
  storage = browserStorage(),
  sessionStorage = browserStorage("sessionStorage"),
  document = globalThis.document,
  events = globalThis.window ?? new EventTarget(),
  navigator = globalThis.navigator,
} = {}) {
  const clientId = stableUuid(storage);
  const session = restore();
  const lifetime = new AbortController();
  let failures = 0;
  let intake = endpoint; // null once the server has answered that it takes no telemetry
  let beating = false; // a heartbeat waits for `ready`
  /** @type {{text: string, renewAt: number} | null} */ let current = typeof ticket === "function" ? null : taken(ticket);
  /** @type {Promise<void> | null} */ let renewing = null;
  let askedAt = 0; // ms
  /** @type {Promise<void> | null} */ let inFlight = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let saving;

  /** @returns {{id: string, dropped: number, unsent: string[], events: TelemetryEvent[]}} */
  function restore() {
    try {
      const saved = JSON.parse(getItem(sessionStorage, SESSION_KEY) ?? "");
      if (typeof saved.id === "string" && Array.isArray(saved.unsent) && Array.isArray(saved.events)) {
        return { id: saved.id, dropped: Number(saved.dropped) || 0, unsent: saved.unsent, events: saved.events };
      }
    } catch {
      // the first page of this tab
    }
    return { id: randomUuid(), dropped: 0, unsent: [], events: [] };
  }

  /** Save after a delay: an error in an animation would write the whole buffer sixty times a second. */
  function saveSoon() {
    saving ??= setTimeout(save, SAVE_DELAY);
  }

  function save() {
    clearTimeout(saving);
    saving = undefined;
    setItem(sessionStorage, SESSION_KEY, JSON.stringify(session));
  }

  /**
   * Record an event. The 201st pushes out the oldest, which counts as dropped when it was never acknowledged.
   * @param {string} event
   * @param {RecordOptions} [options]
   * @returns {TelemetryEvent}
   */
  function record(event, options = {}) {
    const current = typeof variant === "function" ? variant() : variant;
    const recorded = makeEvent(event, { flag, variant: current, ...options });
    session.events.push(recorded);
    session.unsent.push(recorded.id);
    while (session.events.length > BUFFER_SIZE) {
      const oldest = session.events.shift();
      const unsent = session.unsent.filter((id) => id !== oldest?.id);
      session.dropped += session.unsent.length - unsent.length;
      session.unsent = unsent;
    }
    saveSoon();
    return recorded;
  }

  /** Record that this session is alive, once its variant is known. One unsent heartbeat is enough. */
  async function heartbeat() {
    if (beating || !isHeartbeatDue()) return;
    if (ready) {
      beating = true;
      await within(FETCH_TIMEOUT, ready).catch(() => {});
      beating = false;
      if (lifetime.signal.aborted || !isHeartbeatDue()) return;
    }
    record("heartbeat");
  }

  function isHeartbeatDue() {
    const unsent = new Set(session.unsent);
    return !document?.hidden && !session.events.some(({ id, event }) => event === "heartbeat" && unsent.has(id));
  }

  /**
   * Get a new ticket when there is none or it will expire, and return the promise, if there is one to wait for. It never
   * rejects: events go without a ticket, too.
   */
  function renewTicket() {
    const now = Date.now();
    const fresh = current !== null && now < current.renewAt;
    const early = Math.abs(now - askedAt) < TICKET_PAUSE;
    if (renewing || fresh || early || typeof ticket !== "function") return renewing;
    askedAt = now;
    renewing = within(FETCH_TIMEOUT, ticket)
      .then((issued) => {
        current = taken(issued);
      })
      .catch(() => {}) // offline, 429, 5xx: the old one is used while the server accepts it
      .finally(() => {
        renewing = null;
      });
    return renewing;
  }

  function batches() {
    const unsent = new Set(session.unsent);
    return toBatches(
      session.events.filter(({ id }) => unsent.has(id)),
      // dropped: of this session so far, so that sending it twice does not count it twice
      {
        clientId,
        sessionId: session.id,
        sentAt: new Date().toISOString(),
        dropped: session.dropped,
        ticket: current?.text, // JSON leaves out what is undefined
      },
    );
  }

  /**
   * @param {string[]} ids
   */
  function acknowledge(ids) {
    session.unsent = session.unsent.filter((id) => !ids.includes(id));
    saveSoon();
  }

  async function send() {
    const renewal = renewTicket();
    if (renewal) await renewal;
    for (const { ids, body } of batches()) {
      const timeout = new AbortController();
      const deadline = setTimeout(() => timeout.abort(), FETCH_TIMEOUT);
      try {
        const response = await fetch(/** @type {string} */ (intake), {
          method: "POST",
          headers: { "Content-Type": "text/plain;charset=UTF-8" }, // as a beacon: no preflight from other origins
          body,
          keepalive: true,
          signal: timeout.signal,
        });
        const { ok, status } = response;
        // JSON is the server's; a page in its place is a proxy's, or a hotel's, and tells nothing
        const answer = await response.json().catch(() => null);
        if (answer && (status === 404 || status === 405)) intake = null; // no intake at this address
        else if (status === 413 || (answer && status === 400)) session.dropped += ids.length; // refused for good
        else if (!ok || !Number.isInteger(answer?.accepted)) throw new Error(`no telemetry's answer: ${status}`);
        if (intake === null) return;
        acknowledge(ids);
        failures = 0;
        if (current && answer?.ticket) {
          current = null; // refused
          return; // the rest goes with the next one
        }
      } catch {
        failures += 1; // offline, 429, 5xx, a page of somebody else: kept, and tried again later
        return;
      } finally {
        clearTimeout(deadline);
      }
    }
  }

  /**
   * Send unsent events. Never rejects.
   * @returns {Promise<void>}
   */
  function flush() {
    if (!intake || session.unsent.length === 0 || navigator?.onLine === false) return Promise.resolve();
    inFlight ??= send().finally(() => {
      inFlight = null;
    });
    return inFlight;
  }

  /** Send unsent events as beacons, since the page may never come back. They stay unsent: a beacon has no answer. */
  function beacon() {
    save();
    if (!intake) return;
    for (const { body } of batches()) {
      if (!navigator?.sendBeacon?.(intake, body)) return; // a string goes as text/plain
    }
  }

  function schedule() {
    const usual = milliseconds(flushInterval, FLUSH_INTERVAL);
    const delay = Math.min(usual * 2 ** failures, Math.max(usual, FLUSH_INTERVAL_MAX));
    timer = setTimeout(async () => {
      await flush();
      if (!lifetime.signal.aborted) schedule();
    }, delay);
  }

  /** Return the array of the runbook's `telemetry-buffer.json`. */
  function exportEvents() {
    return session.events.map((event) => ({ ...event }));
  }

  /** Save the buffer as `telemetry-buffer.json`, for `jq '.[] | select(.category == "error")'`. */
  function download() {
    const link = globalThis.document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(exportEvents(), null, 2)], { type: "application/json" }));
    link.download = "telemetry-buffer.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  /** @returns {() => void} */
  function hookConsole() {
    const hooks = /** @type {const} */ ([
      ["warn", "console_warning"],
      ["error", "console_error"],
    ]).map(([method, event]) => {
      const original = console[method];
      let recording = false; // what `record` logs is not recorded
      /** @param {unknown[]} values */
      function hook(...values) {
        original.apply(console, values);
        if (recording) return;
        recording = true;
        try {
          record(event, { detail: values.map((value) => truncate(value) ?? String(value)).join(" ") });
        } finally {
          recording = false;
        }
      }
      console[method] = hook;
      return () => {
        if (console[method] === hook) console[method] = original;
      };
    });
    return () => hooks.forEach((unhook) => unhook());
  }

  const listening = { signal: lifetime.signal };
  events.addEventListener(
    "error",
    (event) => {
      const { message, filename, lineno } = /** @type {ErrorEvent} */ (event);
      if (message) record("error", { detail: `${message} (${filename}:${lineno})` });
    },
    listening,
  );
  events.addEventListener(
    "unhandledrejection",
    (event) => {
      const { reason } = /** @type {PromiseRejectionEvent} */ (event);
      record("error", { detail: reason instanceof Error ? reason : truncate(reason) ?? "rejected without a reason" });
    },
    listening,
  );
  events.addEventListener("pagehide", beacon, listening);
  events.addEventListener("online", () => flush(), listening);
  document?.addEventListener("visibilitychange", () => (document.hidden ? beacon() : heartbeat()), listening);
  const unhookConsole = consoleHooks ? hookConsole() : () => {};
  renewTicket();
  heartbeat();
  const heartbeatTimer = setInterval(heartbeat, milliseconds(heartbeatInterval, HEARTBEAT_INTERVAL));
  schedule();

  return {
    clientId,
    sessionId: session.id,
    get dropped() {
      return session.dropped;
    },
    record,
    flush,
    export: exportEvents,
    download,
    stop() {
      save();
      lifetime.abort();
      clearTimeout(timer);
      clearInterval(heartbeatTimer);
      unhookConsole();
    },
  };
}

/**
 * Keep an issued ticket with the time from which it is renewed.
 * @param {Ticket | string | null | undefined} issued
 */
function taken(issued) {
  const { ticket: text, expiresAt = "" } = typeof issued === "string" ? { ticket: issued } : issued ?? { ticket: "" };
  if (!text) return null;
  const now = Date.now();
  return { text, renewAt: now + TICKET_SHARE * (Date.parse(expiresAt) - now) || Infinity };
}

/**
 * Call a function, and wait for its promise no longer than this.
 * @template T
 * @param {number} delay ms
 * @param {() => T | Promise<T>} call
 * @returns {Promise<T>}
 */
async function within(delay, call) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${delay} ms`)), delay);
  });
  try {
    return await Promise.race([call(), /** @type {Promise<never>} */ (timeout)]);
  } finally {
    clearTimeout(timer);
  }
}
