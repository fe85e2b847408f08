/**
 * One tab at a time: locks for the migration of a draft, and for the sending of a fund.
 */

import { newNonce } from "./layouts.js";

/** @typedef {import("./drafts.js").StorageLike} StorageLike */

/** @typedef {{request: (name: string, options: {signal?: AbortSignal}, work: () => unknown) => Promise<unknown>}} Locks */

const LOCK = "fundSetup:migration";
const LOCK_WAIT = 3000; // ms; a migration takes one. Going ahead without the lock is safe, only reported twice
const LEASE = 1000; // ms a tab that died may hold up the others, where the browser has no locks
const SETTLE = 100; // ms until a write to localStorage is most likely seen by every tab: browsers promise nothing

/**
 * Migrate while no other tab does: under a Web Lock, or with a lease in storage where the browser has none (plain
 * HTTP). After `LOCK_WAIT` the work goes ahead without.
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
 * @template T
 * @param {StorageLike | null} storage
 * @param {() => T | Promise<T>} work
 * @returns {Promise<T>}
 */
async function withLease(storage, work) {
  const me = newNonce();
  const holder = () => {
    const [by = "", until = "0"] = storage?.getItem(LOCK)?.split(" ") ?? [];
    return Number(until) > Date.now() ? by : "";
  };
  try {
    for (const giveUp = Date.now() + LOCK_WAIT; Date.now() < giveUp; ) {
      if (!holder()) {
        storage?.setItem(LOCK, `${me} ${Date.now() + LEASE}`);
        await sleep(SETTLE);
        if (holder() === me) break;
      }
      await sleep(SETTLE * (1 + Math.random()));
    }
  } catch {
    // blocked or full: a migration is the same twice
  }
  try {
    return await work();
  } finally {
    try {
      if (holder() === me) storage?.removeItem(LOCK);
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
