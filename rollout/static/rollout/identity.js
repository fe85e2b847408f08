/**
 * The uuid of this browser, which rollouts and telemetry share.
 */

import { browserStorage, getCookie, getItem, setCookie, setItem } from "./storage.js";

/** @typedef {import("./storage.js").StorageLike} StorageLike */

export const UUID_KEY = "rollouts.uuid";
const COOKIE = "rollouts_uuid"; // for the server: the same bucket there (rollout/flags.py)
const KEY = /^[\w.~-]{1,128}$/; // what the server reads

/**
 * Return a random UUID, also where the page is not secure and `crypto.randomUUID` therefore absent.
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

// Where storage keeps nothing, the uuid lives as long as the page.
let pageUuid = "";

/**
 * Return the uuid of this browser, made on its first visit, here or by the server. Its cookie tells the server.
 * @param {StorageLike | null} [storage]
 * @returns {string}
 */
export function stableUuid(storage = browserStorage()) {
  if (storage !== browserStorage()) return storedUuid(storage, randomUuid()); // it does not stand for the browser
  const given = getCookie(COOKIE) ?? "";
  const uuid = storedUuid(storage, KEY.test(given) ? given : randomUuid());
  if (KEY.test(uuid)) setCookie(COOKIE, uuid);
  return uuid;
}

/**
 * @param {StorageLike | null} storage
 * @param {string} fresh
 */
function storedUuid(storage, fresh) {
  const known = getItem(storage, UUID_KEY);
  if (known) return known;
  return setItem(storage, UUID_KEY, fresh) ? fresh : (pageUuid ||= fresh);
}

