import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { CONFIGURATION_KEY, UUID_KEY, createRollouts, parseConfiguration } from "../../rollout/static/rollout/rollout.js";
import { BlockedStorage, FakeDocument, FakeStorage, FullStorage, json, never, scriptedFetch, settle } from "./fakes.js";

const FEATURE = "USE_FUND_STORE";
const INSIDE = "d16cf91b-e7ac-4ca9-b50f-8ceead8f87d0"; // bucket 9
const OUTSIDE = "936ad1a9-baa6-46a9-b7ef-b7176125ecb7"; // bucket 10

function rollout(fields = {}) {
  return { feature: FEATURE, enabled: true, percentage: 10, emergencyStop: false, hashVersion: 1, version: 1, ...fields };
}

function configuration(fields = {}, { pollInterval = 15 } = {}) {
  return { environment: "test", pollInterval, rollouts: [rollout(fields)] };
}

let running = [];

/** A page that follows rollouts; its parts can be replaced. */
function open({ fetch = scriptedFetch(json(configuration())), uuid = INSIDE, search = "", storage = new FakeStorage(), ...more } = {}) {
  if (uuid) storage.items?.set(UUID_KEY, uuid);
  const page = { fetch, storage, location: { search }, document: new FakeDocument(), events: new EventTarget(), ...more };
  const rollouts = createRollouts(page);
  running.push(rollouts);
  return { rollouts, ...page };
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => {
  running.forEach((rollouts) => rollouts.stop());
  running = [];
  mock.timers.reset();
  mock.restoreAll();
});

// --- Following the server ---------------------------------------------------------------------------------------

test("a page asks the server, and then knows", async () => {
  const { rollouts, fetch } = open();
  assert.deepEqual(rollouts.evaluation(FEATURE), { on: false, reason: "unknown" });
  await rollouts.ready;
  assert.equal(rollouts.isOn(FEATURE), true);
  assert.deepEqual(rollouts.config(FEATURE), rollout());
  assert.equal(fetch.requests[0].url, "/api/rollouts");
  assert.equal(fetch.requests[0].cache, "no-cache");
  assert.equal(rollouts.isOn("NO_SUCH"), false);
  assert.equal(rollouts.config("NO_SUCH"), null);
});

test("the variant for telemetry is null until it is known, and never a guess", async () => {
  const { rollouts } = open();
  assert.equal(rollouts.variant(FEATURE), null);
  const asked = rollouts.refresh().then(() => rollouts.variant(FEATURE)); // as a heartbeat waits for it
  await rollouts.ready;
  assert.equal(await asked, "on");
  assert.equal(rollouts.variant(FEATURE, "fund-store", "legacy"), "fund-store");
  assert.equal(open({ uuid: OUTSIDE }).rollouts.variant("NO_SUCH"), null);
  const outside = open({ uuid: OUTSIDE }).rollouts;
  await outside.ready;
  assert.equal(outside.variant(FEATURE, "fund-store", "legacy"), "legacy");
  assert.equal(outside.variant("NO_SUCH"), null);
});

test("a stored configuration may be of yesterday: the variant waits for the server's answer, or its failure", async () => {
  const storage = new FakeStorage();
  storage.setItem(CONFIGURATION_KEY, JSON.stringify(configuration({ percentage: 0 })));
  const promoted = open({ storage, fetch: scriptedFetch(json(configuration({ percentage: 100, version: 2 }))) }).rollouts;
  assert.equal(promoted.isOn(FEATURE), false);
  assert.equal(promoted.variant(FEATURE), null);
  await promoted.ready;
  assert.equal(promoted.variant(FEATURE), "on");
  storage.setItem(CONFIGURATION_KEY, JSON.stringify(configuration({ percentage: 100 })));
  const offline = open({ storage, fetch: scriptedFetch(new TypeError("Failed to fetch")) }).rollouts;
  await offline.ready;
  assert.equal(offline.variant(FEATURE), "on"); // as the page behaves
  const hanging = open({ storage, fetch: scriptedFetch(never) }).rollouts;
  mock.timers.tick(3000);
  await hanging.ready;
  assert.equal(hanging.variant(FEATURE), "on");
});

test("without any configuration the variant is unknown, and an opt-out is known all the same", async () => {
  const offline = () => scriptedFetch(new TypeError("Failed to fetch"));
  const { rollouts } = open({ fetch: offline() });
  await rollouts.ready;
  assert.equal(rollouts.isOn(FEATURE), false);
  assert.equal(rollouts.variant(FEATURE), null);
  const out = open({ fetch: offline(), search: "?ff_useFundStore=0" }).rollouts;
  await out.ready;
  assert.equal(out.variant(FEATURE), "off");
});

test("the variant follows a switch and another tab at once", async () => {
  const { rollouts, storage, events } = open({ uuid: OUTSIDE });
  await rollouts.ready;
  assert.equal(rollouts.variant(FEATURE), "off");
  storage.setItem("ff_useFundStore", "1");
  assert.equal(rollouts.variant(FEATURE), "on");
  storage.removeItem("ff_useFundStore");
  storage.setItem(CONFIGURATION_KEY, JSON.stringify(configuration({ percentage: 100, version: 2 })));
  events.dispatchEvent(new Event("storage"));
  assert.equal(rollouts.variant(FEATURE), "on");
});

test("it follows a change within the server's poll interval, and notifies subscribers", async () => {
  const { rollouts } = open({
    uuid: OUTSIDE,
    fetch: scriptedFetch(json(configuration()), json(configuration({ percentage: 50, version: 2 }))),
  });
  await rollouts.ready;
  const heard = [];
  const unsubscribe = rollouts.subscribe((evaluations) => heard.push(evaluations));
  mock.timers.tick(15_000 * 1.2);
  await settle();
  assert.deepEqual(heard, [{ [FEATURE]: { on: true, reason: "percentage" } }]);
  unsubscribe();
  rollouts.stop();
});

test("an unchanged answer notifies nobody", async () => {
  const { rollouts, fetch } = open();
  await rollouts.ready;
  rollouts.subscribe(() => assert.fail("nothing changed"));
  await rollouts.refresh();
  assert.equal(fetch.requests.length, 2);
});

test("a listener that throws does not silence the others", async () => {
  const { rollouts } = open({ fetch: scriptedFetch(json(configuration()), json(configuration({ emergencyStop: true }))) });
  await rollouts.ready;
  const thrown = [];
  mock.method(globalThis, "queueMicrotask", (task) => {
    try {
      task();
    } catch (error) {
      thrown.push(error.message);
    }
  });
  let heard = 0;
  rollouts.subscribe(() => {
    throw new Error("listener");
  });
  rollouts.subscribe(() => (heard += 1));
  await rollouts.refresh();
  assert.equal(heard, 1);
  assert.deepEqual(thrown, ["listener"]);
});

test("polls are spread by a fifth of the interval, either way", async () => {
  for (const [random, due] of [[0, 12_000], [0.5, 15_000], [1, 18_000]]) {
    mock.method(Math, "random", () => random);
    const { rollouts, fetch } = open();
    await rollouts.ready;
    await settle();
    mock.timers.tick(due - 1);
    assert.equal(fetch.requests.length, 1);
    mock.timers.tick(1);
    assert.equal(fetch.requests.length, 2);
    rollouts.stop();
  }
});

test("a page's own poll interval comes before the server's, and none is below a second or above an hour", async () => {
  mock.method(Math, "random", () => 0.5);
  for (const [options, server, due] of [[{ pollInterval: 2 }, 15, 2000], [{ pollInterval: NaN }, 15, 15_000], [{ pollInterval: "often" }, 15, 15_000], [{}, 0, 1000], [{}, 1e12, 3_600_000]]) {
    const { rollouts, fetch } = open({ ...options, fetch: scriptedFetch(json(configuration({}, { pollInterval: server }))) });
    await rollouts.ready;
    await settle();
    mock.timers.tick(due - 1);
    assert.equal(fetch.requests.length, 1);
    mock.timers.tick(1);
    assert.equal(fetch.requests.length, 2);
    rollouts.stop();
  }
});

test("a hidden page does not poll, and asks at once when it is seen again", async () => {
  const { rollouts, fetch, document } = open();
  await rollouts.ready;
  await settle();
  document.setHidden(true);
  mock.timers.tick(10 * 60_000);
  assert.equal(fetch.requests.length, 1);
  document.setHidden(false);
  assert.equal(fetch.requests.length, 2);
});

test("a page that is opened in the background asks once, and then waits to be seen", async () => {
  const document = new FakeDocument();
  document.hidden = true;
  const { rollouts, fetch } = open({ document });
  await rollouts.ready;
  await settle();
  mock.timers.tick(10 * 60_000);
  assert.equal(fetch.requests.length, 1);
});

test("a 304, where something between hands one through, is an answer", async () => {
  const { rollouts } = open({ fetch: scriptedFetch(json(configuration()), new TypeError("offline"), new Response(null, { status: 304 })) });
  await rollouts.ready;
  await rollouts.refresh();
  assert.notEqual(rollouts.debugRollouts().failure, null);
  await rollouts.refresh();
  assert.equal(rollouts.debugRollouts().failure, null);
  assert.equal(rollouts.isOn(FEATURE), true);
});

test("a page that is online again asks at once", async () => {
  const { rollouts, fetch, events } = open();
  await rollouts.ready;
  await settle();
  events.dispatchEvent(new Event("online"));
  assert.equal(fetch.requests.length, 2);
});

test("requests never overlap", async () => {
  const { rollouts, fetch } = open({ fetch: scriptedFetch(never) });
  assert.equal(rollouts.refresh(), rollouts.refresh());
  assert.equal(fetch.requests.length, 1);
});

test("a stopped page asks no more, and takes no late answer", async () => {
  let answer;
  const { rollouts, fetch, events, storage } = open({
    fetch: scriptedFetch(() => new Promise((resolve) => (answer = () => resolve(json(configuration()))))),
  });
  rollouts.stop();
  answer();
  await settle();
  events.dispatchEvent(new Event("online"));
  await rollouts.refresh();
  mock.timers.tick(60_000);
  assert.equal(fetch.requests.length, 1);
  assert.equal(rollouts.config(FEATURE), null);
  assert.equal(storage.getItem(CONFIGURATION_KEY), null);
});

// --- When the server does not answer ----------------------------------------------------------------------------

const FAILURES = {
  "the network is gone": new TypeError("Failed to fetch"),
  "the server fails": new Response("oops", { status: 500 }),
  "the server fails with a configuration": json(configuration({ percentage: 100 }), { status: 503 }),
  "the answer is HTML": new Response("<h1>Sign in to the hotel's network</h1>"),
  "the answer is some other JSON": json({ rollouts: "none" }),
  "the answer is null": json(null),
};

for (const [name, failure] of Object.entries(FAILURES)) {
  test(`an emergency stop holds when ${name}`, async () => {
    const { rollouts, storage } = open({ fetch: scriptedFetch(json(configuration({ emergencyStop: true })), failure) });
    await rollouts.ready;
    await rollouts.refresh();
    assert.deepEqual(rollouts.evaluation(FEATURE), { on: false, reason: "emergency_stop" });
    assert.notEqual(rollouts.debugRollouts().failure, null);
    const reopened = open({ storage, fetch: scriptedFetch(failure) });
    assert.deepEqual(reopened.rollouts.evaluation(FEATURE), { on: false, reason: "emergency_stop" });
    await reopened.rollouts.ready;
    assert.deepEqual(reopened.rollouts.evaluation(FEATURE), { on: false, reason: "emergency_stop" });
  });

  test(`a browser that never saw a configuration uses legacy when ${name}`, async () => {
    const { rollouts } = open({ fetch: scriptedFetch(failure), search: "?ff_useFundStore=1" });
    await rollouts.ready;
    assert.deepEqual(rollouts.evaluation(FEATURE), { on: false, reason: "unknown" });
  });
}

test("polling goes on after a failure", async () => {
  const { rollouts } = open({ fetch: scriptedFetch(new TypeError("Failed to fetch"), json(configuration())) });
  await rollouts.ready;
  await settle();
  mock.timers.tick(18_000);
  await settle();
  assert.equal(rollouts.isOn(FEATURE), true);
  assert.equal(rollouts.debugRollouts().failure, null);
});

test("ready waits three seconds for a server that hangs, and the request ends after ten", async () => {
  let aborted = false;
  const { rollouts } = open({
    fetch: scriptedFetch((url, init) => {
      init.signal.addEventListener("abort", () => (aborted = true));
      return never(url, init);
    }),
  });
  let ready = false;
  rollouts.ready.then(() => (ready = true));
  mock.timers.tick(2999);
  await settle();
  assert.equal(ready, false);
  mock.timers.tick(1);
  await settle();
  assert.equal(ready, true);
  assert.equal(aborted, false);
  mock.timers.tick(7000);
  assert.equal(aborted, true);
});

test("a corrupt stored configuration is none", async () => {
  for (const text of ["{", "null", "[]", '{"rollouts": 5}', '"x"']) {
    const storage = new FakeStorage();
    storage.setItem(CONFIGURATION_KEY, text);
    const { rollouts } = open({ storage, fetch: scriptedFetch(new TypeError("offline")) });
    assert.deepEqual(rollouts.evaluation(FEATURE), { on: false, reason: "unknown" }, text);
  }
});

test("a rollout that cannot be read is left out, and the others stay", () => {
  const broken = [null, {}, rollout({ percentage: "10" }), rollout({ enabled: 1 }), rollout({ emergencyStop: null }), rollout({ hashVersion: 1.5 })];
  const parsed = parseConfiguration({ rollouts: [...broken, rollout()] });
  assert.deepEqual(parsed, { environment: "", pollInterval: 15, rollouts: [rollout()] });
});

test("when a new configuration does not fit into storage the old one does not come back", async () => {
  const storage = new FullStorage();
  storage.items.set(CONFIGURATION_KEY, JSON.stringify(configuration()));
  const { rollouts } = open({ storage, fetch: scriptedFetch(json(configuration({ emergencyStop: true }))) });
  await rollouts.ready;
  assert.deepEqual(rollouts.evaluation(FEATURE), { on: false, reason: "emergency_stop" });
  assert.equal(storage.getItem(CONFIGURATION_KEY), null);
});

test("a browser that blocks storage follows the server all the same", async () => {
  const { rollouts } = open({ storage: new BlockedStorage(), fetch: scriptedFetch(json(configuration({ percentage: 100 }))) });
  await rollouts.ready;
  assert.equal(rollouts.isOn(FEATURE), true);
});

// --- Several tabs -----------------------------------------------------------------------------------------------

test("what another tab stored holds here at once, without a request", async () => {
  const { rollouts, storage, events, fetch } = open();
  await rollouts.ready;
  const heard = [];
  rollouts.subscribe((evaluations) => heard.push(evaluations[FEATURE].reason));
  storage.setItem("ff_useFundStore", "0");
  events.dispatchEvent(new Event("storage"));
  storage.setItem(CONFIGURATION_KEY, JSON.stringify(configuration({ emergencyStop: true, version: 2 })));
  events.dispatchEvent(new Event("storage"));
  assert.deepEqual(heard, ["opt_out", "emergency_stop"]);
  assert.equal(fetch.requests.length, 1);
});

test("a slower tab's older configuration does not end an emergency stop", async () => {
  const { rollouts, storage, events } = open({ fetch: scriptedFetch(json(configuration({ emergencyStop: true, version: 5 }))) });
  await rollouts.ready;
  storage.setItem(CONFIGURATION_KEY, JSON.stringify(configuration({ version: 4 })));
  events.dispatchEvent(new Event("storage"));
  assert.equal(rollouts.evaluation(FEATURE).reason, "emergency_stop");
});

test("the server may take a version back, after a restore", async () => {
  const { rollouts } = open({
    fetch: scriptedFetch(json(configuration({ percentage: 0, version: 5 })), json(configuration({ percentage: 100, version: 2 }))),
  });
  await rollouts.ready;
  await rollouts.refresh();
  assert.equal(rollouts.isOn(FEATURE), true);
});

test("two tabs on a first visit end up with one uuid", async () => {
  const { rollouts, storage, events } = open();
  await rollouts.ready;
  storage.setItem(UUID_KEY, OUTSIDE);
  events.dispatchEvent(new Event("storage"));
  assert.equal(rollouts.uuid, OUTSIDE);
  assert.equal(rollouts.isOn(FEATURE), false);
});

test("a switch in the URL holds as long as it is there", async () => {
  const { rollouts, location, events } = open({ search: "?ff_useFundStore=0" });
  await rollouts.ready;
  assert.equal(rollouts.evaluation(FEATURE).reason, "opt_out");
  const heard = [];
  rollouts.subscribe((evaluations) => heard.push(evaluations[FEATURE].reason));
  location.search = "";
  events.dispatchEvent(new Event("popstate"));
  assert.deepEqual(heard, ["percentage"]);
});

test("a person whom an operator has named gets what was said, and is no part of the judge's sample", async () => {
  const { rollouts } = open({ assigned: { [FEATURE]: false } });
  await rollouts.ready;
  assert.deepEqual(rollouts.evaluation(FEATURE), { on: false, reason: "never" });
  assert.equal(rollouts.variant(FEATURE), null);
  const always = open({ assigned: { [FEATURE]: true }, document: undefined }).rollouts;
  await always.ready;
  assert.deepEqual(always.evaluation(FEATURE), { on: true, reason: "always" });
  assert.equal(always.variant(FEATURE), null);
});

test("a page says by an element what an operator has said of its person", async () => {
  const document = new FakeDocument();
  document.getElementById = (id) => (id === "rollouts-assigned" ? { textContent: `{"${FEATURE}": false}` } : null);
  const { rollouts } = open({ document });
  await rollouts.ready;
  assert.equal(rollouts.evaluation(FEATURE).reason, "never");
  document.getElementById = () => ({ textContent: "no JSON" });
  const broken = open({ document }).rollouts;
  await broken.ready;
  assert.equal(broken.evaluation(FEATURE).reason, "percentage");
});

// --- Support ----------------------------------------------------------------------------------------------------

test("the runbook's support commands answer", async () => {
  const { rollouts } = open();
  const window = {};
  rollouts.install(window);
  assert.equal(window.__rollouts.getUserBucket(FEATURE), null);
  await rollouts.ready;
  assert.equal(window.__rollouts.getUserBucket(FEATURE), 9);
  assert.equal(window.__rollouts.getUserBucket("NO_SUCH"), null);
  const { answeredAt, ...answer } = window.__rollouts.debugRollouts();
  assert.ok(Date.parse(answeredAt) <= Date.now());
  assert.deepEqual(answer, {
    uuid: INSIDE,
    environment: "test",
    url: "/api/rollouts",
    source: "server",
    failure: null,
    features: {
      [FEATURE]: {
        ...{ on: true, reason: "percentage", bucket: 9, buckets: 100 },
        switches: { emergency: false, urlOverride: null, storedOverride: null, assigned: null },
        ...rollout(),
      },
    },
  });
  assert.doesNotThrow(() => JSON.stringify(answer));
});
