import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, beforeEach, mock, test } from "node:test";
import {
  ConflictError,
  OfflineError,
  ProblemError,
  TimeoutError,
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
  return { client, fetch, post, keys: () => fetch.requests.map(({ headers }) => headers["Idempotency-Key"]) };
}

/** Let mocked time pass until a promise is settled. */
async function outlast(promise, step = 1000) {
  let done = false;
  const end = () => (done = true);
  promise.then(end, end);
  for (let turn = 0; turn < 200 && !done; turn++) {
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
  for (const value of [NaN, Infinity, -Infinity]) assert.throws(() => canonical({ size: value }), TypeError);
  assert.throws(() => canonical(undefined), TypeError);
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

test("another origin that does not expose the header is understood by its status", async () => {
  assert.equal((await open({ steps: [json({}, { status: 201 })] }).post()).status, "created");
  assert.equal((await open({ steps: [json({}, { status: 200 })] }).post()).status, "replayed");
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
    assert.equal(first.headers.Prefer, undefined);
    for (const request of later) {
      assert.equal(request.body, first.body);
      assert.equal(request.headers["Idempotency-Key"], "test|fund-create|k");
      assert.equal(request.headers.Prefer, "wait=2");
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

test("Retry-After is seconds or a date", () => {
  assert.equal(readRetryAfter("120"), 120);
  assert.equal(readRetryAfter(null), null);
  assert.equal(readRetryAfter("soon"), null);
  const seconds = readRetryAfter(new Date(Date.now() + 10_000).toUTCString());
  assert.ok(seconds > 8 && seconds <= 10);
  assert.equal(readRetryAfter("Wed, 21 Oct 2015 07:28:00 GMT"), 0);
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
  assert.deepEqual(fetch.requests.map(({ headers }) => headers.Authorization), ["Bearer t1", "Bearer t2"]);
  assert.equal(fetch.requests[0].credentials, "omit");
  assert.equal(fetch.requests[0].headers["X-CSRFToken"], undefined);
});

test("more headers are asked for at each attempt, and cannot replace the key", async () => {
  let count = 0;
  const headers = () => ({ "Rollout-Variant": `A=${++count}`, "Idempotency-Key": "mine" });
  const { post, fetch, keys } = open({ headers, steps: [new TypeError("x"), created()] });
  await outlast(post({ key: "k" }));
  assert.deepEqual(fetch.requests.map(({ headers }) => headers["Rollout-Variant"]), ["A=1", "A=2"]);
  assert.deepEqual(keys(), ["test|fund-create|k", "test|fund-create|k"]);
  const fixed = open({ headers: { "Rollout-Variant": "A=on" } });
  await fixed.post();
  assert.equal(fixed.fetch.requests[0].headers["Rollout-Variant"], "A=on");
});

test("a session sends Django's CSRF token to its own origin alone", async () => {
  globalThis.location = { href: "https://funds.example/fund-setup" };
  globalThis.document = { cookie: "a=1; csrftoken=abc123; b=2" };
  const { client, fetch } = open();
  await client.post("/api/funds", FUND);
  await client.post("https://elsewhere.example/api/funds", FUND);
  const own = open({ csrf: () => "mine" });
  await own.client.post("/api/funds", FUND);
  assert.deepEqual(fetch.requests.map(({ headers }) => headers["X-CSRFToken"]), ["abc123", undefined]);
  assert.equal(own.fetch.requests[0].headers["X-CSRFToken"], "mine");
  assert.equal(fetch.requests[0].credentials, "same-origin");
});

test("a redirect to a login page is no answer, and nothing is cached", async () => {
  const { post, fetch } = open();
  await post();
  const [{ redirect, cache, method }] = fetch.requests;
  assert.deepEqual([redirect, cache, method], ["error", "no-store", "POST"]);
});
