/**
 * Web storage that never throws: a browser may block it, fill it, or not have it. What is missing reads as null.
 */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} StorageLike */

/**
 * Return the page's own storage, or null where it is blocked: there, merely naming it throws.
 * @param {"localStorage" | "sessionStorage"} name
 * @returns {StorageLike | null}
 */
export function browserStorage(name = "localStorage") {
  try {
    return globalThis[name] ?? null;
  } catch {
    return null;
  }
}

/**
 * Return a value; null where there is none, or storage is blocked.
 * @param {StorageLike | null | undefined} storage
 * @param {string} key
 * @returns {string | null}
 */
export function getItem(storage, key) {
  try {
    return storage?.getItem(key) ?? null;
  } catch {
    return null;
  }
}

/**
 * Store a value, and return whether storage has it now. When it does not fit, an older value is removed too.
 * @param {StorageLike | null | undefined} storage
 * @param {string} key
 * @param {string} value
 * @returns {boolean}
 */
export function setItem(storage, key, value) {
  try {
    storage?.setItem(key, value);
    return storage?.getItem(key) === value;
  } catch {
    removeItem(storage, key);
    return false;
  }
}

/**
 * @param {StorageLike | null | undefined} storage
 * @param {string} key
 */
export function removeItem(storage, key) {
  try {
    storage?.removeItem(key);
  } catch {
    // blocked: then there is nothing to remove
  }
}
