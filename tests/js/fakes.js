// Small stand-ins for what a browser has and Node has not.

export class FakeStorage {
  items = new Map();
  getItem(key) {
    return this.items.get(key) ?? null;
  }
  setItem(key, value) {
    this.items.set(key, String(value));
  }
  removeItem(key) {
    this.items.delete(key);
  }
}

/** As a browser that blocks storage: touching it throws. */
export class BlockedStorage {
  getItem() {
    throw new DOMException("blocked", "SecurityError");
  }
  setItem() {
    throw new DOMException("blocked", "SecurityError");
  }
  removeItem() {
    throw new DOMException("blocked", "SecurityError");
  }
}

/** Keeps what is there, and takes nothing more. */
export class FullStorage extends FakeStorage {
  setItem() {
    throw new DOMException("full", "QuotaExceededError");
  }
}

export class FakeDocument extends EventTarget {
  hidden = false;
  setHidden(hidden) {
    this.hidden = hidden;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

/** A fetch that answers from a script, one step a request; the last step repeats. A step is a Response, an Error or a function. */
export function scriptedFetch(...steps) {
  const requests = [];
  async function fetch(url, init = {}) {
    requests.push({ url, ...init });
    const step = steps[Math.min(requests.length, steps.length) - 1];
    const answer = typeof step === "function" ? await step(url, init) : step;
    if (answer instanceof Error) throw answer;
    return answer.clone();
  }
  fetch.requests = requests;
  return fetch;
}

export function json(body, init = {}) {
  return new Response(JSON.stringify(body), { ...init, headers: { "Content-Type": "application/json", ...init.headers } });
}

export function problem(status, code, headers = {}, more = {}) {
  return new Response(JSON.stringify({ type: "about:blank", title: code, status, detail: `about ${code}`, code, ...more }), {
    status,
    headers: { "Content-Type": "application/problem+json", ...headers },
  });
}

/** A request that never ends by itself. */
export function never(_url, { signal }) {
  return new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

/** Let promises and microtasks settle; with mocked timers nothing else moves. */
export async function settle() {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
}
