import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import {
  BUFFER_SIZE,
  DETAIL_LENGTH,
  createTelemetry,
  ticketSource,
  toBatches,
  truncate,
} from "../../rollout/static/rollout/telemetry.js";
import { createRollouts } from "../../rollout/static/rollout/rollout.js";
import { BlockedStorage, FakeDocument, FakeStorage, json, never, problem, scriptedFetch, settle } from "./fakes.js";

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

test("an interval that timers do not keep is the usual one, or the longest", async () => {
  for (const interval of [NaN, 0, -1, undefined, Infinity, 2 ** 31]) {
    const { telemetry, fetch } = open({ flushInterval: interval, heartbeatInterval: interval });
    await settle();
    mock.timers.tick(5000);
    await settle();
    assert.deepEqual([names(telemetry), fetch.requests.length], [["heartbeat"], 0], `${interval}`);
    telemetry.stop();
  }
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
  ["a hotel's login page answers", new Response("<h1>Welcome</h1>", { status: 200 })],
  ["a gateway answers", json({ status: "maintenance" })],
  ["an answer breaks off", new Response('{"accepted":', { status: 202 })],
  ["a proxy knows no such address", new Response("default backend - 404", { status: 404 })],
  ["a proxy refuses to POST", new Response("<h1>405</h1>", { status: 405 })],
  ["a proxy does not understand", new Response("<h1>400 Bad Request</h1>", { status: 400 })],
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
  const { telemetry, fetch } = open({ fetch: scriptedFetch(problem(404, "not_found")) });
  await telemetry.flush();
  telemetry.record("error");
  await telemetry.flush();
  assert.equal(fetch.requests.length, 1);
  assert.deepEqual(names(telemetry), ["heartbeat", "error"]);
});

test("a batch that the server will never take does not block the next", async () => {
  const { telemetry, fetch } = open({ fetch: scriptedFetch(problem(400, "validation_error"), accepted()) });
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

// --- The variant ------------------------------------------------------------------------------------------------

test("a heartbeat waits until its variant is known", async () => {
  let variant = null;
  let arrive;
  const answer = new Promise((resolve) => (arrive = resolve));
  const { telemetry, document } = open({ variant: () => variant, ready: () => answer });
  document.dispatchEvent(new Event("visibilitychange")); // asks for a second one
  await settle();
  assert.deepEqual(telemetry.export(), []);
  assert.equal(telemetry.record("error").variant, null);
  variant = "on";
  arrive();
  await settle();
  assert.deepEqual(telemetry.export().map(({ event, variant }) => [event, variant]), [
    ["error", null],
    ["heartbeat", "on"],
  ]);
});

for (const [name, ready] of [
  ["that never comes", () => new Promise(() => {})],
  ["that fails", () => Promise.reject(new Error("offline"))],
  ["that throws", () => {
    throw new Error("bug");
  }],
]) {
  test(`a configuration ${name} costs no heartbeat`, async () => {
    const { telemetry } = open({ ready, variant: () => null });
    await settle();
    mock.timers.tick(10_000);
    await settle();
    assert.deepEqual(telemetry.export().map(({ event, variant }) => [event, variant]), [["heartbeat", null]]);
  });
}

test("a page that is hidden while its heartbeat waits sends none, and one when it is seen", async () => {
  let arrive;
  const { telemetry, document } = open({ ready: () => new Promise((resolve) => (arrive = resolve)) });
  document.setHidden(true);
  arrive();
  await settle();
  assert.deepEqual(names(telemetry), []);
  document.setHidden(false);
  arrive();
  await settle();
  assert.deepEqual(names(telemetry), ["heartbeat"]);
});

test("each heartbeat has the variant of its time", async () => {
  let variant = "off";
  const { telemetry } = open({ variant: () => variant, ready: async () => {} });
  await settle();
  await telemetry.flush();
  variant = "on"; // a promotion, an opt-in, another tab
  mock.timers.tick(60_000);
  await settle();
  assert.deepEqual(telemetry.export().map(({ variant }) => variant), ["off", "on"]);
});

test("a tab that is seen again after a promotion says so in its first heartbeat", async () => {
  const answer = (percentage, version) =>
    json({
      environment: "test",
      pollInterval: 15,
      rollouts: [{ feature: "F", enabled: true, percentage, emergencyStop: false, hashVersion: 1, version }],
    });
  const page = { storage: new FakeStorage(), document: new FakeDocument(), events: new EventTarget(), location: { search: "" } };
  const rollouts = createRollouts({ ...page, fetch: scriptedFetch(answer(0, 1), answer(100, 2)) });
  const { telemetry } = open({ ...page, variant: () => rollouts.variant("F"), ready: rollouts.refresh });
  await settle();
  await telemetry.flush();
  page.document.setHidden(true); // for hours; also the way into the back/forward cache
  await settle();
  page.document.setHidden(false);
  await settle();
  assert.deepEqual(telemetry.export().map(({ event, variant }) => [event, variant]), [
    ["heartbeat", "off"],
    ["heartbeat", "on"],
  ]);
  rollouts.stop();
});

// --- Tickets ----------------------------------------------------------------------------------------------------

const HOUR = 3600_000;
const refusing = (code) => json({ accepted: 1, duplicates: 0, rejected: [], ticket: code }, { status: 202 });

/** A clock that stands still, beside the mocked timers, and a source of numbered tickets that last an hour. */
function clock(start = 1_800_000_000_000) {
  const time = { now: start };
  mock.method(Date, "now", () => time.now);
  time.source = mock.fn(async () => ({
    ticket: `ticket-${time.source.mock.callCount()}`,
    expiresAt: new Date(time.now + HOUR).toISOString(),
  }));
  return time;
}

const sentTickets = (fetch) => bodies(fetch).map(({ ticket }) => ticket);

async function sendOne(telemetry) {
  telemetry.record("error");
  await telemetry.flush();
}

test("a ticket goes with each batch, and with beacons", async () => {
  const sendBeacon = mock.fn(() => true);
  for (const ticket of ["t1", { ticket: "t1" }, async () => "t1", async () => ({ ticket: "t1" })]) {
    const { telemetry, fetch, document } = open({ ticket, navigator: { onLine: true, sendBeacon } });
    await sendOne(telemetry);
    telemetry.record("error");
    document.setHidden(true);
    assert.deepEqual(sentTickets(fetch), ["t1"]);
    assert.equal(JSON.parse(sendBeacon.mock.calls.at(-1).arguments[1]).ticket, "t1");
  }
});

test("a ticket is renewed before it expires", async () => {
  const time = clock();
  const { telemetry, fetch } = open({ ticket: time.source });
  await sendOne(telemetry);
  time.now += 0.79 * HOUR;
  await sendOne(telemetry);
  time.now += 0.02 * HOUR;
  await sendOne(telemetry);
  assert.deepEqual(sentTickets(fetch), ["ticket-0", "ticket-0", "ticket-1"]);
});

test("a ticket that the server refuses is replaced, at most once a minute", async () => {
  const time = clock();
  const { telemetry, fetch } = open({ ticket: time.source, fetch: scriptedFetch(refusing("expired")) });
  await sendOne(telemetry); // a clock that is wrong, a key that has changed
  await sendOne(telemetry);
  time.now += 60_000;
  await sendOne(telemetry);
  assert.deepEqual(sentTickets(fetch), ["ticket-0", undefined, "ticket-1"]);
  assert.equal(telemetry.dropped, 0);
});

test("a text that the server refuses is not sent again", async () => {
  const { telemetry, fetch } = open({ ticket: "old", fetch: scriptedFetch(refusing("invalid"), accepted()) });
  await sendOne(telemetry);
  await sendOne(telemetry);
  assert.deepEqual(sentTickets(fetch), ["old", undefined]);
});

test("what is left after a refusal goes with the next ticket, and each batch is small enough with it", async () => {
  const time = clock();
  const fetch = scriptedFetch(accepted(), refusing("expired"), accepted());
  const { telemetry } = open({ ticket: time.source, fetch });
  await telemetry.flush();
  for (let number = 0; number < 199; number++) telemetry.record("error", { detail: "é".repeat(500) });
  time.now += 60_000;
  await telemetry.flush();
  assert.equal(fetch.requests.length, 2);
  await telemetry.flush();
  assert.ok(fetch.requests.length > 3);
  assert.deepEqual(new Set(sentTickets(fetch).slice(2)), new Set(["ticket-1"]));
  for (const { body } of fetch.requests) assert.ok(new TextEncoder().encode(body).length <= 60_000);
  assert.equal(telemetry.dropped, 0);
});

for (const [name, failing] of [
  ["fails", () => Promise.reject(new Error("503"))],
  ["says that nobody is signed in", async () => null],
  ["throws", () => {
    throw new Error("bug");
  }],
]) {
  test(`events go without a ticket when its source ${name}`, async () => {
    const { telemetry, fetch } = open({ ticket: failing });
    await sendOne(telemetry);
    assert.deepEqual(bodies(fetch).map(({ events, ticket }) => [events.length, ticket]), [[2, undefined]]);
  });
}

test("events wait for a ticket ten seconds at most", async () => {
  const { telemetry, fetch } = open({ ticket: () => new Promise(() => {}) });
  const flushed = telemetry.flush();
  await settle();
  assert.equal(fetch.requests.length, 0);
  mock.timers.tick(10_000);
  await flushed;
  assert.deepEqual(sentTickets(fetch), [undefined]);
});

test("a ticket that cannot be renewed is used while the server accepts it", async () => {
  const time = clock();
  const { telemetry, fetch } = open({ ticket: time.source });
  await sendOne(telemetry);
  time.source.mock.mockImplementation(() => Promise.reject(new Error("offline")));
  time.now += 0.9 * HOUR;
  await sendOne(telemetry);
  assert.deepEqual(sentTickets(fetch), ["ticket-0", "ticket-0"]);
});

test("a browser whose clock is hours ahead asks for a ticket once a minute, not for each batch", async () => {
  const time = clock();
  time.source.mock.mockImplementation(async () => ({ ticket: "t", expiresAt: new Date(time.now - HOUR).toISOString() }));
  const { telemetry, fetch } = open({ ticket: time.source });
  for (let second = 0; second < 60; second += 10) {
    await sendOne(telemetry);
    time.now += 10_000;
  }
  assert.deepEqual(sentTickets(fetch), Array(6).fill("t"));
  assert.equal(time.source.mock.callCount(), 1);
});

test("the source begins with the ticket of the page, then asks the server", async () => {
  const fetch = scriptedFetch(json({ ticket: "t2", expiresAt: "2031-01-01T00:00:00Z" }), new Response("", { status: 401 }), new Response("", { status: 500 }));
  const next = ticketSource({ first: { ticket: "t1" }, csrf: () => "c", fetch });
  assert.deepEqual(await next(), { ticket: "t1" });
  assert.equal(fetch.requests.length, 0);
  assert.deepEqual(await next(), { ticket: "t2", expiresAt: "2031-01-01T00:00:00Z" });
  const [{ url, method, headers }] = fetch.requests;
  assert.deepEqual([url, method, headers["X-CSRFToken"]], ["/api/telemetry/ticket", "POST", "c"]);
  assert.equal(await next(), null);
  await assert.rejects(next());
});

test("the source sends a token where there is one, and no CSRF token with it", async () => {
  const fetch = scriptedFetch(json({ ticket: "t" }));
  await ticketSource({ url: "https://funds.example/api/telemetry/ticket", token: () => "secret", fetch })();
  const [{ headers }] = fetch.requests;
  assert.equal(headers.Authorization, "Bearer secret");
  assert.equal("X-CSRFToken" in headers, false);
});

test("the source's token may be a promise, and what is no ticket is none", async () => {
  const fetch = scriptedFetch(json({ ticket: "t" }), json({ status: "maintenance" }));
  const next = ticketSource({ url: "https://funds.example/api/telemetry/ticket", token: async () => "secret", fetch });
  assert.deepEqual(await next(), { ticket: "t" });
  assert.equal(fetch.requests[0].headers.Authorization, "Bearer secret");
  await assert.rejects(next(), /no ticket/); // then the old one is used while the server accepts it
});

test("a source that hangs is given up after ten seconds", async () => {
  const next = ticketSource({ url: "https://funds.example/api/telemetry/ticket", csrf: () => "c", fetch: scriptedFetch(never) });
  const asked = next();
  await settle();
  mock.timers.tick(10_000);
  await assert.rejects(asked, { name: "AbortError" });
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
