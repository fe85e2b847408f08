/**
 * Bucketing, precedence and kill switches: the same decisions as `rollout/bucketing.py` and `evaluation.py`.
 */

import { getItem } from "./storage.js";

/** @typedef {import("./configuration.js").Config} Config */

/** @typedef {import("./storage.js").StorageLike} StorageLike */

/**
 * Switches of the browser itself: an emergency stop, and an opt-out (false) or opt-in (true) by URL and by storage.
 * @typedef {object} Switches
 * @property {boolean} [emergency]
 * @property {boolean | null} [urlOverride]
 * @property {boolean | null} [storedOverride]
 * @property {boolean | null} [assigned] by an operator: this person always (true) or never (false) gets it
 */

/**
 * `unknown`: this browser never saw a configuration of the feature, so legacy.
 * @typedef {"emergency_stop" | "opt_out" | "disabled" | "never" | "opt_in" | "always" | "percentage" | "unknown"} Reason
 */

/** @typedef {{on: boolean, reason: Reason}} Evaluation */

export const EMERGENCY = "emergency_rollback"; // in the URL and in storage (runbook, "Runtime Kill Switch")
// Spellings of a switch, the same in evaluation.py and emergency.js (docs/how-to/frontend.md, "Kill switches").
const YES = ["1", "1.0", "true"];
const NO = ["0", "0.0", "-0.0", "false", "no", "off"];
const ABSENT = ["", "null", "none", "undefined"];
export const BUCKETS = /** @type {Record<number, number>} */ ({ 1: 100, 2: 10_000 });

// --- Bucketing ------------------------------------------------------------------------------------------------

/**
 * Return the 32-bit FNV-1a hash over UTF-16 code units, each folded in whole.
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
 * Apply the finaliser of MurmurHash3 (Austin Appleby, public domain).
 * @param {number} value
 * @returns {number}
 */
function finalise(value) {
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

/**
 * Return the bucket of a browser: 0-99 by hash version 1, 0-9999 by version 2.
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
 * Return whether the first `percentage` (0-100) of the buckets include this browser's. By a hash version that this
 * module does not know they never do.
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
 * Evaluate a feature for one browser. From the strongest to the weakest: emergency stop (server, URL, storage), opt-out
 * (URL, storage), disabled, never, opt-in, always, percentage. Without a configuration nothing turns the feature on.
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
  if (switches.assigned === false) return { on: false, reason: "never" };
  if (overrides.includes(true)) return { on: true, reason: "opt_in" };
  if (switches.assigned) return { on: true, reason: "always" };
  const on = isExposed(uuid, config.feature, config.percentage, config.hashVersion);
  return { on, reason: "percentage" };
}

/**
 * Return the name of a feature's kill switch: `USE_FUND_STORE` → `ff_useFundStore`.
 * @param {string} feature
 * @returns {string}
 */
export function overrideName(feature) {
  const [first = "", ...rest] = feature.toLowerCase().split("_");
  return "ff_" + first + rest.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");
}

/**
 * Read the browser's own switches. Of two values in one URL the safer one counts.
 * @param {string} feature
 * @param {{search?: string, storage?: StorageLike | null}} [from] `search` as in `location.search`
 * @returns {{emergency: boolean, urlOverride: boolean | null, storedOverride: boolean | null}}
 */
export function readSwitches(feature, { search = "", storage = null } = {}) {
  const url = new URLSearchParams(search);
  const name = overrideName(feature);
  const overrides = url.getAll(name).map(asSwitch);
  return {
    emergency: [...url.getAll(EMERGENCY), getItem(storage, EMERGENCY)].some(asStop),
    urlOverride: overrides.includes(false) ? false : overrides.includes(true) || null,
    storedOverride: asSwitch(getItem(storage, name)),
  };
}

/**
 * Read an override: opt-in, opt-out, or null for anything else.
 * @param {string | null} value
 * @returns {boolean | null}
 */
export function asSwitch(value) {
  const word = asWord(value);
  return YES.includes(word) ? true : NO.includes(word) ? false : null;
}

/**
 * Return whether a value asks for an emergency stop: all that are there do, unless they say no.
 * @param {string | null} value
 * @returns {boolean}
 */
function asStop(value) {
  return ![...NO, ...ABSENT].includes(asWord(value));
}

/** @param {string | null} value */
function asWord(value) {
  return String(value).trim().toLowerCase();
}
