/**
 * Idempotency keys: from the content of a request, or random, one for each draft.
 */

import { sha256 } from "./sha256.js";

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} StorageLike */

export const TOKEN = /^[A-Za-z0-9_.:~-]{1,255}$/;

/**
 * One text for all payloads of the same value: keys sorted, no white space. It is what is sent, too, so every attempt
 * has the same bytes, a reload later as well.
 * @param {unknown} payload what JSON can say; NaN and Infinity are refused, since JSON would make null of them
 * @returns {string}
 */
export function canonical(payload) {
  const text = JSON.stringify(payload, function (_name, value) {
    if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${value} is not a JSON number`);
    if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
  if (text === undefined) throw new TypeError("the payload is nothing that JSON can say");
  return text;
}

/**
 * The key of a content: its hash, with the environment in it (runbook, "Environment Scoping").
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
 * The keys of drafts, kept in storage: a reload sends the same one again.
 * @param {string} operation
 * @param {StorageLike | null} storage
 */
export function createDraftKeys(operation, storage) {
  /** @type {Map<string, string>} */ const drafts = new Map(); // for browsers that keep nothing

  /**
   * The random key of a draft, made at the first call and kept in storage until `forget`: a reload sends it again.
   * @param {string} name of the draft
   * @returns {string}
   */
  function draftKey(name) {
    const place = `idempotency.draft.${operation}.${name}`;
    try {
      const known = storage?.getItem(place);
      if (known && TOKEN.test(known)) return known;
    } catch {
      // blocked: the page's memory has to do
    }
    const key = drafts.get(place) ?? randomToken();
    drafts.set(place, key);
    try {
      storage?.setItem(place, key);
    } catch {
      // full
    }
    return key;
  }

  /**
   * Forget the key of a draft: it became a fund, or the person means a new one.
   * @param {string} name
   */
  function forget(name) {
    const place = `idempotency.draft.${operation}.${name}`;
    drafts.delete(place);
    try {
      storage?.removeItem(place);
    } catch {
      // blocked: it was never stored
    }
  }

  return { draftKey, forget };
}
