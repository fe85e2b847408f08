/**
 * Idempotency keys: the hash of a request's content, or random for each draft.
 */

import { sha256 } from "./sha256.js";

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} StorageLike */

export const TOKEN = /^[A-Za-z0-9_.:~-]{1,255}$/;

const UNSENT = "unsent";
const SHARED = ".0"; // behind the time, which stays the same number
const UNKNOWN = "unknown"; // an older version of this module made the key, and kept no time

/**
 * Return the canonical JSON text of a payload: as `JSON.stringify` writes it, with its keys sorted. This text is also
 * sent, so every attempt has the same bytes, even after a reload.
 * @param {unknown} payload a value that JSON has; NaN and Infinity are refused, since JSON would make null of them
 * @returns {string}
 */
export function canonical(payload) {
  const text = JSON.stringify(payload, function (_name, value) {
    const number = isBoxedNumber(value) ? Number(value) : value;
    if (typeof number === "number" && !Number.isFinite(number)) throw new TypeError(`${number} is not a JSON number`);
    return number;
  });
  if (text === undefined) throw new TypeError("the payload must be a value that JSON has");
  return sortKeys(text);
}

/**
 * @param {unknown} value
 * @returns {boolean}
 */
function isBoxedNumber(value) {
  if (typeof value !== "object" || Array.isArray(value)) return false;
  try {
    Number.prototype.valueOf.call(value); // finds those of another window, too
    return true;
  } catch {
    return false;
  }
}

/**
 * Sort the keys of every object in a JSON text, and change nothing else: numbers keep their digits.
 * @param {string} text from `JSON.stringify`
 * @returns {string}
 */
function sortKeys(text) {
  const tokens = text.match(/"(?:[^"\\]+|\\.)*"|[[\]{}:,]|[^"[\]{}:,]+/g) ?? [];
  let at = 0;

  /** @returns {string} */
  function value() {
    const token = tokens[at++] ?? "";
    if (token === "[") return `[${list("]", value)}]`;
    if (token !== "{") return token;
    const members = list("}", member).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${Object.values(Object.fromEntries(members))}}`; // as in every object, 9 and 10 come first, in this order
  }

  /** @returns {[string, string]} */
  function member() {
    const name = tokens[at++] ?? "";
    at++; // the colon
    return [JSON.parse(name), `${name}:${value()}`];
  }

  /** @type {<T>(end: string, item: () => T) => T[]} */
  function list(end, item) {
    const items = [];
    while (tokens[at] !== end) {
      items.push(item());
      if (tokens[at] === ",") at++;
    }
    at++;
    return items;
  }

  return value();
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
 * The keys of drafts and the times of their first sending, kept in storage, so that a reload sends the same key again,
 * and not when the server may have forgotten it.
 * @param {string} operation
 * @param {StorageLike | null} storage
 */
export function createDraftKeys(operation, storage) {
  const kept = rememberingStorage(storage);
  // Two items, because older versions of this module read and write the first alone.
  const draftItem = (/** @type {string} */ name) => `idempotency.draft.${operation}.${name}`;
  const sentItem = (/** @type {string} */ key) => `idempotency.sent.${operation}.${key}`; // UNSENT, ms, ms and SHARED, or UNKNOWN

  /**
   * Return the random key of a draft, made at the first call and kept in storage until `forget`.
   * @param {string} name of the draft
   * @returns {string}
   */
  function draftKey(name) {
    if (typeof name !== "string" || !name) throw new TypeError("a draft's name must be a string, and not empty");
    const known = kept.get(draftItem(name));
    const key = known && TOKEN.test(known) ? known : randomToken();
    if (kept.get(sentItem(key)) === null) kept.set(sentItem(key), key === known ? UNKNOWN : UNSENT);
    kept.set(draftItem(name), key);
    return key;
  }

  /**
   * Forget the key of a draft that became a fund, or that the person means to send as a new one.
   * @param {string} name
   */
  function forget(name) {
    kept.remove(sentItem(kept.get(draftItem(name)) ?? ""));
    kept.remove(draftItem(name));
  }

  /**
   * Return when a key was sent first.
   * @param {string} key
   * @returns {number | null} ms since the epoch; NaN: unknown; null: never, or the caller's own key
   */
  function firstSent(key) {
    if (kept.isLost(sentItem(key))) return NaN; // forgotten by another tab or client, which may have sent it
    const known = kept.get(sentItem(key));
    return known === null || known === UNSENT ? null : Number(known);
  }

  /**
   * Keep the time of the first sending, if the key is a draft's. A further call under the key marks it as shared, so
   * that the refusal of the first does not make a key as new that the further one has used.
   * @param {string} key
   * @param {number} now ms since the epoch
   * @param {string | null} mark of this call, from its attempt before
   * @returns {string | null} the mark of this call, for `markUnsent`
   */
  function markSent(key, now, mark) {
    const known = kept.get(sentItem(key));
    if (known === UNSENT) {
      kept.set(sentItem(key), String(now));
      return String(now);
    }
    if (known !== mark && /^\d+$/.test(known ?? "")) kept.set(sentItem(key), `${known}${SHARED}`);
    return mark;
  }

  /**
   * Forget the time of a first sending that the server refused: the key is as new.
   * @param {string} key
   * @param {string | null} mark from `markSent`; that of another call, or tab, is kept
   */
  function markUnsent(key, mark) {
    if (mark !== null && kept.get(sentItem(key)) === mark) kept.set(sentItem(key), UNSENT);
  }

  return { draftKey, forget, firstSent, markSent, markUnsent };
}

/**
 * Return storage that never throws. The page remembers what storage does not take; an older value of it is removed.
 * @param {StorageLike | null} storage
 */
function rememberingStorage(storage) {
  /** @type {Map<string, string>} */ const remembered = new Map();
  /** @type {Set<string>} */ const seen = new Set(); // items that storage had
  /** @type {<T>(use: () => T) => T | undefined} */
  const attempt = (use) => {
    try {
      return use();
    } catch {
      return undefined; // blocked, or full
    }
  };

  /** @param {string} item */
  function get(item) {
    const stored = attempt(() => storage?.getItem(item));
    if (stored != null) seen.add(item);
    return stored ?? remembered.get(item) ?? null;
  }

  /**
   * Return whether storage had an item, and somebody else has removed it.
   * @param {string} item
   */
  function isLost(item) {
    return seen.has(item) && attempt(() => storage?.getItem(item)) === null;
  }

  /** @param {string} item @param {string} value */
  function set(item, value) {
    remembered.set(item, value);
    attempt(() => storage?.setItem(item, value));
    if (get(item) !== value) discard(item);
  }

  /** @param {string} item */
  function remove(item) {
    remembered.delete(item);
    discard(item);
  }

  /** @param {string} item */
  function discard(item) {
    seen.delete(item);
    attempt(() => storage?.removeItem(item));
  }

  return { get, isLost, set, remove };
}
