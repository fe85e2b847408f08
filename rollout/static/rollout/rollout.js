/**
 * The rollouts of a page: whether this browser gets a feature, and why.
 *
 *     import { createRollouts } from "https://funds.example.com/static/rollout/rollout.js";
 *     const rollouts = createRollouts();
 *     rollouts.install(window);
 *     await rollouts.ready;
 *     if (rollouts.isOn("USE_FUND_STORE")) …
 *
 * No dependency, no build step. How to use it: docs/how-to/frontend.md.
 */

import { POLL_INTERVAL, isOlder, parseConfiguration, parseText } from "./configuration.js";
import { BUCKETS, asSwitch, bucket, evaluate, overrideName, readSwitches } from "./evaluation.js";
import { UUID_KEY, stableUuid } from "./identity.js";
import { browserStorage, getCookie, getItem, setCookie, setItem } from "./storage.js";

export { parseConfiguration } from "./configuration.js";
export { EMERGENCY, bucket, evaluate, fnv1a32, isExposed, overrideName, readSwitches } from "./evaluation.js";
export { UUID_KEY, randomUuid, stableUuid } from "./identity.js";

/** @typedef {import("./configuration.js").Config} Config */
/** @typedef {import("./evaluation.js").Evaluation} Evaluation */
/** @typedef {import("./evaluation.js").Reason} Reason */
/** @typedef {import("./evaluation.js").Switches} Switches */
/** @typedef {import("./storage.js").StorageLike} StorageLike */

export const CONFIGURATION_KEY = "rollouts.configuration";

const ASSIGNED = "rollouts-assigned"; // id of the element that {% rollout_assigned %} writes
const FETCH_TIMEOUT = 10_000; // ms; a poll that takes longer has failed
const READY_TIMEOUT = 3000; // ms a page waits for its first configuration; then it starts with the stored one
const POLL_MIN = 1; // s
const POLL_MAX = 3600; // s; above 24 days a browser's timer overflows, and would fire at once
const JITTER = 0.2; // of the interval, either way: browsers that started together do not poll together

/**
 * @typedef {object} Options
 * @property {string} [url] of `GET /api/rollouts`
 * @property {number} [pollInterval] in seconds; the server's by default
 * @property {(url: string, init: RequestInit) => Promise<Response>} [fetch]
 * @property {Record<string, boolean>} [assigned] features that the signed-in person always (true) or never (false) gets;
 *   by default those that the page carries
 * @property {StorageLike | null} [storage]
 * @property {{search: string}} [location]
 * @property {EventTarget & {hidden: boolean}} [document]
 * @property {EventTarget} [events] what `online` and `storage` events are sent to: the window
 */

/**
 * @typedef {object} Rollouts
 * @property {Promise<void>} ready the first answer, or failure, or three seconds; never rejects
 * @property {string} uuid of this browser
 * @property {(feature: string) => boolean} isOn
 * @property {(feature: string) => Evaluation} evaluation
 * @property {(feature: string, on?: string, off?: string) => string | null} variant for telemetry: `on` or `off`; null
 *   until `ready`, while no configuration is known, and for people who always or never get it: they would spoil the
 *   judge's sample
 * @property {(feature: string) => Config | null} config
 * @property {(listener: (evaluations: Record<string, Evaluation>) => void) => () => void} subscribe
 * @property {() => Promise<void>} refresh ask the server now; never rejects
 * @property {() => void} stop no more polls, no more events
 * @property {() => object} debugRollouts
 * @property {(feature: string) => number | null} getUserBucket
 * @property {(window: object) => void} install
 */

/**
 * Return what `{% rollout_assigned %}` wrote into the page.
 * @param {any} document
 * @returns {Record<string, boolean>}
 */
function assignedByPage(document) {
  try {
    return Object(JSON.parse(document.getElementById(ASSIGNED).textContent));
  } catch {
    return {};
  }
}

/**
 * Follow the rollouts of a server.
 *
 * Storage keeps the last good configuration, and only another good one replaces it: a failed request never ends an
 * emergency stop. Each evaluation reads the switches in the URL and in storage, so they hold at once.
 * @param {Options} [options]
 * @returns {Rollouts}
 */
export function createRollouts({
  url = "/api/rollouts",
  pollInterval,
  assigned,
  fetch = (input, init) => globalThis.fetch(input, init),
  storage = browserStorage(),
  location = globalThis.location,
  document = globalThis.document,
  events = globalThis.window ?? new EventTarget(),
} = {}) {
  const people = assigned ?? assignedByPage(document);
  let uuid = stableUuid(storage);
  let configuration = parseText(getItem(storage, CONFIGURATION_KEY));
  let source = configuration ? "storage" : "none";
  /** @type {string | null} */ let answeredAt = null;
  /** @type {string | null} */ let failure = null;
  /** @type {Promise<void> | null} */ let inFlight = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let timer;
  /** @type {Set<(evaluations: Record<string, Evaluation>) => void>} */ const listeners = new Set();
  const lifetime = new AbortController();
  let settled = false; // the first request has ended, or taken three seconds
  let notified = JSON.stringify(evaluations());

  /** @param {string} feature */
  function config(feature) {
    return configuration?.rollouts.find((rollout) => rollout.feature === feature) ?? null;
  }

  /** @param {string} feature */
  function switches(feature) {
    return { ...readSwitches(feature, { search: location?.search, storage }), assigned: people[feature] ?? null };
  }

  /** @param {string} feature */
  function evaluation(feature) {
    return evaluate(config(feature), uuid, switches(feature));
  }

  /** @param {string} feature */
  function getUserBucket(feature) {
    const rollout = config(feature);
    return rollout && bucket(uuid, feature, rollout.hashVersion);
  }

  /** @returns {Record<string, Evaluation>} */
  function evaluations() {
    return Object.fromEntries(configuration?.rollouts.map(({ feature }) => [feature, evaluation(feature)]) ?? []);
  }

  /** Tell the server the overrides in storage, which it cannot see, by cookies of the same names. */
  function mirror() {
    if (storage !== browserStorage()) return;
    for (const { feature } of configuration?.rollouts ?? []) {
      const name = overrideName(feature);
      const stored = asSwitch(getItem(storage, name));
      const value = stored === null ? null : String(Number(stored));
      if (getCookie(name) !== value) setCookie(name, value);
    }
  }

  function notify() {
    mirror();
    const now = evaluations();
    const text = JSON.stringify(now);
    if (text === notified) return;
    notified = text;
    for (const listener of [...listeners]) {
      try {
        listener(now);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // to the page's error handlers; the other listeners still run
        });
      }
    }
  }

  async function load() {
    const timeout = new AbortController();
    const cancel = () => timeout.abort();
    const deadline = setTimeout(cancel, FETCH_TIMEOUT);
    lifetime.signal.addEventListener("abort", cancel);
    try {
      // no-cache: the browser sends If-None-Match, and returns its stored answer for a 304
      const response = await fetch(url, { cache: "no-cache", signal: timeout.signal });
      if (response.status !== 304) {
        if (!response.ok) throw new Error(`${url} answered ${response.status}`);
        const fresh = parseConfiguration(await response.json());
        if (!fresh) throw new Error(`${url} answered with no configuration`);
        if (lifetime.signal.aborted) return;
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
      lifetime.signal.removeEventListener("abort", cancel);
    }
    settled = true;
    if (!lifetime.signal.aborted) notify();
  }

  function schedule() {
    clearTimeout(timer);
    if (lifetime.signal.aborted || document?.hidden) return;
    const own = Number(pollInterval ?? NaN);
    const wanted = Number.isNaN(own) ? (configuration?.pollInterval ?? POLL_INTERVAL) : own;
    const seconds = Math.min(Math.max(POLL_MIN, wanted), POLL_MAX);
    timer = setTimeout(refresh, seconds * 1000 * (1 + JITTER * (2 * Math.random() - 1)));
  }

  function refresh() {
    if (lifetime.signal.aborted) return Promise.resolve();
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
    if (getItem(storage, UUID_KEY)) uuid = stableUuid(storage); // another tab stored its uuid first
    notify();
  }

  const listening = { signal: lifetime.signal };
  document?.addEventListener("visibilitychange", onVisibility, listening);
  events.addEventListener("online", refresh, listening);
  events.addEventListener("storage", onStorage, listening);
  events.addEventListener("popstate", notify, listening);

  /** @type {ReturnType<typeof setTimeout> | undefined} */ let deadline;
  const ready = Promise.race([
    refresh(),
    new Promise((/** @type {(value: void) => void} */ resolve) => {
      deadline = setTimeout(() => resolve(void (settled = true)), READY_TIMEOUT);
    }),
  ]).finally(() => clearTimeout(deadline)); // else it would keep Node.js running

  const rollouts = {
    ready,
    get uuid() {
      return uuid;
    },
    isOn: (/** @type {string} */ feature) => evaluation(feature).on,
    evaluation,
    /**
     * @param {string} feature
     * @returns {string | null}
     */
    variant(feature, on = "on", off = "off") {
      const { on: has, reason } = evaluation(feature);
      // Chosen people are no random sample: beside them the judge could not compare the two sides.
      if (!settled || ["unknown", "always", "never"].includes(reason)) return null;
      return has ? on : off;
    },
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
      lifetime.abort();
      clearTimeout(timer);
      listeners.clear();
    },
    getUserBucket,
    /** Return what support asks for first: the uuid, each evaluation with its reason, and how fresh it is. */
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
