/**
 * Idempotency keys: the hash of a request's content, or random for each draft.
 */

import { sha256 } from "./sha256.js";

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} StorageLike */

export const TOKEN = /^[A-Za-z0-9_.:~-]{1,255}$/;

/**
 * Return the canonical JSON text of a payload: keys sorted, no white space. This text is also sent, so every attempt
 * has the same bytes, even after a reload.
 * @param {unknown} payload a value that JSON has; NaN and Infinity are refused, since JSON would make null of them
 * @returns {string}
 */
export function canonical(payload) {
  const text = JSON.stringify(payload, function (_name, value) {
    if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${value} is not a JSON number`);
    if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
  if (text === undefined) throw new TypeError("the payload must be a value that JSON has");
  return text;
}

/**
 * Return the key of a content: its hash, with the environment in it (runbook, "Environment Scoping").
 * @param {{environment: string, operation: string, nonce?: string}} scope
 * @param {string} content from `canonical`
 * @returns {Promise<string>} `environment|operation|<64 hex digits>`
 */
export async function contentKey({ environment, operation, nonce = "" }, content) {
  const hash = await sha256(JSON.stringify([environment, operation, nonce, content]));
  return `${environment}|${operation}|${hash}`;
}

/** @returns {string} */
function randomToken() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @returns {StorageLike | null} */
export function pageStorage() {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

/**
 * The keys of drafts, kept in storage, so that a reload sends the same key again.
 * @param {string} operation
 * @param {StorageLike | null} storage
 */
export function createDraftKeys(operation, storage) {
  /** @type {Map<string, string>} */ const remembered = new Map(); // where storage keeps nothing

  /**
   * Return the random key of a draft, made at the first call and kept in storage until `forget`.
   * @param {string} name of the draft
   * @returns {string}
   */
  function draftKey(name) {
    const item = `idempotency.draft.${operation}.${name}`;
    try {
      const known = storage?.getItem(item);
      if (known && TOKEN.test(known)) return known;
    } catch {
      // blocked: the page remembers it
    }
    const key = remembered.get(item) ?? randomToken();
    remembered.set(item, key);
    try {
      storage?.setItem(item, key);
    } catch {
      // full
    }
    return key;
  }

  /**
   * Forget the key of a draft that became a fund, or that the person means to send as a new one.
   * @param {string} name
   */
  function forget(name) {
    const item = `idempotency.draft.${operation}.${name}`;
    remembered.delete(item);
    try {
      storage?.removeItem(item);
    } catch {
      // blocked: it was never stored
    }
  }

  return { draftKey, forget };
}
