import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, beforeEach, mock, test } from "node:test";
import { runInNewContext } from "node:vm";
import {
  ConflictError,
  ExpiredKeyError,
  OfflineError,
  ProblemError,
  TimeoutError,
  UnansweredError,
  canonical,
  contentKey,
  createClient,
  pause,
  readRetryAfter,
  sha256,
  sha256Bytes,
} from "../../idempotency/static/idempotency/client.js";
import { BlockedStorage, FakeStorage, FullStorage, json, never, problem, scriptedFetch, settle } from "./fakes.js";

const FUND = { name: "Harbor Growth I", size: 250_000_000, vintageYear: 2025 };
const created = (headers = {}) => json({ id: 7, ...FUND }, { status: 201, headers: { "Idempotency-Status": "created", ...headers } });
const replayed = () => json({ id: 7, ...FUND }, { status: 200, headers: { "Idempotency-Status": "replayed" } });
const inProgress = () => problem(409, "idempotency_request_in_progress", { "Retry-After": "1" });

function open({ steps = [created()], ...options } = {}) {
  const fetch = scriptedFetch(...steps);
  const client = createClient({ environment: "test", operation: "fund-create", storage: new FakeStorage(), fetch, ...options });
  const post = (options = {}, payload = FUND) => client.post("https://api.example/api/funds", payload, options);
  return { client, fetch, post, keys: () => fetch.requests.map(({ headers }) => headers.get("Idempotency-Key")) };
}

/** Let mocked time pass until a promise is settled. */
async function outlast(promise, step = 1000) {
  let done = false;
  const end = () => (done = true);
  promise.then(end, end);
  const patience = performance.now() + 20_000; // ms: crypto.subtle has a thread of its own, and waits on a busy machine
  while (!done && performance.now() < patience) {
    await settle();
    mock.timers.tick(step);
  }
  return promise;
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  for (const name of ["window", "document", "location"]) delete globalThis[name];
});

// --- Keys -------------------------------------------------------------------------------------------------------

test("the hash is SHA-256, with and without crypto.subtle", async () => {
  for (let length = 0; length < 200; length++) {
    const bytes = new Uint8Array(length).fill(length);
    assert.equal(Buffer.from(sha256Bytes(bytes)).toString("hex"), createHash("sha256").update(bytes).digest("hex"), `${length}`);
  }
  const text = "Ünïcödé 😀".repeat(1000);
  const expected = createHash("sha256").update(text).digest("hex");
  assert.equal(await sha256(text), expected);
  const subtle = crypto.subtle;
  Object.defineProperty(crypto, "subtle", { value: undefined, configurable: true });
  try {
    assert.equal(await sha256(text), expected);
  } finally {
    Object.defineProperty(crypto, "subtle", { value: subtle, configurable: true });
  }
});

test("the same value is the same text: order, white space and the form of numbers do not matter", () => {
  const one = canonical({ b: [1, { y: null, x: "é" }], a: 10 });
  assert.equal(one, '{"a":10,"b":[1,{"x":"é","y":null}]}');
  assert.equal(canonical(JSON.parse('{ "a": 10.0, "b": [1.0, {"x": "\\u00e9", "y": null}] }')), one);
  assert.equal(canonical({ a: 1e1, b: [1, { x: "é", y: null }], c: undefined }), one);
  assert.equal(canonical(-0), canonical(0));
  assert.notEqual(canonical([1, 2]), canonical([2, 1]));
  assert.notEqual(canonical({ a: "1" }), canonical({ a: 1 }));
  assert.notEqual(canonical(null), canonical({}));
  assert.equal(canonical({ at: new Date(0) }), '{"at":"1970-01-01T00:00:00.000Z"}');
});

test("numbers that JSON would turn into null are refused", () => {
  for (const value of [NaN, Infinity, -Infinity]) {
    assert.throws(() => canonical({ size: value }), TypeError);
    assert.throws(() => canonical([new Number(value)]), TypeError);
    assert.throws(() => canonical([runInNewContext(`new Number(${value})`)]), TypeError);
    assert.throws(() => canonical({ size: { toJSON: () => value } }), TypeError);
  }
  for (const value of [undefined, () => 1, Symbol("x")]) assert.throws(() => canonical(value), TypeError);
  const circle = {};
  circle.self = circle;
  for (const value of [circle, 1n, { a: Object(1n) }]) assert.throws(() => canonical(value), TypeError);
});

test("every value is written as JSON.stringify writes it", () => {
  const named = { toJSON: (key) => `called ${key}` };
  const shout = Object.assign(() => 1, { toJSON: () => "a function with toJSON" });
  const sparse = [1, , 3]; // eslint-disable-line no-sparse-arrays
  const values = [
    ...["", "é\u2028\u0007\"\\", "\ud800", "\udc00\ud800", "😀", '{"a":[1,2]}'],
    ...[0, -0, 1.5, 1e21, 1e-7, 5e-324, 90071992547409.93, true, false, null],
    ...[new Number(1.5), new Number(-0), new String("text"), new Boolean(false), runInNewContext("new String('x')")],
    ...[Object.assign(new Number(1), { valueOf: () => 2 }), Object.assign(new String("a"), { toString: () => "b" })],
    ...[new Proxy(new Number(1), {}), new Proxy([1, [2]], {}), new Proxy({ a: new Proxy({ b: 1 }, {}) }, {})],
    ...[{ a: 1, [Symbol.toStringTag]: "Number" }, { a: 1, [Symbol.toStringTag]: "Array" }],
    ...[new Date(0), new Date(NaN), { at: new Date(0) }, [named], { a: named }, { a: shout }],
    ...[{ a: undefined, b: () => 1, c: Symbol("x"), [Symbol("k")]: 1 }, [undefined, () => 1, Symbol("x")], sparse],
    ...[JSON.parse('{"__proto__":{"a":1}}'), JSON.parse('{"constructor":1,"toString":2}'), Object.create({ inherited: 1 })],
    ...[new Map([[1, 2]]), new Uint8Array([1, 2]), /x/, new Error("x"), Object.assign([1], { extra: 1 }), [[], {}, [[]], [{}]]],
    ...[Object.defineProperty({ a: 1 }, "hidden", { value: 1 }), { get a() { return [1]; } }, { "": { "": [] } }],
    ...[{ 9: 1, 10: 2, "-1": 3, "01": 4 }, { '"': 1, ",": 2, ":": 3, "{": 4, "}": 5 }],
  ];
  for (const value of values) assert.equal(canonical(value), JSON.stringify(value), String(JSON.stringify(value)));
});

test("a number keeps its digits, where the browser has JSON.rawJSON", () => {
  const stringify = JSON.stringify;
  const raw = Object.freeze(Object.assign(Object.create(null), { rawJSON: "90071992547409.93" }));
  // Node 20 has no rawJSON: here its answer stands in for it.
  mock.method(JSON, "stringify", (value, replacer) => stringify(value, replacer).replaceAll(stringify(raw), raw.rawJSON));
  assert.equal(canonical({ b: [raw], a: raw }), '{"a":90071992547409.93,"b":[90071992547409.93]}');
});

test("the order of keys does not matter, however deep, and whatever they are", () => {
  const keys = ["b", "a", "10", "9", "-1", "__proto__", "", "é", "😀", "\ud800", "\uffff", "A", '"', "\\", "constructor", "{", ","];
  const build = (names, depth) =>
    depth ? Object.fromEntries(names.map((name) => [name, [build(names, depth - 1), name]])) : "leaf";
  const text = canonical(build(keys, 2));
  assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(build(keys, 2))));
  for (let turn = 1; turn < keys.length; turn++) {
    assert.equal(canonical(build([...keys.slice(turn), ...keys.slice(0, turn)], 2)), text);
  }
  assert.equal(canonical({ b: 1, 10: 2, a: 3, 9: 4, B: 5 }), '{"9":4,"10":2,"B":5,"a":3,"b":1}');
});

test("a long and a deep payload are no trouble", () => {
  const long = "\\\"é".repeat(500_000);
  assert.equal(canonical({ b: long, a: 1 }), `{"a":1,"b":${JSON.stringify(long)}}`);
  let deep = 1;
  for (let depth = 0; depth < 500; depth++) deep = { b: [deep], a: 0 };
  assert.equal(canonical(deep).length, JSON.stringify(deep).length);
});

test("a content's key names environment and operation, and differs between them", async () => {
  const scope = { environment: "prod", operation: "fund-create" };
  const key = await contentKey(scope, canonical(FUND));
  assert.match(key, /^prod\|fund-create\|[0-9a-f]{64}$/);
  assert.equal(await contentKey(scope, canonical({ ...FUND })), key);
  const hashes = await Promise.all(
    [
      [scope, FUND],
      [{ ...scope, environment: "staging" }, FUND],
      [{ ...scope, operation: "other" }, FUND],
      [{ ...scope, nonce: "1" }, FUND],
      [scope, { ...FUND, size: 1 }],
    ].map(async ([where, payload]) => (await contentKey(where, canonical(payload))).split("|")[2]),
  );
  assert.equal(new Set(hashes).size, 5);
});

test("without a key, a reload with the same content sends the same key, and other content another", async () => {
  const first = open();
  const second = open();
  await first.post();
  await second.post({}, { vintageYear: 2025, size: 250_000_000, name: "Harbor Growth I" });
  await second.post({}, { ...FUND, name: "Harbor Growth II" });
  await second.post({ nonce: "again" });
  assert.equal(first.keys()[0], second.keys()[0]);
  assert.equal(new Set(second.keys()).size, 3);
});

test("a key of one's own is sent in the namespaced form, whatever the content", async () => {
  const { post, keys } = open();
  await post({ key: "draft-1" });
  await post({ key: "draft-1" }, { ...FUND, size: 1 });
  assert.deepEqual(keys(), ["test|fund-create|draft-1", "test|fund-create|draft-1"]);
});

test("keys, environments and operations that the server would refuse are refused here", () => {
  const { post } = open();
  for (const key of ["", "a b", "a|b", "ä", "x".repeat(256)]) assert.throws(() => post({ key }), TypeError, key);
  for (const environment of ["", "a|b", undefined]) {
    assert.throws(() => createClient({ environment, operation: "x", storage: null }), TypeError);
  }
});

test("a key, a nonce and a draft's name are texts: what is missing must not become the key of every fund", () => {
  const { post, client, fetch } = open();
  for (const value of [null, NaN, 7, true, ["a"], {}]) {
    assert.throws(() => post({ key: value }), { name: "TypeError", message: /a key must be a string/ });
    assert.throws(() => post({ nonce: value }), { name: "TypeError", message: "a nonce must be a string" });
    assert.throws(() => client.draftKey(value), { name: "TypeError", message: /a draft's name/ });
  }
  for (const name of [undefined, ""]) assert.throws(() => client.draftKey(name), TypeError);
  assert.equal(fetch.requests.length, 0);
});

test("a number that would let a timer fire at once, or a loop never end, is refused", () => {
  const wrong = { ttl: ["86400"], timeout: [0, -1, NaN, Infinity, 2 ** 31, "15000", null], retries: [NaN, -1, "3", null], backoff: [NaN, -1, "250"] };
  for (const [name, values] of Object.entries(wrong)) {
    for (const value of values) assert.throws(() => open({ [name]: value }), { name: "TypeError", message: RegExp(`\\b${name}\\b.* must be`) });
  }
  open({ ttl: Infinity, timeout: 2 ** 31 - 1, retries: Infinity, backoff: 0 });
});

test("a draft keeps its key through a reload, until it is forgotten", () => {
  const storage = new FakeStorage();
  const key = open({ storage }).client.draftKey("fund-setup");
  assert.match(key, /^[0-9a-f]{32}$/);
  const reloaded = open({ storage }).client;
  assert.equal(reloaded.draftKey("fund-setup"), key);
  assert.notEqual(reloaded.draftKey("other"), key);
  reloaded.forget("fund-setup");
  assert.notEqual(reloaded.draftKey("fund-setup"), key);
});

for (const storage of [new BlockedStorage(), new FullStorage(), null]) {
  test(`a draft keeps its key as long as the page lives where storage is ${storage?.constructor.name ?? "missing"}`, () => {
    const { client } = open({ storage });
    const key = client.draftKey("fund-setup");
    assert.equal(client.draftKey("fund-setup"), key);
    client.forget("fund-setup");
    assert.notEqual(client.draftKey("fund-setup"), key);
  });
}

// --- The age of a key -------------------------------------------------------------------------------------------

const HOUR = 3_600_000; // ms
const START = Date.UTC(2026, 0, 5, 9);

/** A browser whose clock the test moves. `visit` is the page, loaded anew with what storage has kept. */
function browser(options = {}) {
  const clock = { now: START };
  mock.method(Date, "now", () => clock.now);
  const storage = new FakeStorage();
  return { clock, storage, visit: (more = {}) => open({ storage, ...options, ...more }) };
}

async function expires(promise, { attempts = 0, firstSentAt = START, cause = null } = {}) {
  await assert.rejects(outlast(promise), (error) => {
    assert.ok(error instanceof ExpiredKeyError && !(error instanceof UnansweredError) && !(error instanceof ProblemError));
    assert.deepEqual([error.name, error.attempts, error.firstSentAt, error.cause?.name ?? null], ["ExpiredKeyError", attempts, firstSentAt, cause]);
    assert.match(error.key, /^test\|fund-create\|/);
    return true;
  });
}

test("a draft's key is sent again within the server's time, and never after it, whenever it was sent last", async () => {
  const { clock, visit } = browser({ retries: 0 });
  for (const hours of [0, 10, 23.99]) {
    clock.now = START + hours * HOUR;
    const { client, post, fetch } = visit({ steps: [new TypeError("x")] });
    await assert.rejects(post({ key: client.draftKey("f") }), { name: "OfflineError" });
    assert.equal(fetch.requests.length, 1);
  }
  clock.now = START + 24 * HOUR - 15_000; // the attempt may take 15 s to arrive
  const token = mock.fn(() => "t");
  const onAttempt = mock.fn();
  const { client, post, fetch } = visit({ token });
  for (let press = 0; press < 2; press++) await expires(post({ key: client.draftKey("f"), onAttempt }));
  assert.deepEqual([fetch, token.mock, onAttempt.mock].map(({ requests, calls }) => (requests ?? calls).length), [0, 0, 0]);
  client.forget("f"); // the person has looked, and means a new fund
  assert.equal((await post({ key: client.draftKey("f") })).status, "created");
});

test("a draft that was never sent does not age, and a token that never came sent nothing late", async () => {
  const { clock, visit } = browser();
  const key = visit().client.draftKey("f");
  clock.now += 1000 * HOUR;
  const { client, post } = visit();
  assert.equal(client.draftKey("f"), key);
  assert.equal((await post({ key })).status, "created");
});

test("the time of the first sending is kept before the request is made, and told", async () => {
  const { clock, storage, visit } = browser();
  const { client, post, fetch } = visit({ steps: [new TypeError("x"), () => (kept.push(...storage.items.values()), created())] });
  const [kept, told] = [[], []];
  const key = client.draftKey("f");
  const result = post({ key, onAttempt: ({ firstSentAt }) => told.push(firstSentAt) });
  await settle();
  assert.ok([...storage.items.values()].includes(String(START)));
  clock.now += HOUR;
  await outlast(result);
  assert.deepEqual(told, [START, START]);
  assert.deepEqual(kept.sort(), [key, String(START)].sort());
  assert.equal(fetch.requests.length, 2);
  client.forget("f");
  assert.equal(storage.items.size, 0);
});

test("a draft that was only ever refused is as new, and one whose answer may be lost is not", async () => {
  const refusals = [problem(400, "validation_error"), problem(401, "not_authenticated"), problem(429, "throttled", { "Retry-After": "60" })];
  for (const refusal of refusals) {
    const { clock, visit } = browser();
    const first = visit({ steps: [refusal] });
    await assert.rejects(first.post({ key: first.client.draftKey("f") }), { name: "ProblemError" });
    clock.now += 25 * HOUR;
    const { client, post } = visit();
    assert.equal((await post({ key: client.draftKey("f") })).status, "created");
  }
  for (const lost of [new TypeError("x"), problem(503, "overloaded"), problem(409, "idempotency_key_reused")]) {
    const { clock, visit } = browser();
    for (const steps of [[lost, refusals[0]], refusals]) {
      const { client, post } = visit({ steps });
      await assert.rejects(outlast(post({ key: client.draftKey("f") })), { name: /ProblemError|ConflictError/ });
    }
    clock.now += 25 * HOUR;
    const { client, post } = visit();
    await expires(post({ key: client.draftKey("f") }));
  }
});

test("a refusal does not undo the first sending of another tab", async () => {
  const { clock, storage, visit } = browser();
  const { client, post } = visit({ steps: [() => (storage.setItem(`idempotency.sent.fund-create.${key}`, `${START - 1}`), problem(401, "x"))] });
  const key = client.draftKey("f");
  await assert.rejects(post({ key }), { status: 401 });
  clock.now += 25 * HOUR;
  await expires(post({ key }), { firstSentAt: START - 1 });
});

test("the key of another client of the same page, or of another tab, has the same age", async () => {
  const { clock, visit } = browser({ retries: 0, steps: [new TypeError("x")] });
  const [one, other] = [visit(), visit()];
  const key = one.client.draftKey("f");
  await assert.rejects(other.post({ key }), { name: "OfflineError" });
  clock.now += 25 * HOUR;
  await expires(one.post({ key }));
});

test("a key that another tab or client has forgotten is of unknown age: it may have been sent there", async () => {
  for (const draws of [1, 2]) {
    const { clock, storage, visit } = browser();
    const [one, other] = [visit(), visit()];
    const key = (draws === 1 ? one : other).client.draftKey("f");
    assert.equal(one.client.draftKey("f"), key);
    assert.equal((await other.post({ key: other.client.draftKey("f") })).status, "created");
    other.client.forget("f");
    clock.now += 25 * HOUR;
    await expires(one.post({ key }), { firstSentAt: null });
    await expires(one.post({ key: one.client.draftKey("f") }), { firstSentAt: null });
    assert.equal(one.fetch.requests.length, 0);
    one.client.forget("f"); // the person has looked
    assert.notEqual(one.client.draftKey("f"), key);
    assert.equal((await one.post({ key: one.client.draftKey("f") })).status, "created");
    one.client.forget("f");
    assert.equal(storage.items.size, 0);
  }
});

test("a key that an older version kept without a time is of unknown age: nothing is sent", async () => {
  const { storage, visit } = browser();
  storage.setItem("idempotency.draft.fund-create.f", "0123456789abcdef0123456789abcdef");
  for (let reload = 0; reload < 2; reload++) {
    const { client, post, fetch } = visit();
    const key = client.draftKey("f");
    assert.equal(key, "0123456789abcdef0123456789abcdef");
    await expires(post({ key }), { firstSentAt: null });
    assert.equal(fetch.requests.length, 0);
  }
  storage.setItem(`idempotency.sent.fund-create.0123456789abcdef0123456789abcdef`, "damaged");
  const { client, post } = visit();
  await expires(post({ key: client.draftKey("f") }), { firstSentAt: null });
});

test("a time that storage had no room for is unknown after a reload, and known until then", async () => {
  const { clock, storage, visit } = browser({ retries: 0, steps: [new TypeError("x")] });
  const { client, post } = visit();
  const key = client.draftKey("f");
  storage.setItem = FullStorage.prototype.setItem;
  await assert.rejects(post({ key }), { name: "OfflineError" });
  clock.now += HOUR;
  await assert.rejects(post({ key }), { name: "OfflineError" });
  const later = visit();
  await expires(later.post({ key: later.client.draftKey("f") }), { firstSentAt: null });
});

test("of a key of one's own the caller says when it was sent first", async () => {
  const { clock, visit } = browser();
  const { post, fetch } = visit();
  clock.now += 24 * HOUR - 15_001;
  assert.equal((await post({ key: "order-7", firstSentAt: START })).status, "created");
  clock.now += 1;
  for (const options of [{ key: "order-7" }, { nonce: "n" }, {}]) await expires(post({ ...options, firstSentAt: START }));
  await expires(post({ key: "order-7", firstSentAt: NaN }), { firstSentAt: null });
  assert.equal(fetch.requests.length, 1);
  assert.equal((await post({ key: "order-7", firstSentAt: null })).status, "created");
});

test("the first sending of one's own key may come as storage kept it: text, or a Date", async () => {
  const { clock, visit } = browser();
  const { post, fetch } = visit();
  clock.now += 25 * HOUR;
  for (const kept of [String(START), new Date(START)]) await expires(post({ key: "order-7", firstSentAt: kept }));
  for (const kept of ["yesterday", undefined + ""]) await expires(post({ key: "order-7", firstSentAt: kept }), { firstSentAt: null });
  assert.equal(fetch.requests.length, 0);
  clock.now = START + HOUR;
  assert.equal((await post({ key: "order-7", firstSentAt: String(START) })).status, "created");
});

test("a refusal does not make a key as new that a further call has used, whose answer is lost", async () => {
  const { clock, visit } = browser({ retries: 0 });
  const key = visit().client.draftKey("f");
  let refuse;
  const first = visit({ steps: [() => new Promise((resolve) => (refuse = () => resolve(problem(400, "validation_error"))))] });
  const refused = first.post({ key });
  await settle();
  clock.now += 1;
  await assert.rejects(visit({ steps: [new TypeError("x")] }).post({ key }, { ...FUND, size: 1 }), { name: "OfflineError" });
  refuse();
  await assert.rejects(refused, { status: 400 });
  clock.now = START + 25 * HOUR;
  await expires(visit().post({ key }));
});

test("a clock that stands before the first sending cannot tell a key's age", async () => {
  const { clock, visit } = browser({ retries: 0, steps: [new TypeError("x")] });
  const { client, post, fetch } = visit();
  const key = client.draftKey("f");
  await assert.rejects(post({ key }), { name: "OfflineError" });
  clock.now -= 60_000; // as by NTP, or between two tabs
  await assert.rejects(post({ key }), { name: "OfflineError" });
  clock.now -= 1;
  await expires(post({ key }));
  await expires(post({ key: "own", firstSentAt: 1e20 }), { firstSentAt: 1e20 });
  assert.equal(fetch.requests.length, 2);
});

test("a laptop that sleeps between two attempts, or while token() runs, sends nothing when it wakes", async () => {
  const { clock, visit } = browser();
  for (const options of [{ key: "k" }, { nonce: "n" }, {}]) {
    clock.now = START;
    const sleeper = () => {
      clock.now += 25 * HOUR;
      throw new TypeError("Failed to fetch");
    };
    const { post, fetch } = visit({ steps: [sleeper] });
    await expires(post(options), { attempts: 1, cause: "OfflineError" });
    assert.equal(fetch.requests.length, 1);
  }
  clock.now = START;
  let count = 0;
  const token = async () => {
    if (++count === 2) clock.now += 25 * HOUR;
    return "t";
  };
  const { post, fetch } = visit({ token, steps: [new TypeError("x")] });
  await expires(post({ key: "k" }), { attempts: 1, cause: "OfflineError" });
  assert.equal(fetch.requests.length, 1);
});

test("a server that forgets sooner says so, and the first sending is always sent", async () => {
  const { clock, visit } = browser({ ttl: 10 });
  const { post, fetch } = visit({ steps: [new TypeError("x")] });
  await expires(post({ key: "k" }), { attempts: 1, cause: "OfflineError" }); // another could arrive after 15 s
  assert.equal(fetch.requests.length, 1);
  clock.now += 1;
  const patient = visit({ ttl: 60, steps: [() => ((clock.now += 30_000), problem(503, "overloaded"))] });
  await expires(patient.post({ key: "k" }), { attempts: 2, firstSentAt: START + 1, cause: "ProblemError" });
  for (const ttl of [0, -1, NaN, null]) assert.throws(() => visit({ ttl }), TypeError);
});

// --- Answers ----------------------------------------------------------------------------------------------------

test("the result says whether the fund was created or replayed", async () => {
  for (const [step, status] of [[created(), "created"], [replayed(), "replayed"]]) {
    const { post } = open({ steps: [step] });
    const result = await post({ key: "k" });
    assert.equal(result.status, status);
    assert.deepEqual(result.body, { id: 7, ...FUND });
    assert.equal(result.response.headers.get("Idempotency-Status"), status);
    assert.deepEqual([result.key, result.attempts], ["test|fund-create|k", 1]);
  }
});

const HTML = { "Content-Type": "text/html" };
for (const [name, answer, status] of [
  ["JSON with 200", json({ status: "maintenance" }), 200],
  ["JSON with 201", json({ id: 7, ...FUND }, { status: 201 }), 201],
  ["a word of its own", json({}, { headers: { "Idempotency-Status": "conflict" } }), 200],
  ["nothing, with 204", new Response(null, { status: 204 }), 204],
  ["a redirect", new Response(null, { status: 302, headers: { Location: "https://hotel.example/" } }), 302],
  ["an opaque redirect", () => ({ clone: () => ({ ...plain(0), type: "opaqueredirect" }) }), 0],
  ["HTML with 401", new Response("<h1>Sign in to this network</h1>", { status: 401, headers: HTML }), 401],
  ["HTML with 403", new Response("<h1>Blocked</h1>", { status: 403, headers: HTML }), 403],
  ["JSON with 403", json({ message: "Forbidden" }, { status: 403 }), 403],
  ["JSON with 404", json({ code: "no_route" }, { status: 404 }), 404],
  ["JSON with a code of ours", json({ code: "idempotency_key_reused" }, { status: 409 }), 409],
  ["a conflict without a code", new Response("", { status: 409, headers: { "Idempotency-Status": "conflict" } }), 409],
  ["a problem without a code", json({ title: "No" }, { status: 400, headers: { "Content-Type": "application/problem+json" } }), 400],
]) {
  test(`${name} from something on the way is no answer: it tries again, then says so`, async () => {
    const { post, fetch } = open({ steps: [answer, answer, replayed()] });
    assert.equal((await outlast(post())).status, "replayed");
    assert.equal(fetch.requests.length, 3);
    const hopeless = open({ steps: [answer], retries: 1 });
    await assert.rejects(outlast(hopeless.post({ key: "k" })), (error) => {
      assert.ok(error instanceof UnansweredError && !(error instanceof ProblemError));
      assert.deepEqual([error.name, error.status, error.key, error.attempts], ["ForeignAnswerError", status, "test|fund-create|k", 2]);
      assert.match(error.message, /^Something other than the server answered/);
      return true;
    });
  });
}

function plain(status) {
  return { ok: false, status, headers: new Headers(), text: async () => "" };
}

test("an error of the guarded view itself is the server's, whatever its form: it repeats the key", async () => {
  const headers = { "Idempotency-Key": "test|fund-create|k" };
  const { post, fetch } = open({ steps: [json({ name: ["This field is required."] }, { status: 400, headers })] });
  await assert.rejects(post({ key: "k" }), { name: "ProblemError", status: 400, problem: { name: ["This field is required."] } });
  assert.equal(fetch.requests.length, 1);
});

test("a success without a body has none, and one that broke off is asked for again", async () => {
  const headers = { "Idempotency-Status": "created" };
  const { post } = open({ steps: [new Response('{"id":', { status: 201, headers }), new Response(null, { status: 204, headers })] });
  const { status, body, text, attempts } = await outlast(post());
  assert.deepEqual([status, body, text, attempts], ["created", null, "", 2]);
});

test("a success that has lost its JSON on the way is asked for again", async () => {
  const lost = json({}, { status: 201, headers: { "Idempotency-Status": "created" } });
  const { post, fetch } = open({ steps: [new Response("", lost), replayed()] });
  assert.equal((await outlast(post())).body.id, 7);
  assert.equal(fetch.requests.length, 2);
});

test("the result has the answer's own text, with every digit", async () => {
  const text = '{"id":7,"size":90071992547409.93}';
  const { post } = open({ steps: [new Response(text, { status: 201, headers: { "Idempotency-Status": "created" } })] });
  assert.equal((await post()).text, text);
});

test("a reused key is a conflict, and is never retried", async () => {
  const { post, fetch } = open({ steps: [problem(409, "idempotency_key_reused")] });
  await assert.rejects(post({ key: "k" }), (error) => {
    assert.ok(error instanceof ConflictError && error instanceof ProblemError);
    assert.deepEqual([error.name, error.code, error.status, error.key], ["ConflictError", "idempotency_key_reused", 409, "test|fund-create|k"]);
    return true;
  });
  assert.equal(fetch.requests.length, 1);
});

test("a problem carries what the page needs to say, and is not retried", async () => {
  const errors = [{ field: "name", code: "required", detail: "This field is required." }];
  for (const [status, code] of [[400, "validation_error"], [401, "not_authenticated"], [403, "permission_denied"], [413, "body_too_large"], [409, "other"]]) {
    const { post, fetch } = open({ steps: [problem(status, code, {}, { errors })] });
    await assert.rejects(post(), (error) => {
      assert.deepEqual([error.name, error.status, error.code, error.detail], ["ProblemError", status, code, `about ${code}`]);
      assert.deepEqual(error.errors, errors);
      return true;
    });
    assert.equal(fetch.requests.length, 1, code);
  }
});

test("an error that is no problem+json still has its status", async () => {
  const { post } = open({ steps: [new Response("<h1>Too large</h1>", { status: 413 })] });
  await assert.rejects(post(), { name: "ProblemError", status: 413, code: "http_413", errors: [] });
});

// --- Retrying ---------------------------------------------------------------------------------------------------

for (const [name, failure] of [
  ["the network fails", new TypeError("Failed to fetch")],
  ["the server fails", new Response("", { status: 500 })],
  ["the database is away", problem(503, "database_unavailable", { "Retry-After": "1" })],
  ["the caller is throttled", problem(429, "throttled", { "Retry-After": "1" })],
  ["the first attempt still runs", inProgress()],
  ["a hotel's login page answers", new Response("<h1>Welcome</h1>", { status: 200 })],
  ["the answer breaks off", new Response('{"id":', { status: 201 })],
]) {
  test(`when ${name} it tries again: same key, same bytes, and Prefer: wait`, async () => {
    const { post, fetch } = open({ steps: [failure, failure, replayed()] });
    const result = await outlast(post({ key: "k" }));
    assert.deepEqual([result.status, result.attempts], ["replayed", 3]);
    const [first, ...later] = fetch.requests;
    assert.equal(first.headers.get("Prefer"), null);
    for (const request of later) {
      assert.equal(request.body, first.body);
      assert.equal(request.headers.get("Idempotency-Key"), "test|fund-create|k");
      assert.equal(request.headers.get("Prefer"), "wait=2");
    }
  });
}

test("a request that hangs is given up in time, its answer's body included", async () => {
  const hanging = () => new Response(new ReadableStream({ pull: () => new Promise(() => {}) }), { status: 201 });
  const fetch = async (url, init) => {
    fetch.count += 1;
    if (fetch.count === 1) return never(url, init);
    if (fetch.count > 2) return replayed();
    const response = hanging();
    return { ok: true, status: 201, headers: response.headers, text: () => never(url, init) };
  };
  fetch.count = 0;
  const { client } = open();
  const limited = createClient({ environment: "test", operation: "x", storage: null, fetch, timeout: 5000 });
  assert.ok(client);
  assert.equal((await outlast(limited.post("https://a.example", FUND))).attempts, 3);
});

test("when nothing helps the last thing that went wrong is thrown", async () => {
  const cases = [
    [new TypeError("Failed to fetch"), { name: "OfflineError", attempts: 3, key: "test|fund-create|k" }],
    [never, { name: "TimeoutError", attempts: 3 }],
    [problem(503, "database_unavailable"), { name: "ProblemError", status: 503, attempts: 3 }],
    [inProgress(), { name: "ProblemError", code: "idempotency_request_in_progress", attempts: 3 }],
  ];
  for (const [step, expected] of cases) {
    const { post, fetch } = open({ steps: [step], retries: 2 });
    await assert.rejects(outlast(post({ key: "k" })), expected);
    assert.equal(fetch.requests.length, 3);
  }
  assert.ok(new OfflineError("", "", 1, null) instanceof Error && new TimeoutError("", "", 1, null) instanceof Error);
});

test("pauses grow with full jitter up to a cap, and never undercut the server's wish", () => {
  mock.method(Math, "random", () => 1);
  assert.deepEqual([1, 2, 3, 4, 9].map((attempt) => pause(attempt, 250, null)), [250, 500, 1000, 2000, 8000]);
  assert.equal(pause(1, 250, 3), 3250);
  mock.method(Math, "random", () => 0);
  assert.deepEqual([pause(5, 250, null), pause(1, 250, 3)], [0, 3000]);
});

test("the next attempt comes no earlier than Retry-After", async () => {
  mock.method(Math, "random", () => 0);
  const { post, fetch } = open({ steps: [problem(429, "throttled", { "Retry-After": "7" }), created()] });
  const result = post({ key: "k" });
  await settle();
  mock.timers.tick(6999);
  await settle();
  assert.equal(fetch.requests.length, 1);
  mock.timers.tick(1);
  await result;
  assert.equal(fetch.requests.length, 2);
});

test("nobody waits half an hour in front of a form", async () => {
  const { post, fetch } = open({ steps: [problem(429, "throttled", { "Retry-After": "1800" })] });
  await assert.rejects(post(), { code: "throttled", retryAfter: 1800 });
  assert.equal(fetch.requests.length, 1);
});

test("Retry-After is seconds or a date, and neither is absurd", () => {
  assert.equal(readRetryAfter("120"), 120);
  const date = "Sun, 06 Nov 1994 08:49:37 GMT";
  for (const value of [null, "", "soon", "soon 1", "-5", "1.5", "1, 2"]) assert.equal(readRetryAfter(value, date), null, value);
  assert.equal(readRetryAfter("9".repeat(400)), 86_400);
  assert.equal(readRetryAfter("Fri, 31 Dec 9999 23:59:59 GMT"), 86_400);
  assert.equal(readRetryAfter("Wed, 21 Oct 2015 07:28:00 GMT"), 0);
});

test("a date in Retry-After is judged by the answer's Date, whatever the browser's clock says", () => {
  const date = "Sun, 06 Nov 1994 08:49:30 GMT";
  for (const value of ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]) {
    assert.equal(readRetryAfter(value, date), 7, value);
  }
  assert.equal(readRetryAfter("Sun, 06 Nov 1994 08:49:00 GMT", date), 0);
  for (const unreadable of [null, "", "today"]) {
    const seconds = readRetryAfter(new Date(Date.now() + 10_000).toUTCString(), unreadable);
    assert.ok(seconds > 8 && seconds <= 10);
  }
});

test("the pause is by the answer's Date", async () => {
  mock.method(Math, "random", () => 0);
  const headers = { Date: "Sun, 06 Nov 2044 08:49:30 GMT", "Retry-After": "Sun, 06 Nov 2044 08:49:37 GMT" };
  const { post, fetch } = open({ steps: [problem(503, "overloaded", headers), created()] });
  const result = post({ key: "k" });
  await settle();
  mock.timers.tick(6999);
  await settle();
  assert.equal(fetch.requests.length, 1);
  mock.timers.tick(1);
  assert.equal((await result).attempts, 2);
});

test("an offline browser tries again as soon as it is online", async () => {
  globalThis.window = new EventTarget();
  mock.method(Math, "random", () => 1);
  const { post, fetch } = open({ steps: [new TypeError("Failed to fetch"), created()], backoff: 100_000 });
  const result = post({ key: "k" });
  await settle();
  assert.equal(fetch.requests.length, 1);
  globalThis.window.dispatchEvent(new Event("online"));
  assert.equal((await result).attempts, 2);
});

test("the page hears of every attempt before it, and what it throws does not matter", async () => {
  const heard = [];
  const task = mock.method(globalThis, "queueMicrotask", (run) => {
    try {
      run();
    } catch {
      // the page's own mistake
    }
  });
  const { post } = open({ steps: [new TypeError("x"), inProgress(), created()] });
  const onAttempt = (attempt) => {
    heard.push(attempt);
    throw new Error("a mistake of the page");
  };
  await outlast(post({ key: "k", onAttempt }));
  task.mock.restore();
  assert.deepEqual(
    heard.map(({ attempt, of, key, cause }) => [attempt, of, key, cause?.name]),
    [
      [1, 7, "test|fund-create|k", undefined],
      [2, 7, "test|fund-create|k", "OfflineError"],
      [3, 7, "test|fund-create|k", "ProblemError"],
    ],
  );
});

// --- One promise, and giving up ---------------------------------------------------------------------------------

test("a double click is one request and one promise, with a key or without", async () => {
  for (const options of [{ key: "k" }, { nonce: "n" }, {}]) {
    const { post, fetch } = open();
    const first = post(options);
    assert.equal(post(options, { vintageYear: 2025, size: 250_000_000, name: "Harbor Growth I" }), first);
    await first;
    assert.equal(fetch.requests.length, 1);
    await post(options);
    assert.equal(fetch.requests.length, 2);
  }
});

test("the same key with other content while the first runs is for the server to judge", async () => {
  const { post, fetch } = open({ steps: [created(), problem(409, "idempotency_key_reused")] });
  const results = await Promise.allSettled([post({ key: "k" }), post({ key: "k" }, { ...FUND, size: 1 })]);
  assert.deepEqual(results.map(({ status }) => status), ["fulfilled", "rejected"]);
  assert.equal(fetch.requests.length, 2);
});

test("a cancelled post ends at once, during a request and during a pause", async () => {
  for (const step of [never, new TypeError("Failed to fetch")]) {
    const { post, fetch } = open({ steps: [step], backoff: 100_000 });
    const giveUp = new AbortController();
    const result = post({ key: "k", signal: giveUp.signal });
    await settle();
    giveUp.abort(new Error("closed"));
    await assert.rejects(result, /closed/);
    assert.equal(fetch.requests.length, 1);
  }
  const late = new AbortController();
  const answered = open({
    steps: [
      () => {
        late.abort(new Error("closed"));
        return problem(503, "database_unavailable");
      },
    ],
    backoff: 100_000,
  });
  await assert.rejects(answered.post({ key: "k", signal: late.signal }), /closed/);
  const { post, fetch } = open();
  await assert.rejects(post({ signal: AbortSignal.abort(new Error("closed")) }), /closed/);
  assert.equal(fetch.requests.length, 0);
});

test("who joins a running call hears of its attempts, and has a signal of their own", async () => {
  const [first, second] = [new AbortController(), new AbortController()];
  const [early, late] = [[], []];
  const { post, fetch } = open({ steps: [new TypeError("x"), never], backoff: 1 });
  const one = post({ key: "k", signal: first.signal, onAttempt: ({ attempt }) => early.push(attempt) });
  await settle();
  const two = post({ key: "k", signal: second.signal, onAttempt: ({ attempt }) => late.push(attempt) });
  await settle();
  assert.deepEqual([early, late], [[1], [1]]);
  mock.timers.tick(1);
  await settle();
  assert.deepEqual([early, late], [[1, 2], [1, 2]]);
  first.abort(new Error("unmounted"));
  await assert.rejects(one, /unmounted/);
  await settle();
  assert.deepEqual([fetch.requests.length, fetch.requests[1].signal.aborted], [2, false]);
  second.abort(new Error("left"));
  await assert.rejects(two, /left/);
  assert.equal(fetch.requests[1].signal.aborted, true);
});

test("who has left hears of no further attempt, and the others get the answer", async () => {
  const leaving = new AbortController();
  const heard = [];
  const { post, fetch } = open({ steps: [new TypeError("x"), created()] });
  const left = post({ key: "k", signal: leaving.signal, onAttempt: ({ attempt }) => heard.push(attempt) });
  const staying = new AbortController();
  const [answered, plain] = [post({ key: "k", signal: staying.signal }), post({ key: "k" })];
  await settle();
  leaving.abort(new Error("left"));
  await assert.rejects(left, /left/);
  assert.equal((await outlast(answered)).status, "created");
  assert.equal(await answered, await plain);
  assert.deepEqual([heard, fetch.requests.length], [[1], 2]);
  staying.abort(); // too late to matter
});

test("a caller without a signal keeps the call on the wire", async () => {
  const leaving = new AbortController();
  const { post, fetch } = open({ steps: [never] });
  const left = post({ key: "k", signal: leaving.signal });
  const stays = post({ key: "k" });
  await settle();
  leaving.abort(new Error("left"));
  await assert.rejects(left, /left/);
  assert.equal(fetch.requests[0].signal.aborted, false);
  mock.timers.reset();
  stays.catch(() => {});
});

test("an aborted call is not joined: the next one is sent anew, and the end of the first does not disturb it", async () => {
  let answer;
  const { post, fetch } = open({ steps: [never, () => new Promise((resolve) => (answer = resolve))] });
  const leaving = new AbortController();
  const left = post({ key: "k", signal: leaving.signal });
  await settle();
  leaving.abort(new Error("unmounted"));
  const next = post({ key: "k", signal: new AbortController().signal });
  await assert.rejects(left, /unmounted/);
  await settle();
  const joined = post({ key: "k" });
  await settle();
  assert.equal(fetch.requests.length, 2);
  answer(created());
  assert.equal((await next).status, "created");
  assert.equal(await joined, await next);
});

test("who has given up already sends nothing, and who gives up before the request is made, neither", async () => {
  const { post, fetch } = open();
  await assert.rejects(post({ signal: AbortSignal.abort(new Error("closed")) }), /closed/);
  const giveUp = new AbortController();
  const result = post({ signal: giveUp.signal });
  giveUp.abort(new Error("closed"));
  await assert.rejects(result, /closed/);
  await settle();
  assert.equal(fetch.requests.length, 0);
});

test("after a failure the same call is a new attempt with the same key", async () => {
  const { post, fetch, keys } = open({ steps: [new TypeError("x"), created()], retries: 0 });
  await assert.rejects(post(), { name: "OfflineError" });
  assert.equal((await post()).status, "created");
  assert.equal(new Set(keys()).size, 1);
  assert.equal(fetch.requests.length, 2);
});

// --- Who is calling ---------------------------------------------------------------------------------------------

test("a bearer token is asked for at each attempt, and no cookies go with it", async () => {
  let count = 0;
  const { post, fetch } = open({ token: async () => `t${++count}`, steps: [new TypeError("x"), created()] });
  await outlast(post());
  assert.deepEqual(fetch.requests.map(({ headers }) => headers.get("Authorization")), ["Bearer t1", "Bearer t2"]);
  assert.equal(fetch.requests[0].credentials, "omit");
  assert.equal(fetch.requests[0].headers.get("X-CSRFToken"), null);
});

for (const name of ["token", "headers", "csrf"]) {
  const own = { token: "t", headers: {}, csrf: "c" };
  const answer = (value) => (name === "headers" ? value && {} : value);
  beforeEach(() => (globalThis.location = { href: "https://api.example/" }));

  test(`${name}() that fails is a failed attempt with its key: it is asked again`, async () => {
    let count = 0;
    const failing = async () => {
      if (++count < 3) throw new TypeError("Failed to fetch");
      return answer("fresh");
    };
    const { post, fetch } = open({ [name]: failing });
    assert.equal((await outlast(post())).attempts, 3);
    assert.equal(fetch.requests.length, 1);
    const fault = new Error("refused");
    const hopeless = open({ [name]: () => Promise.reject(fault), retries: 1 });
    await assert.rejects(outlast(hopeless.post({ key: "k" })), (error) => {
      assert.deepEqual([error.name, error.key, error.attempts, error.cause], ["OfflineError", "test|fund-create|k", 2, fault]);
      assert.match(error.message, /Nothing was sent/);
      return true;
    });
    assert.equal(hopeless.fetch.requests.length, 0);
  });

  test(`${name}() that never answers is given up in time, and one that answers too late sends nothing`, async () => {
    let answerLate;
    const slow = () => new Promise((resolve) => (answerLate = resolve));
    const { post, fetch } = open({ [name]: slow, retries: 0, timeout: 5000 });
    await assert.rejects(outlast(post({ key: "k" })), { name: "TimeoutError", key: "test|fund-create|k", attempts: 1 });
    answerLate(answer(own[name]));
    await settle();
    assert.equal(fetch.requests.length, 0);
  });

  test(`a call is cancelled while ${name}() runs`, async () => {
    const giveUp = new AbortController();
    const { post, fetch } = open({ [name]: () => new Promise(() => {}) });
    const result = post({ signal: giveUp.signal });
    await settle();
    giveUp.abort(new Error("signed out"));
    await assert.rejects(result, /signed out/);
    assert.equal(fetch.requests.length, 0);
  });
}

test("a fetch that ignores its signal is given up in time, too", async () => {
  const { post } = open({ steps: [() => new Promise(() => {})], retries: 0, timeout: 5000 });
  await assert.rejects(outlast(post()), { name: "TimeoutError" });
});

test("a signed-out user's null is not sent as a token, and no cookies go in its place", async () => {
  for (const none of [null, undefined, ""]) {
    const { post, fetch } = open({ token: () => none, steps: [created()] });
    await post("/api/funds", { name: "A" });
    assert.equal(fetch.requests[0].headers.has("Authorization"), false);
    assert.equal(fetch.requests[0].credentials, "omit");
  }
});

test("after a 401 a token function is asked once for a new token, at once", async () => {
  const asked = [];
  const token = ({ refused }) => `${asked.push(refused)}`;
  const { post, fetch } = open({ token, steps: [problem(401, "authentication_failed"), created()] });
  assert.equal((await post()).attempts, 2);
  assert.deepEqual(asked, [false, true]);
  assert.deepEqual(fetch.requests.map(({ headers }) => headers.get("Authorization")), ["Bearer 1", "Bearer 2"]);
  const hopeless = open({ token, steps: [problem(401, "authentication_failed")] });
  await assert.rejects(hopeless.post(), { name: "ProblemError", status: 401, attempts: 2 });
  const fixed = open({ token: "t", steps: [problem(401, "authentication_failed")] });
  await assert.rejects(fixed.post(), { name: "ProblemError", status: 401, attempts: 1 });
});

test("more headers are asked for at each attempt, and cannot replace the key", async () => {
  let count = 0;
  const headers = () => ({ "Rollout-Variant": `A=${++count}`, "Idempotency-Key": "mine" });
  const { post, fetch, keys } = open({ headers, steps: [new TypeError("x"), created()] });
  await outlast(post({ key: "k" }));
  assert.deepEqual(fetch.requests.map(({ headers }) => headers.get("Rollout-Variant")), ["A=1", "A=2"]);
  assert.deepEqual(keys(), ["test|fund-create|k", "test|fund-create|k"]);
  const fixed = open({ headers: { "Rollout-Variant": "A=on" } });
  await fixed.post();
  assert.equal(fixed.fetch.requests[0].headers.get("Rollout-Variant"), "A=on");
});

test("more headers may be spelled in any case, and be a Headers object", async () => {
  const mine = { "content-type": "application/json; charset=utf-8", "idempotency-key": "mine", prefer: "wait=1", authorization: "Bearer x", "X-A": "1" };
  for (const headers of [mine, new Headers(mine), Object.entries(mine), async () => new Headers(mine)]) {
    const { post, fetch } = open({ headers, token: "t", steps: [new TypeError("x"), created()] });
    await outlast(post({ key: "k" }));
    const sent = Object.fromEntries(fetch.requests[1].headers);
    assert.deepEqual(sent, {
      accept: "application/json, application/problem+json",
      authorization: "Bearer t",
      "content-type": "application/json; charset=utf-8",
      "idempotency-key": "test|fund-create|k",
      prefer: "wait=2",
      "x-a": "1",
    });
  }
  const { post, fetch } = open({ headers: () => null });
  await post({ key: "k" });
  assert.equal(fetch.requests[0].headers.get("Content-Type"), "application/json");
});

test("a session sends Django's CSRF token to its own origin alone", async () => {
  globalThis.location = { href: "https://funds.example/fund-setup" };
  globalThis.document = { cookie: "a=1; csrftoken=abc123; b=2" };
  const { client, fetch } = open();
  await client.post("/api/funds", FUND);
  await client.post("https://elsewhere.example/api/funds", FUND);
  const own = open({ csrf: () => "mine" });
  await own.client.post("/api/funds", FUND);
  assert.deepEqual(fetch.requests.map(({ headers }) => headers.get("X-CSRFToken")), ["abc123", null]);
  assert.equal(own.fetch.requests[0].headers.get("X-CSRFToken"), "mine");
  assert.equal(fetch.requests[0].credentials, "same-origin");
});

test("a redirect to a login page is no answer, and nothing is cached", async () => {
  const { post, fetch } = open();
  await post();
  const [{ redirect, cache, method }] = fetch.requests;
  assert.deepEqual([redirect, cache, method], ["error", "no-store", "POST"]);
});
