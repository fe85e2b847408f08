import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { bucket, evaluate, fnv1a32, isExposed, overrideName, readSwitches } from "../../rollout/static/rollout/rollout.js";
import { BlockedStorage, FakeStorage } from "./fakes.js";

const read = (name) => JSON.parse(readFileSync(new URL(`../rollout/${name}`, import.meta.url), "utf8"));
const FEATURE = "USE_FUND_STORE";
const INSIDE = "d16cf91b-e7ac-4ca9-b50f-8ceead8f87d0"; // bucket 9

function rollout(fields = {}) {
  return { feature: FEATURE, enabled: true, percentage: 10, emergencyStop: false, hashVersion: 1, version: 1, ...fields };
}

test("the frontends' own vectors hold", () => {
  const vectors = read("vectors.json");
  assert.equal(vectors.length, 18);
  for (const [text, hash, expected] of vectors) {
    assert.equal(fnv1a32(text), hash, text);
    assert.equal(bucket(text, "", 1), expected, text);
  }
});

test("every combination of switches decides as the table says", () => {
  const table = read("precedence.json");
  assert.equal(table.rows.length, 864);
  const ASSIGNED = { never: false, always: true };
  for (const values of table.rows) {
    const row = Object.fromEntries(table.columns.map((column, index) => [column, values[index]]));
    const config = rollout({ emergencyStop: row.serverStop, enabled: row.enabled, percentage: table.percentage });
    const url = new URLSearchParams();
    const storage = new FakeStorage();
    if (row.urlEmergency) url.set("emergency_rollback", "true");
    if (row.storedEmergency) storage.setItem("emergency_rollback", "true");
    if (row.urlOverride !== null) url.set("ff_useFundStore", row.urlOverride);
    if (row.storedOverride !== null) storage.setItem("ff_useFundStore", row.storedOverride);
    const assigned = row.assigned === null ? null : ASSIGNED[row.assigned];
    const switches = { ...readSwitches(table.feature, { search: `?${url}`, storage }), assigned };
    const uuid = row.inPercentage ? table.inside : table.outside;
    assert.deepEqual(evaluate(config, uuid, switches), { on: row.on, reason: row.reason }, JSON.stringify(row));
  }
});

test("without a configuration nothing turns a feature on, and the switches still say why", () => {
  assert.deepEqual(evaluate(null, INSIDE), { on: false, reason: "unknown" });
  assert.deepEqual(evaluate(null, INSIDE, { urlOverride: true, storedOverride: true }), { on: false, reason: "unknown" });
  assert.deepEqual(evaluate(null, INSIDE, { urlOverride: false }), { on: false, reason: "opt_out" });
  assert.deepEqual(evaluate(null, INSIDE, { emergency: true }), { on: false, reason: "emergency_stop" });
});

test("a hash version that this module does not know gives legacy, also at 100 %", () => {
  assert.equal(isExposed(INSIDE, FEATURE, 100, 3), false);
  assert.deepEqual(evaluate(rollout({ hashVersion: 3, percentage: 100 }), INSIDE), { on: false, reason: "percentage" });
});

test("a kill switch is named after its feature", () => {
  assert.equal(overrideName("USE_FUND_STORE"), "ff_useFundStore");
  assert.equal(overrideName("A"), "ff_a");
  assert.equal(overrideName("USE_2ND_STORE"), "ff_use2ndStore");
});

test("of contradicting switches in one URL the safer one counts", () => {
  assert.equal(readSwitches(FEATURE, { search: "?ff_useFundStore=1&ff_useFundStore=0" }).urlOverride, false);
  assert.equal(readSwitches(FEATURE, { search: "?emergency_rollback=false&emergency_rollback=true" }).emergency, true);
});

test("a stop obeys every spelling of yes, in the URL and in storage, as in Python", () => {
  const OVERRIDES = { 0: false, 1: true };
  const texts = read("precedence.json").spellings.filter(([value]) => typeof value === "string");
  assert.ok(texts.length > 25);
  for (const [value, stop, override] of texts) {
    const url = new URLSearchParams({ emergency_rollback: value, ff_useFundStore: value });
    const inUrl = readSwitches(FEATURE, { search: `?${url}` });
    const storage = new FakeStorage();
    for (const name of ["emergency_rollback", "ff_useFundStore"]) storage.setItem(name, value);
    const stored = readSwitches(FEATURE, { storage });
    assert.deepEqual([inUrl.emergency, stored.emergency], [stop, stop], value);
    const expected = override === null ? null : OVERRIDES[override];
    assert.deepEqual([inUrl.urlOverride, stored.storedOverride], [expected, expected], value);
  }
});

test("a blocked or missing storage is an empty one", () => {
  const none = { emergency: false, urlOverride: null, storedOverride: null };
  assert.deepEqual(readSwitches(FEATURE, { storage: new BlockedStorage() }), none);
  assert.deepEqual(readSwitches(FEATURE, { storage: null }), none);
  assert.deepEqual(readSwitches(FEATURE), none);
});
