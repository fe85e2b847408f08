import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { BUFFER_SIZE, DETAIL_LENGTH, createTelemetry, toBatches, truncate } from "../../rollout/static/rollout/telemetry.js";
import { BlockedStorage, FakeDocument, FakeStorage, never, scriptedFetch, settle } from "./fakes.js";

const accepted = () => new Response(JSON.stringify({ accepted: 1, duplicates: 0, rejected: [] }), { status: 202 });
const names = (telemetry) => telemetry.export().map(({ event }) => event);
const bodies = (fetch) => fetch.requests.map(({ body }) => JSON.parse(body));
let running = [];

function open({ endpoint = "/api/telemetry", fetch = scriptedFetch(accepted()), ...more } = {}) {
  const page = {
    endpoint,
    fetch,
    storage: new FakeStorage(),
    sessionStorage: new FakeStorage(),
    document: new FakeDocument(),
    events: new EventTarget(),
    navigator: { onLine: true },
    ...more,
  };
  const telemetry = createTelemetry(page);
  running.push(telemetry);
  return { ...page, telemetry };
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "setInterval"] }));
afterEach(() => {
  running.forEach((telemetry) => telemetry.stop());
  running = [];
  mock.timers.reset();
  mock.restoreAll();
});

// --- Events -----------------------------------------------------------------------------------------------------

test("an event has an id, a time and what the page said of it", () => {
  const { telemetry } = open({ flag: "USE_FUND_STORE", variant: () => "on" });
  const { id, at, ...event } = telemetry.record("migration_failed", { detail: new Error("quota") });
  assert.match(id, /^[0-9a-f-]{36}$/);
  assert.equal(new Date(at).toISOString(), at);
  assert.deepEqual(event, {
    event: "migration_failed",
    category: "error",
    ok: false,
    flag: "USE_FUND_STORE",
    variant: "on",
    detail: "Error: quota",
  });
});

test("an event's name says whether it is good, unless the page does", () => {
  const { telemetry } = open();
  const kind = (...values) => {
    const { ok, category } = telemetry.record(...values);
    return [ok, category];
  };
  for (const event of ["migration_failed", "validation_error", "console_warning", "console_error", "error", "fund_create_failure"]) {
    assert.deepEqual(kind(event), [false, "error"], event);
  }
  for (const event of ["heartbeat", "kill_switch_used", "fund_create_attempt", "fund_create_success", "fund_create_conflict"]) {
    assert.deepEqual(kind(event), [true, "usage"], event);
  }
  assert.deepEqual(kind("migration_succeeded"), [true, "migration"]);
  assert.deepEqual(kind("fund_create_conflict", { ok: false }), [false, "error"]);
  assert.deepEqual(kind("migration_failed", { ok: false, category: "migration" }), [false, "migration"]);
});

test("a detail is cut to 500 characters, never through a surrogate pair", () => {
  assert.equal(truncate(undefined), null);
  assert.equal(truncate("x".repeat(DETAIL_LENGTH)).length, DETAIL_LENGTH);
  const cut = truncate("x".repeat(DETAIL_LENGTH - 2) + "😀😀");
  assert.ok(cut.length <= DETAIL_LENGTH);
  assert.ok(cut.endsWith("x…"));
  assert.ok(truncate("😀".repeat(400)).isWellFormed?.() ?? true);
  assert.equal(truncate("\ud800"), "\ufffd");
  assert.equal(truncate({ a: 1 }), '{"a":1}');
  const cycle = {};
  cycle.self = cycle;
  assert.equal(truncate(cycle), "[object Object]");
  assert.equal(truncate(1n), "1");
});

test("the buffer keeps the last 200 and counts what was lost", () => {
  const { telemetry } = open();
  for (let number = 0; number < BUFFER_SIZE + 9; number++) telemetry.record("error", { detail: `${number}` });
  const kept = telemetry.export();
  assert.equal(kept.length, 200);
  assert.equal(kept.at(-1).detail, String(BUFFER_SIZE + 8));
  assert.equal(telemetry.dropped, 10); // the heartbeat, and nine
});

test("what the server has is not lost when it leaves the buffer", async () => {
  const { telemetry } = open();
  for (let number = 0; number < 150; number++) telemetry.record("error");
  await telemetry.flush();
  for (let number = 0; number < 150; number++) telemetry.record("error");
  assert.equal(telemetry.export().length, 200);
  assert.equal(telemetry.dropped, 0);
});

test("what support exports cannot change the buffer", () => {
  const { telemetry } = open();
  telemetry.export()[0].event = "changed";
  assert.deepEqual(names(telemetry), ["heartbeat"]);
});

// --- Sending ----------------------------------------------------------------------------------------------------

test("without an endpoint nothing is sent, whatever happens", async () => {
  const sendBeacon = mock.fn();
  const { telemetry, fetch, document, events } = open({ endpoint: null, navigator: { onLine: true, sendBeacon } });
  telemetry.record("error");
  await telemetry.flush();
  document.setHidden(true);
  events.dispatchEvent(new Event("pagehide"));
  mock.timers.tick(600_000);
  await settle();
  assert.equal(fetch.requests.length, 0);
  assert.equal(sendBeacon.mock.callCount(), 0);
  assert.deepEqual(names(telemetry), ["heartbeat", "error"]);
});

test("every ten seconds what is unsent is sent, in the shape the intake wants", async () => {
  const { telemetry, fetch } = open({ flag: "USE_FUND_STORE" });
  const recorded = telemetry.record("migration_succeeded");
  mock.timers.tick(10_000);
  await settle();
  assert.equal(fetch.requests.length, 1);
  const [{ url, method, keepalive, headers }] = fetch.requests;
  assert.deepEqual([url, method, keepalive], ["/api/telemetry", "POST", true]);
  assert.match(headers["Content-Type"], /^text\/plain/);
  const [{ clientId, sessionId, sentAt, dropped, events, ...rest }] = bodies(fetch);
  assert.deepEqual(rest, {});
  assert.deepEqual([clientId, sessionId, dropped], [telemetry.clientId, telemetry.sessionId, 0]);
  assert.equal(new Date(sentAt).toISOString(), sentAt);
  assert.deepEqual(events.map(({ event }) => event), ["heartbeat", "migration_succeeded"]);
  assert.deepEqual(events[1], recorded);
  assert.deepEqual(Object.keys(recorded), ["id", "event", "category", "ok", "at", "flag", "variant", "detail"]);
});

test("what was acknowledged is not sent again, and stays for support", async () => {
  const { telemetry, fetch } = open();
  await telemetry.flush();
  await telemetry.flush();
  assert.equal(fetch.requests.length, 1);
  assert.deepEqual(names(telemetry), ["heartbeat"]);
});

for (const [name, failure] of [
  ["the network is gone", new TypeError("Failed to fetch")],
  ["the server is throttled", new Response("", { status: 429 })],
  ["the server fails", new Response("", { status: 503 })],
]) {
  test(`events survive while ${name}, under their ids`, async () => {
    const { telemetry, fetch } = open({ fetch: scriptedFetch(failure, accepted()) });
    telemetry.record("error");
    await telemetry.flush();
    await telemetry.flush();
    const [first, second] = bodies(fetch).map(({ events }) => events);
    assert.deepEqual(second, first);
    await telemetry.flush();
    assert.equal(fetch.requests.length, 2);
    assert.equal(telemetry.dropped, 0);
  });
}

test("repeated failures make the pauses longer, and a success short again", async () => {
  const failure = new TypeError("Failed to fetch");
  const { fetch, telemetry } = open({ fetch: scriptedFetch(failure, failure, accepted()) });
  const after = async (seconds) => {
    mock.timers.tick(seconds * 1000);
    await settle();
    return fetch.requests.length;
  };
  assert.equal(await after(10), 1);
  assert.equal(await after(19), 1);
  assert.equal(await after(1), 2);
  assert.equal(await after(39), 2);
  assert.equal(await after(1), 3);
  telemetry.record("error");
  assert.equal(await after(10), 4);
});

test("a server that hangs is given up after ten seconds", async () => {
  const { telemetry, fetch } = open({ fetch: scriptedFetch(never, accepted()) });
  const flushed = telemetry.flush();
  mock.timers.tick(10_000);
  await flushed;
  await telemetry.flush();
  assert.equal(fetch.requests.length >= 2, true);
});

test("where there is no intake nothing more is asked, and nothing is lost", async () => {
  const { telemetry, fetch } = open({ fetch: scriptedFetch(new Response("", { status: 404 })) });
  await telemetry.flush();
  telemetry.record("error");
  await telemetry.flush();
  assert.equal(fetch.requests.length, 1);
  assert.deepEqual(names(telemetry), ["heartbeat", "error"]);
});

test("a batch that the server will never take does not block the next", async () => {
  const { telemetry, fetch } = open({ fetch: scriptedFetch(new Response("", { status: 400 }), accepted()) });
  await telemetry.flush();
  telemetry.record("error");
  await telemetry.flush();
  assert.deepEqual(bodies(fetch)[1].events.map(({ event }) => event), ["error"]);
  assert.equal(bodies(fetch)[1].dropped, 1);
});

test("nothing is tried while offline, and everything at once when online", async () => {
  const { telemetry, fetch, navigator, events } = open({ navigator: { onLine: false } });
  mock.timers.tick(60_000);
  await settle();
  assert.equal(fetch.requests.length, 0);
  navigator.onLine = true;
  events.dispatchEvent(new Event("online"));
  await settle();
  assert.equal(fetch.requests.length, 1);
  assert.deepEqual(names(telemetry), ["heartbeat"]);
});

test("a batch fits into what browsers let go with keepalive", () => {
  const events = Array.from({ length: 200 }, (_, number) => ({ id: `${number}`, detail: "é".repeat(500) }));
  const batches = toBatches(events, { clientId: "c" });
  assert.ok(batches.length > 1);
  for (const { body } of batches) assert.ok(new TextEncoder().encode(body).length <= 60_000);
  assert.deepEqual(batches.flatMap(({ ids }) => ids), events.map(({ id }) => id));
  assert.deepEqual(toBatches(Array.from({ length: 401 }, () => ({ id: "x" })), {}).map(({ ids }) => ids.length), [200, 200, 1]);
  assert.deepEqual(toBatches([], {}), []);
});

// --- Leaving the page -------------------------------------------------------------------------------------------

for (const [name, leave] of [
  ["hidden", ({ document }) => document.setHidden(true)],
  ["left", ({ events }) => events.dispatchEvent(new Event("pagehide"))],
]) {
  test(`a page that is ${name} hands over what is unsent, as text, and keeps it until it is acknowledged`, async () => {
    const sendBeacon = mock.fn(() => true);
    const page = open({ navigator: { onLine: true, sendBeacon } });
    page.telemetry.record("error");
    leave(page);
    const [url, body] = sendBeacon.mock.calls[0].arguments;
    assert.equal(url, "/api/telemetry");
    assert.equal(typeof body, "string");
    assert.deepEqual(JSON.parse(body).events.map(({ event }) => event), ["heartbeat", "error"]);
    await page.telemetry.flush();
    assert.deepEqual(bodies(page.fetch)[0].events, JSON.parse(body).events);
  });
}

test("a browser without beacons loses nothing but the moment", () => {
  const { document, telemetry } = open({ navigator: {} });
  assert.doesNotThrow(() => document.setHidden(true));
  assert.deepEqual(names(telemetry), ["heartbeat"]);
});

for (const [name, end] of [
  ["a reload", ({ events }) => events.dispatchEvent(new Event("pagehide"))],
  ["a crash a moment later", () => mock.timers.tick(250)],
]) {
  test(`unsent events and the session survive ${name}`, async () => {
    const sessionStorage = new FakeStorage();
    const first = open({ sessionStorage, endpoint: null });
    first.telemetry.record("migration_failed");
    end(first);
    const second = open({ sessionStorage, storage: first.storage });
    assert.equal(second.telemetry.sessionId, first.telemetry.sessionId);
    assert.equal(second.telemetry.clientId, first.telemetry.clientId);
    await second.telemetry.flush();
    assert.deepEqual(bodies(second.fetch)[0].events.map(({ event }) => event), ["heartbeat", "migration_failed"]);
  });
}

test("a corrupt or blocked session storage starts a new session", () => {
  for (const text of ["{", "null", "[]", '{"id": 1}']) {
    const sessionStorage = new FakeStorage();
    sessionStorage.setItem("rollouts.session", text);
    assert.deepEqual(names(open({ sessionStorage }).telemetry), ["heartbeat"], text);
  }
  assert.deepEqual(names(open({ sessionStorage: new BlockedStorage(), storage: new BlockedStorage() }).telemetry), ["heartbeat"]);
});

// --- Heartbeats and what happens by itself ----------------------------------------------------------------------

test("a seen page beats every minute, a hidden one does not", async () => {
  const { telemetry, document } = open({ flushInterval: 1000 });
  for (let minute = 0; minute < 2; minute++) {
    await telemetry.flush();
    mock.timers.tick(60_000);
    await settle();
  }
  assert.equal(names(telemetry).length, 3);
  await telemetry.flush();
  document.setHidden(true);
  mock.timers.tick(600_000);
  assert.equal(names(telemetry).length, 3);
});

test("heartbeats that cannot be sent do not push out what matters", () => {
  const { telemetry } = open({ endpoint: null });
  telemetry.record("error");
  mock.timers.tick(24 * 3600_000);
  assert.deepEqual(names(telemetry), ["heartbeat", "error"]);
});

test("errors and rejections nobody caught are events", () => {
  const { telemetry, events } = open();
  events.dispatchEvent(Object.assign(new Event("error"), { message: "x is not defined", filename: "/a.js", lineno: 7 }));
  events.dispatchEvent(Object.assign(new Event("unhandledrejection"), { reason: new TypeError("no") }));
  events.dispatchEvent(Object.assign(new Event("unhandledrejection"), { reason: undefined }));
  assert.deepEqual(
    telemetry.export().slice(1).map(({ event, ok, detail }) => [event, ok, detail]),
    [
      ["error", false, "x is not defined (/a.js:7)"],
      ["error", false, "TypeError: no"],
      ["error", false, "rejected without a reason"],
    ],
  );
});

test("the console is listened to when asked, still prints, and is given back", () => {
  const printed = [];
  mock.method(console, "warn", (...values) => printed.push(values));
  mock.method(console, "error", (...values) => printed.push(values));
  const { warn } = console;
  open().telemetry.stop();
  assert.equal(console.warn, warn);
  const { telemetry } = open({ consoleHooks: true });
  console.warn("slow", { ms: 5 });
  console.error(new Error("bad"));
  assert.deepEqual(printed.length, 2);
  assert.deepEqual(
    telemetry.export().slice(1).map(({ event, detail }) => [event, detail]),
    [
      ["console_warning", 'slow {"ms":5}'],
      ["console_error", "Error: bad"],
    ],
  );
  telemetry.stop();
  assert.equal(console.warn, warn);
});

test("what the page prints while it is asked for the variant is not recorded for ever", () => {
  mock.method(console, "warn", () => {});
  const variant = () => {
    console.warn("deprecated");
    return "on";
  };
  const { telemetry } = open({ consoleHooks: true, variant });
  console.warn("slow");
  assert.deepEqual(telemetry.export().filter(({ detail }) => detail === "slow").map(({ variant }) => variant), ["on"]);
});

test("a stopped telemetry does nothing more", async () => {
  const { telemetry, events, document, fetch } = open();
  telemetry.stop();
  events.dispatchEvent(Object.assign(new Event("error"), { message: "late" }));
  document.setHidden(true);
  mock.timers.tick(600_000);
  await settle();
  assert.deepEqual(names(telemetry), ["heartbeat"]);
  assert.equal(fetch.requests.length, 0);
});
