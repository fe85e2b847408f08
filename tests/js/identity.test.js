import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { randomUuid, stableUuid } from "../../rollout/static/rollout/rollout.js";
import { BlockedStorage, FakeStorage, FullStorage } from "./fakes.js";

afterEach(() => mock.restoreAll());

test("a browser keeps its uuid", () => {
  const storage = new FakeStorage();
  const uuid = stableUuid(storage);
  assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(stableUuid(storage), uuid);
  assert.notEqual(stableUuid(new FakeStorage()), uuid);
});

test("where storage is blocked or full the uuid lives as long as the page", () => {
  const uuid = stableUuid(new BlockedStorage());
  assert.equal(stableUuid(new BlockedStorage()), uuid);
  assert.equal(stableUuid(new FullStorage()), uuid);
  assert.equal(stableUuid(null), uuid);
});

test("an insecure page without crypto.randomUUID makes version 4 uuids all the same", () => {
  mock.method(crypto, "getRandomValues", (bytes) => bytes.fill(0xff));
  const original = crypto.randomUUID;
  Object.defineProperty(crypto, "randomUUID", { value: undefined, configurable: true });
  try {
    assert.equal(randomUuid(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
  } finally {
    Object.defineProperty(crypto, "randomUUID", { value: original, configurable: true });
  }
});
