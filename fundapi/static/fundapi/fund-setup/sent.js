/**
 * When a draft's key was first sent, for the client's rule: it sends no key that the server may have forgotten.
 */

/** @typedef {import("./layouts.js").FirstSending} FirstSending */

/**
 * Return a function that tells by how many ms this browser's clock is ahead of the server's. It notices a clock that
 * is set while the page is open.
 * @param {number} serverTime ms, when the server made the page
 * @returns {() => number}
 */
export function clockAhead(serverTime) {
  const [loaded, steady] = [Date.now(), performance.now()];
  return () => {
    const passed = Math.max(Date.now() - loaded, performance.now() - steady); // the steady clock stops in a sleep
    return Date.now() - (serverTime + passed);
  };
}

/**
 * @param {FirstSending | null} firstSending
 * @param {{environment: string, clockAhead: number}} now
 * @returns {number | undefined} ms by this browser's clock; 0: unknown; undefined: the key was never sent
 */
export function firstSentAt(firstSending, now) {
  if (!firstSending) return undefined;
  const { at, environment } = firstSending;
  if (environment !== null && environment !== now.environment) return 0; // that was another key
  const setBack = Math.max(0, firstSending.clockAhead - now.clockAhead);
  return at > Date.now() ? at : at - setBack;
}
