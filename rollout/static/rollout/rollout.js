/**
 * Does this browser get a feature, and why? Follows the rollouts of a server.
 *
 *     import { createRollouts } from "/static/rollout/rollout.js";
 *     const rollouts = createRollouts();
 *     rollouts.install(window);
 *     await rollouts.ready;
 *     if (rollouts.isOn("USE_FUND_STORE")) …
 *
 * No dependency, no build step. How to use it: docs/how-to/frontend.md.
 */

import { POLL_INTERVAL, isOlder, parseConfiguration, parseText } from "./configuration.js";
import { BUCKETS, bucket, evaluate, readSwitches } from "./evaluation.js";
import { UUID_KEY, stableUuid } from "./identity.js";
import { browserStorage, getItem, setItem } from "./storage.js";

export { parseConfiguration } from "./configuration.js";
export { EMERGENCY, bucket, evaluate, fnv1a32, isExposed, overrideName, readSwitches } from "./evaluation.js";
export { UUID_KEY, randomUuid, stableUuid } from "./identity.js";

/** @typedef {import("./configuration.js").Config} Config */
/** @typedef {import("./evaluation.js").Evaluation} Evaluation */
/** @typedef {import("./evaluation.js").Reason} Reason */
/** @typedef {import("./evaluation.js").Switches} Switches */
/** @typedef {import("./storage.js").StorageLike} StorageLike */

export const CONFIGURATION_KEY = "rollouts.configuration";

const FETCH_TIMEOUT = 10_000; // ms; a poll that takes longer is a failed one
const READY_TIMEOUT = 3000; // ms a page may wait for its first configuration before it starts with what it has
const JITTER = 0.2; // of the interval, either way: browsers that started together do not poll together

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
