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

const YEAR = 31_536_000; // s

/**
 * Return a cookie of this page; null where there is none, or cookies are blocked.
 * @param {string} name
 * @returns {string | null}
 */
export function getCookie(name) {
  try {
    return document.cookie.split("; ").find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1) ?? null;
  } catch {
    return null;
  }
}

/**
 * Keep a cookie for a year, or delete it. Its value needs no escaping.
 * @param {string} name
 * @param {string | null} value
 */
export function setCookie(name, value) {
  try {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${name}=${value ?? ""}; Path=/; Max-Age=${value === null ? 0 : YEAR}; SameSite=Lax${secure}`;
  } catch {
    // no document, or cookies are blocked
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
