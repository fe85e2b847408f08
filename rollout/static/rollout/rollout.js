/**
 * Does this browser get a feature, and why? The same decisions as `rollout/evaluation.py` and `bucketing.py`.
 *
 *     import { createRollouts } from "/static/rollout/rollout.js";
 *     const rollouts = createRollouts();
 *     rollouts.install(window);
 *     await rollouts.ready;
 *     if (rollouts.isOn("USE_FUND_STORE")) …
 *
 * No dependency, no build step. How to use it: docs/how-to/frontend.md.
 */

import { browserStorage, getItem, setItem } from "./storage.js";

/**
 * A rollout as `GET /api/rollouts` gives it.
 * @typedef {object} Config
 * @property {string} feature
 * @property {boolean} enabled
 * @property {number} percentage 0-100, at most two decimals
 * @property {boolean} emergencyStop
 * @property {number} hashVersion
 * @property {boolean} [trackMigrations]
 * @property {number} [version]
 */

/**
 * What the browser itself has set: an emergency stop, and an opt-out (false) or opt-in (true) by URL and by storage.
 * @typedef {object} Switches
 * @property {boolean} [emergency]
 * @property {boolean | null} [urlOverride]
 * @property {boolean | null} [storedOverride]
 */

/**
 * `unknown`: no configuration of the feature was ever seen, so legacy.
 * @typedef {"emergency_stop" | "opt_out" | "disabled" | "opt_in" | "percentage" | "unknown"} Reason
 */

/** @typedef {{on: boolean, reason: Reason}} Evaluation */

/** @typedef {import("./storage.js").StorageLike} StorageLike */

/** @typedef {{environment: string, pollInterval: number, rollouts: Config[]}} Configuration */

export const UUID_KEY = "rollouts.uuid";
export const CONFIGURATION_KEY = "rollouts.configuration";
export const EMERGENCY = "emergency_rollback"; // in the URL and in storage (runbook, "Runtime Kill Switch")

const BUCKETS = /** @type {Record<number, number>} */ ({ 1: 100, 2: 10_000 });
const POLL_INTERVAL = 15; // s, until the server has said another
const FETCH_TIMEOUT = 10_000; // ms; a poll that takes longer is a failed one
const READY_TIMEOUT = 3000; // ms a page may wait for its first configuration before it starts with what it has
const JITTER = 0.2; // of the interval, either way: browsers that started together do not poll together

// --- Bucketing ------------------------------------------------------------------------------------------------

/**
 * The 32-bit FNV-1a hash over UTF-16 code units, each folded in whole.
 * @param {string} text
 * @returns {number}
 */
export function fnv1a32(text) {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  }
  return value >>> 0;
}

/**
 * The finaliser of MurmurHash3 (Austin Appleby, public domain).
 * @param {number} value
 * @returns {number}
 */
function finalise(value) {
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

/**
 * The bucket of a browser: 0-99 by hash version 1, 0-9999 by version 2.
 * @param {string} uuid
 * @param {string} feature
 * @param {number} hashVersion
 * @returns {number}
 */
export function bucket(uuid, feature, hashVersion) {
  const value = fnv1a32(uuid + feature);
  return (hashVersion === 1 ? value : finalise(value)) % (BUCKETS[hashVersion] ?? NaN);
}

/**
 * Do `percentage` (0-100) of the buckets include this one? Never, by a hash version that this module does not know.
 * @param {string} uuid
 * @param {string} feature
 * @param {number} percentage
 * @param {number} hashVersion
 * @returns {boolean}
 */
export function isExposed(uuid, feature, percentage, hashVersion) {
  const hundredths = Math.round(percentage * 100); // exact: 0.07 * 10_000 is more than 700 in floating point
  return bucket(uuid, feature, hashVersion) * 10_000 < hundredths * (BUCKETS[hashVersion] ?? NaN);
}

// --- Evaluation -----------------------------------------------------------------------------------------------

/**
 * Decide for one browser. From the strongest to the weakest: emergency stop (server, URL, storage), opt-out (URL,
 * storage), disabled, opt-in, percentage. Without a configuration nothing turns the feature on.
 * @param {Config | null | undefined} config
 * @param {string} uuid
 * @param {Switches} [switches]
 * @returns {Evaluation}
 */
export function evaluate(config, uuid, switches = {}) {
  const overrides = [switches.urlOverride, switches.storedOverride];
  if (config?.emergencyStop || switches.emergency) return { on: false, reason: "emergency_stop" };
  if (overrides.includes(false)) return { on: false, reason: "opt_out" };
  if (!config) return { on: false, reason: "unknown" };
  if (!config.enabled) return { on: false, reason: "disabled" };
  if (overrides.includes(true)) return { on: true, reason: "opt_in" };
  const on = isExposed(uuid, config.feature, config.percentage, config.hashVersion);
  return { on, reason: "percentage" };
}

/**
 * The kill switch of a feature: `USE_FUND_STORE` → `ff_useFundStore`.
 * @param {string} feature
 * @returns {string}
 */
export function overrideName(feature) {
  const [first = "", ...rest] = feature.toLowerCase().split("_");
  return "ff_" + first + rest.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");
}

/**
 * Read the browser's own switches. Of several values in one URL the safer one counts.
 * @param {string} feature
 * @param {{search?: string, storage?: StorageLike | null}} [from] `search` as in `location.search`
 * @returns {{emergency: boolean, urlOverride: boolean | null, storedOverride: boolean | null}}
 */
export function readSwitches(feature, { search = "", storage = null } = {}) {
  const url = new URLSearchParams(search);
  const name = overrideName(feature);
  const overrides = url.getAll(name).map(asSwitch);
  return {
    emergency: [...url.getAll(EMERGENCY), getItem(storage, EMERGENCY)].map(asSwitch).includes(true),
    urlOverride: overrides.includes(false) ? false : overrides.includes(true) || null,
    storedOverride: asSwitch(getItem(storage, name)),
  };
}

/**
 * `1` and `true` are on, `0` and `false` off; anything else is as if it were not there.
 * @param {string | null} value
 * @returns {boolean | null}
 */
function asSwitch(value) {
  const text = value?.toLowerCase();
  if (text === "1" || text === "true") return true;
  return text === "0" || text === "false" ? false : null;
}

// --- Identity -------------------------------------------------------------------------------------------------

/**
 * A random UUID, also where the page is not secure and `crypto.randomUUID` therefore absent.
 * @returns {string}
 */
export function randomUuid() {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (/** @type {number} */ (bytes[6]) & 0x0f) | 0x40; // version 4
  bytes[8] = (/** @type {number} */ (bytes[8]) & 0x3f) | 0x80; // its variant
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

let pageUuid = ""; // of a browser that keeps nothing: the same for as long as the page lives

/**
 * The uuid of this browser, made on its first visit.
 * @param {StorageLike | null} [storage]
 * @returns {string}
 */
export function stableUuid(storage = browserStorage()) {
  const known = getItem(storage, UUID_KEY);
  if (known) return known;
  const fresh = randomUuid();
  return setItem(storage, UUID_KEY, fresh) ? fresh : (pageUuid ||= fresh);
}

// --- Configuration --------------------------------------------------------------------------------------------

/**
 * Check a document from the server or from storage. A rollout that cannot be read is left out, and so is legacy.
 * @param {any} document
 * @returns {Configuration | null} null when it is no configuration at all
 */
export function parseConfiguration(document) {
  if (!Array.isArray(document?.rollouts)) return null;
  return {
    environment: String(document.environment ?? ""),
    pollInterval: Number.isFinite(document.pollInterval) ? document.pollInterval : POLL_INTERVAL,
    rollouts: document.rollouts.filter(
      (/** @type {any} */ rollout) =>
        typeof rollout?.feature === "string" &&
        typeof rollout.enabled === "boolean" &&
        typeof rollout.emergencyStop === "boolean" &&
        Number.isFinite(rollout.percentage) &&
        Number.isInteger(rollout.hashVersion),
    ),
  };
}

/**
 * @param {string | null} text
 * @returns {Configuration | null}
 */
function parseText(text) {
  try {
    return parseConfiguration(JSON.parse(text ?? "null"));
  } catch {
    return null;
  }
}

/**
 * Would `candidate` take a rollout back to before `held`? So may a slower tab's answer, which arrives through storage.
 * @param {Configuration} candidate
 * @param {Configuration | null} held
 * @returns {boolean}
 */
function isOlder(candidate, held) {
  const versions = new Map(held?.rollouts.map((rollout) => [rollout.feature, rollout.version ?? 0]));
  return candidate.rollouts.some(({ feature, version = 0 }) => version < (versions.get(feature) ?? 0));
}

// --- The rollouts of a page -----------------------------------------------------------------------------------

/**
 * @typedef {object} Options
 * @property {string} [url] of `GET /api/rollouts`
 * @property {number} [pollInterval] in seconds; the server's by default
 * @property {(url: string, init: RequestInit) => Promise<Response>} [fetch]
 * @property {StorageLike | null} [storage]
 * @property {{search: string}} [location]
 * @property {EventTarget & {hidden: boolean}} [document]
 * @property {EventTarget} [events] what `online` and `storage` events are sent to: the window
 */

/**
 * @typedef {object} Rollouts
 * @property {Promise<void>} ready the first answer, or failure, or three seconds; never rejects
 * @property {string} uuid
 * @property {(feature: string) => boolean} isOn
 * @property {(feature: string) => Evaluation} evaluation
 * @property {(feature: string) => Config | null} config
 * @property {(listener: (evaluations: Record<string, Evaluation>) => void) => () => void} subscribe
 * @property {() => Promise<void>} refresh ask the server now; never rejects
 * @property {() => void} stop no more polls, no more events
 * @property {() => object} debugRollouts
 * @property {(feature: string) => number | null} getUserBucket
 * @property {(window: object) => void} install
 */

/**
 * Follow the rollouts of a server.
 *
 * The last good configuration is kept in storage, and only another good one replaces it: a failed request never ends
 * an emergency stop. Switches in the URL and in storage are read at each question, so they hold at once.
 * @param {Options} [options]
 * @returns {Rollouts}
 */
export function createRollouts({
  url = "/api/rollouts",
  pollInterval,
  fetch = (input, init) => globalThis.fetch(input, init),
  storage = browserStorage(),
  location = globalThis.location,
  document = globalThis.document,
  events = globalThis.window ?? new EventTarget(),
} = {}) {
  let uuid = stableUuid(storage);
  let configuration = parseText(getItem(storage, CONFIGURATION_KEY));
  let source = configuration ? "storage" : "none";
  /** @type {string | null} */ let answeredAt = null;
  /** @type {string | null} */ let failure = null;
  /** @type {Promise<void> | null} */ let inFlight = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let timer;
  /** @type {Set<(evaluations: Record<string, Evaluation>) => void>} */ const listeners = new Set();
  const ending = new AbortController();
  let told = JSON.stringify(evaluations());

  /** @param {string} feature */
  function config(feature) {
    return configuration?.rollouts.find((rollout) => rollout.feature === feature) ?? null;
  }

  /** @param {string} feature */
  function switches(feature) {
    return readSwitches(feature, { search: location?.search, storage });
  }

  /** @param {string} feature */
  function evaluation(feature) {
    return evaluate(config(feature), uuid, switches(feature));
  }

  /** @param {string} feature */
  function getUserBucket(feature) {
    const found = config(feature);
    return found && bucket(uuid, feature, found.hashVersion);
  }

  /** @returns {Record<string, Evaluation>} */
  function evaluations() {
    return Object.fromEntries(configuration?.rollouts.map(({ feature }) => [feature, evaluation(feature)]) ?? []);
  }

  function tell() {
    const now = evaluations();
    const text = JSON.stringify(now);
    if (text === told) return;
    told = text;
    for (const listener of [...listeners]) {
      try {
        listener(now);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // seen by the page's error handlers, without silencing the other listeners
        });
      }
    }
  }

  async function load() {
    const timeout = new AbortController();
    const giveUp = () => timeout.abort();
    const deadline = setTimeout(giveUp, FETCH_TIMEOUT);
    ending.signal.addEventListener("abort", giveUp);
    try {
      // no-cache: the browser sends If-None-Match by itself, and gives its stored answer for a 304
      const response = await fetch(url, { cache: "no-cache", signal: timeout.signal });
      if (response.status !== 304) {
        if (!response.ok) throw new Error(`${url} answered ${response.status}`);
        const fresh = parseConfiguration(await response.json());
        if (!fresh) throw new Error(`${url} answered something else than a configuration`);
        if (ending.signal.aborted) return;
        configuration = fresh;
        source = "server";
        setItem(storage, CONFIGURATION_KEY, JSON.stringify(fresh));
      }
      answeredAt = new Date().toISOString();
      failure = null;
    } catch (error) {
      failure = String(error);
    } finally {
      clearTimeout(deadline);
      ending.signal.removeEventListener("abort", giveUp);
    }
    if (!ending.signal.aborted) tell();
  }

  function schedule() {
    clearTimeout(timer);
    if (ending.signal.aborted || document?.hidden) return;
    const seconds = Math.max(1, pollInterval ?? configuration?.pollInterval ?? POLL_INTERVAL);
    timer = setTimeout(refresh, seconds * 1000 * (1 + JITTER * (2 * Math.random() - 1)));
  }

  function refresh() {
    if (ending.signal.aborted) return Promise.resolve();
    clearTimeout(timer);
    inFlight ??= load().finally(() => {
      inFlight = null;
      schedule();
    });
    return inFlight;
  }

  function onVisibility() {
    if (document?.hidden) clearTimeout(timer);
    else refresh();
  }

  function onStorage() {
    const stored = parseText(getItem(storage, CONFIGURATION_KEY));
    if (stored && !isOlder(stored, configuration)) configuration = stored;
    uuid = getItem(storage, UUID_KEY) || uuid; // another tab's first visit won
    tell();
  }

  const listening = { signal: ending.signal };
  document?.addEventListener("visibilitychange", onVisibility, listening);
  events.addEventListener("online", refresh, listening);
  events.addEventListener("storage", onStorage, listening);
  events.addEventListener("popstate", tell, listening);

  const ready = Promise.race([
    refresh(),
    new Promise((/** @type {(value: void) => void} */ resolve) => {
      setTimeout(resolve, READY_TIMEOUT);
    }),
  ]);

  const rollouts = {
    ready,
    get uuid() {
      return uuid;
    },
    isOn: (/** @type {string} */ feature) => evaluation(feature).on,
    evaluation,
    config,
    /** @param {(evaluations: Record<string, Evaluation>) => void} listener */
    subscribe(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    refresh,
    stop() {
      ending.abort();
      clearTimeout(timer);
      listeners.clear();
    },
    getUserBucket,
    /** What support asks for first: who am I, what do I get, why, and how fresh is that? */
    debugRollouts() {
      return {
        uuid,
        environment: configuration?.environment ?? null,
        url,
        source,
        answeredAt,
        failure,
        features: Object.fromEntries(
          configuration?.rollouts.map((rollout) => [
            rollout.feature,
            {
              ...evaluation(rollout.feature),
              bucket: getUserBucket(rollout.feature),
              buckets: BUCKETS[rollout.hashVersion] ?? null,
              switches: switches(rollout.feature),
              ...rollout,
            },
          ]) ?? [],
        ),
      };
    },
    /**
     * Offer the runbook's support commands: `window.__rollouts.debugRollouts()`, `.getUserBucket(feature)`.
     * @param {object} window
     */
    install(window) {
      Object.assign(window, { __rollouts: rollouts });
    },
  };
  return rollouts;
}
