/**
 * One tab at a time: locks for the migration of a draft, and for the sending of a fund.
 */

import { newNonce } from "./layouts.js";

/** @typedef {import("./layouts.js").StorageLike} StorageLike */

/**
 * @typedef {object} Locks as `navigator.locks`
 * @property {(name: string, options: {signal?: AbortSignal}, work: () => unknown) => Promise<unknown>} request
 */

const LOCK = "fundSetup:migration";
const LOCK_WAIT = 3000; // ms; a migration takes one. Without the lock it is safe, but reported twice
const LEASE = 1000; // ms that a tab which died blocks the others, where the browser has no locks
const SETTLE = 100; // ms until most likely every tab sees a write to localStorage: browsers promise nothing

/**
 * Run a migration while no other tab does: under a Web Lock, or with a lease in storage where the browser has no locks
 * (plain HTTP). After `LOCK_WAIT` it runs without.
 * @template T
 * @param {{locks: Locks | null, storage: StorageLike | null}} by
 * @param {() => T | Promise<T>} work
 * @returns {Promise<T>}
 */
export async function oneTabAtATime({ locks, storage }, work) {
  return locks ? withLock(locks, LOCK, work, LOCK_WAIT) : withLease(storage, work);
}

/**
 * Run `work` under a Web Lock. It runs without one where the browser refuses locks, or gives none within `wait`.
 * @template T
 * @param {Locks} locks
 * @param {string} name
 * @param {() => T | Promise<T>} work
 * @param {number} [wait] ms; as long as it takes by default
 * @returns {Promise<T>}
 */
export async function withLock(locks, name, work, wait) {
  let entered = false;
  const enter = () => {
    entered = true;
    return work();
  };
  try {
    const options = wait === undefined ? {} : { signal: AbortSignal.timeout(wait) };
    return /** @type {T} */ (await locks.request(name, options, enter));
  } catch (error) {
    if (entered) throw error;
    return enter();
  }
}

/**
 * Run `work` with a lease: an entry in storage with the tab's name and a time.
 * @template T
 * @param {StorageLike | null} storage
 * @param {() => T | Promise<T>} work
 * @returns {Promise<T>}
 */
async function withLease(storage, work) {
  const tab = newNonce();
  const holder = () => {
    const [by = "", until = "0"] = storage?.getItem(LOCK)?.split(" ") ?? [];
    return Number(until) > Date.now() ? by : "";
  };
  try {
    for (const deadline = Date.now() + LOCK_WAIT; Date.now() < deadline; ) {
      if (!holder()) {
        storage?.setItem(LOCK, `${tab} ${Date.now() + LEASE}`);
        await sleep(SETTLE);
        if (holder() === tab) break;
      }
      await sleep(SETTLE * (1 + Math.random()));
    }
  } catch {
    // blocked or full: migrating twice does no harm
  }
  try {
    return await work();
  } finally {
    try {
      if (holder() === tab) storage?.removeItem(LOCK);
    } catch {
      // blocked: it was never stored
    }
  }
}

/**
 * @param {number} milliseconds
 * @returns {Promise<void>}
 */
function sleep(milliseconds) {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
