/**
 * The configuration of all rollouts, as `GET /api/rollouts` gives it and as this browser keeps it.
 */

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

/** @typedef {{environment: string, pollInterval: number, rollouts: Config[]}} Configuration */

export const POLL_INTERVAL = 15; // s, until the server names another

/**
 * Parse a document from the server or from storage. A rollout that cannot be read is left out, which means legacy.
 * @param {any} document
 * @returns {Configuration | null} null when the document is no configuration at all
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
 * Parse the text that `CONFIGURATION_KEY` holds in storage.
 * @param {string | null} text
 * @returns {Configuration | null}
 */
export function parseText(text) {
  try {
    return parseConfiguration(JSON.parse(text ?? "null"));
  } catch {
    return null;
  }
}

/**
 * Return whether `candidate` has an older version of a rollout than `current`. A slower tab's answer, which arrives
 * through storage, may.
 * @param {Configuration} candidate
 * @param {Configuration | null} current
 * @returns {boolean}
 */
export function isOlder(candidate, current) {
  const versions = new Map(current?.rollouts.map((rollout) => [rollout.feature, rollout.version ?? 0]));
  return candidate.rollouts.some(({ feature, version = 0 }) => version < (versions.get(feature) ?? 0));
}
