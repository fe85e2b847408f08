import assert from "node:assert/strict";
import { test } from "node:test";

import { Drafts } from "../../fundapi/static/fundapi/fund-setup/drafts.js";
import { newDraft, nextNonce } from "../../fundapi/static/fundapi/fund-setup/layouts.js";
import { oneTabAtATime } from "../../fundapi/static/fundapi/fund-setup/locks.js";

const FIELDS = {
  name: "Harbor Growth I",
  size: "250,000,000.50",
  managementFee: "2",
  carryPercentage: "20",
  vintageYear: "2025",
  modelVersion: "",
};
const [LEGACY, FUND_STORE] = ["fundSetup", "fundStore:v1:draft:7"];

/** A browser's storage, with room for so many characters. */
class FakeStorage {
  items = new Map();
  constructor(room = Infinity) {
    this.room = room;
  }
  get length() {
    return this.items.size;
  }
  key(index) {
    return [...this.items.keys()][index] ?? null;
  }
  getItem(key) {
    return this.items.get(key) ?? null;
  }
  setItem(key, value) {
    const others = [...this.items].reduce((sum, [k, v]) => (k === key ? sum : sum + k.length + v.length), 0);
    if (others + key.length + value.length > this.room) throw new DOMException("full", "QuotaExceededError");
    this.items.set(key, value);
  }
  removeItem(key) {
    this.items.delete(key);
  }
}

/** Locks as navigator.locks gives them: one after another. */
class FakeLocks {
  last = Promise.resolve();
  request(_name, _options, work) {
    const result = this.last.then(work);
    this.last = result.then(() => {}, () => {});
    return result;
  }
}

function tab({ owner = "7", local = new FakeStorage(), session = new FakeStorage(), locks = new FakeLocks() } = {}) {
  const events = [];
  const report = (event, detail) => events.push([event, detail.reason]);
  return { drafts: new Drafts({ owner, local, session, locks, report }), local, session, locks, events };
}

test("a draft is kept in the layout that the rollout chose", async () => {
  const { drafts, local } = tab();
  await drafts.use(false);
  const kept = drafts.save(newDraft(FIELDS));
  assert.equal(JSON.parse(local.getItem(LEGACY)).name, "Harbor Growth I");
  assert.equal(local.getItem(FUND_STORE), null);
  assert.deepEqual(drafts.newest(), kept);
});

test("the fund store's entry says its version, and another version's is not read", async () => {
  const { drafts, local, events } = tab();
  await drafts.use(true);
  drafts.save(newDraft(FIELDS));
  const entry = JSON.parse(local.getItem(FUND_STORE));
  assert.equal(entry.version, 1);
  local.setItem(FUND_STORE, JSON.stringify({ ...entry, version: 2 }));
  assert.equal(drafts.newest(), null);
  await drafts.use(true);
  assert.equal(JSON.parse(drafts.unreadable()[0].text).version, 2);
  assert.deepEqual(events, [["validation_error", "unreadable"]]);
});

for (const [from, to] of [
  [false, true],
  [true, false],
]) {
  test(`a draft moves whole from ${from ? "the fund store" : "legacy"} to ${to ? "the fund store" : "legacy"}`, async () => {
    const { drafts, local, events } = tab();
    await drafts.use(from);
    const submission = { state: "pending", body: "{}", at: 5, fundId: null };
    const firstSending = { at: 5, environment: "prod", clockAhead: -2 };
    const kept = drafts.save({ ...newDraft(FIELDS), firstSending, submission });
    await drafts.use(to);
    assert.deepEqual(drafts.newest(), kept);
    assert.deepEqual([...local.items.keys()], [to ? FUND_STORE : LEGACY]);
    assert.deepEqual(events, [["migration_succeeded", undefined]]);
  });
}

// --- The first sending ----------------------------------------------------------------------------------------

const SENT = { at: 1000, environment: "prod", clockAhead: 0 };
const OLD = { ...FIELDS, nonce: "n".repeat(32), revision: 3, savedAt: 9000, owner: "7" };
const pending = { state: "pending", body: "{}", at: 5000, fundId: null };

for (const [stored, at] of [
  [{ submission: pending }, 5000], // the last press is all that it noted
  [{ submission: null }, 0], // stopped, refused or never sent: it noted nothing
  [{ submission: { ...pending, state: "conflict" } }, 0],
  [{ submission: { ...pending, at: "soon" } }, 0],
  [{ submission: { ...pending, at: null }, firstSending: null }, null],
  [{ submission: null, firstSending: null }, null],
  [{ submission: pending, firstSending: null }, 5000],
  [{ submission: pending, firstSending: SENT }, 1000],
  [{ submission: null, firstSending: { at: "x" } }, 0],
  [{ nonce: undefined, submission: null }, null], // older than keys: it gets a new one
]) {
  test(`a stored draft tells when its key was first sent: ${JSON.stringify(stored)}`, async () => {
    const { drafts, local } = tab();
    local.setItem(LEGACY, JSON.stringify({ ...OLD, ...stored }));
    await drafts.use(true);
    assert.equal(drafts.newest().firstSending?.at ?? null, at);
    assert.equal(drafts.newest().fields.name, "Harbor Growth I");
  });
}

test("a tab that has not seen the first sending does not lose it", async () => {
  const local = new FakeStorage();
  const [one, two] = [tab({ local }), tab({ local })];
  await one.drafts.use(false);
  const before = one.drafts.save(newDraft(FIELDS));
  one.drafts.save({ ...before, firstSending: SENT });
  const typed = two.drafts.save({ ...before, fields: { ...FIELDS, name: "Typed elsewhere" } });
  assert.deepEqual(typed.firstSending, SENT);
  assert.deepEqual(one.drafts.newest(), typed, "it is the newest of all");
  assert.equal(two.drafts.save({ ...typed, firstSending: null }).firstSending, null, "its answer has come");
  assert.equal(one.drafts.save({ ...before, nonce: "another" }).firstSending, null, "another key");
});

test("two tabs that send a draft as another fund use one key", () => {
  assert.equal(nextNonce("abc"), "abc~2");
  assert.equal(nextNonce("abc~2"), "abc~3");
  for (const odd of ["a~b", "~", "n".repeat(255), "a~2~3"]) assert.match(nextNonce(odd), /^[A-Za-z0-9_.:~-]{1,255}$/, odd);
});

test("nothing to move is no migration", async () => {
  const { drafts, events } = tab();
  await drafts.use(false);
  await drafts.use(true);
  assert.equal(drafts.newest(), null);
  assert.deepEqual(events, []);
});

test("a draft that an earlier version left, with numbers and without a nonce, is understood", async () => {
  const { drafts, local } = tab();
  local.setItem(LEGACY, JSON.stringify({ name: "Old Harbor", size: 250000000, managementFee: 2, vintageYear: 2024 }));
  await drafts.use(true);
  const draft = drafts.newest();
  assert.deepEqual(draft.fields, {
    name: "Old Harbor",
    size: "250000000",
    managementFee: "2",
    carryPercentage: "",
    vintageYear: "2024",
    modelVersion: "",
  });
  assert.match(draft.nonce, /^[0-9a-f]{32}$/);
  assert.equal(drafts.newest().nonce, draft.nonce, "it is the same at the next look");
});

const DAMAGED = ["{not json", '"text"', "[]", "null", '{"name": {"a": 1}}', '{"something": "else"}', "", "\ud800"];
for (const text of DAMAGED) {
  test(`a damaged legacy draft is kept aside to the letter and reported: ${JSON.stringify(text)}`, async () => {
    const { drafts, local, events } = tab();
    local.setItem(LEGACY, text);
    await drafts.use(true);
    assert.equal(drafts.newest(), null);
    assert.deepEqual(drafts.unreadable().map((found) => found.text), [text]);
    assert.equal(local.getItem(LEGACY), null);
    assert.deepEqual(events, [["migration_failed", "unreadable"]]);
    drafts.save(newDraft(FIELDS));
    await drafts.use(false);
    assert.equal(drafts.unreadable().length, 1, "it stays, whatever happens next");
    assert.equal(drafts.newest().fields.name, "Harbor Growth I");
  });
}

test("a damaged draft that there is no room to put aside stays, and is not written over", async () => {
  const text = "{damaged".padEnd(900, ".");
  const { drafts, local, session, events } = tab({ local: new FakeStorage(1000) });
  local.setItem(LEGACY, text);
  await drafts.use(false);
  drafts.save(newDraft(FIELDS));
  assert.equal(local.getItem(LEGACY), text);
  assert.equal(drafts.keptIn, "tab");
  assert.equal(JSON.parse(session.getItem(LEGACY)).name, "Harbor Growth I");
  assert.equal(drafts.unreadable()[0].text, text);
  assert.deepEqual(events, [["validation_error", "unreadable"]]);
});

test("where two copies have no room, the old one makes room for the new one", async () => {
  const { drafts, local, events } = tab();
  await drafts.use(false);
  const kept = drafts.save(newDraft(FIELDS));
  local.room = local.getItem(LEGACY).length + 100;
  await drafts.use(true);
  assert.deepEqual(drafts.newest(), kept);
  assert.equal(drafts.keptIn, "browser");
  assert.equal(local.getItem(LEGACY), null);
  assert.deepEqual(events, [["migration_succeeded", undefined]]);
});

test("where even one copy has no room, the draft stays where it was, and the tab has it too", async () => {
  const { drafts, local, session, events } = tab();
  await drafts.use(false);
  const kept = drafts.save(newDraft(FIELDS));
  const text = local.getItem(LEGACY);
  local.room = LEGACY.length + text.length; // the fund store's key and version need more
  await drafts.use(true);
  assert.equal(local.getItem(LEGACY), text);
  assert.deepEqual(drafts.newest().fields, kept.fields);
  assert.equal(drafts.newest().nonce, kept.nonce);
  assert.ok(session.getItem(FUND_STORE));
  assert.equal(drafts.keptIn, "tab");
  assert.deepEqual(events, [["migration_failed", "storage"]]);
});

test("a full browser keeps the draft in the tab, and takes it back when there is room", async () => {
  const { drafts, local, session } = tab({ local: new FakeStorage(0) });
  await drafts.use(false);
  const first = drafts.save(newDraft(FIELDS));
  assert.equal(drafts.keptIn, "tab");
  assert.deepEqual(drafts.newest(), first);
  local.room = Infinity;
  const second = drafts.save(first);
  assert.equal(drafts.keptIn, "browser");
  assert.equal(session.length, 0);
  assert.deepEqual(drafts.newest(), second);
});

test("a browser without any storage keeps the draft on the page, through a migration too", async () => {
  const { drafts, events } = tab({ local: null, session: null, locks: null });
  await drafts.use(false);
  assert.equal(drafts.keptIn, "page");
  const kept = drafts.save(newDraft(FIELDS));
  await drafts.use(true);
  assert.deepEqual(drafts.newest(), kept);
  assert.deepEqual(events, [["migration_succeeded", undefined]]);
});

test("storage that throws at every touch is no storage", async () => {
  const broken = new Proxy({}, { get: () => { throw new DOMException("blocked", "SecurityError"); } });
  const { drafts } = tab({ local: broken, session: broken, locks: { request: () => Promise.reject(new Error("blocked")) } });
  await drafts.use(true);
  const kept = drafts.save(newDraft(FIELDS));
  assert.equal(drafts.keptIn, "page");
  assert.deepEqual(drafts.newest(), kept);
  assert.deepEqual(drafts.unreadable(), []);
});

for (const [name, makeLocks] of [["locks", () => new FakeLocks()], ["a lease", () => null]]) {
  test(`of two tabs that migrate at once one does, by ${name}`, async () => {
    const local = new FakeStorage();
    const locks = makeLocks();
    const one = tab({ local, locks });
    const two = tab({ local, locks });
    local.setItem(LEGACY, JSON.stringify({ ...FIELDS, nonce: "n", revision: 3, savedAt: 1 }));
    await Promise.all([one.drafts.use(true), two.drafts.use(true)]);
    assert.deepEqual([...one.events, ...two.events], [["migration_succeeded", undefined]]);
    assert.deepEqual([...local.items.keys()], [FUND_STORE]);
    assert.equal(one.drafts.newest().nonce, "n");
    assert.deepEqual(one.drafts.newest(), two.drafts.newest());
  });
}

test("a tab that died with the lease does not stop the others", async () => {
  const local = new FakeStorage();
  local.setItem("fundSetup:migration", `dead ${Date.now() + 200}`);
  const started = Date.now();
  assert.equal(await oneTabAtATime({ locks: null, storage: local }, () => "done"), "done");
  assert.ok(Date.now() - started >= 150);
  assert.equal(local.getItem("fundSetup:migration"), null);
});

test("what fails under a lock fails once", async () => {
  let calls = 0;
  const work = () => {
    calls += 1;
    throw new Error("broken");
  };
  await assert.rejects(oneTabAtATime({ locks: new FakeLocks(), storage: null }, work), /broken/);
  assert.equal(calls, 1);
});

test("of two drafts that differ the newer is shown, and the older is kept aside", async () => {
  const { drafts, local } = tab();
  local.setItem(LEGACY, JSON.stringify({ ...FIELDS, name: "Newer", revision: 9, savedAt: 2 }));
  local.setItem(FUND_STORE, JSON.stringify({ version: 1, fields: FIELDS, nonce: "n", revision: 4, savedAt: 1 }));
  await drafts.use(false);
  assert.equal(drafts.newest().fields.name, "Newer");
  const [aside] = [...local.items.keys()].filter((key) => key.startsWith(`${FUND_STORE}:aside:`));
  assert.equal(JSON.parse(local.getItem(aside)).fields.name, "Harbor Growth I");
});

test("what is typed while a migration waits for its turn is newer than what it brings", async () => {
  const local = new FakeStorage();
  local.setItem(LEGACY, JSON.stringify({ ...FIELDS, name: "Before", revision: 3, savedAt: 1 }));
  const { drafts } = tab({ local });
  const before = drafts.newest();
  const moving = drafts.use(true);
  drafts.save({ ...before, fields: { ...FIELDS, name: "Typed meanwhile" } });
  await moving;
  assert.equal(drafts.newest().fields.name, "Typed meanwhile");
});

test("two users of one browser do not see each other's drafts, and lose none", async () => {
  const local = new FakeStorage();
  for (const inFundStore of [false, true]) {
    for (const owner of ["7", "8", "7", "8"]) {
      const { drafts } = tab({ owner, local });
      await drafts.use(inFundStore);
      const mine = drafts.newest();
      if (mine) assert.equal(mine.fields.name, `of ${owner}`);
      else drafts.save(newDraft({ ...FIELDS, name: `of ${owner}` }));
    }
  }
  const { drafts } = tab({ owner: "8", local });
  await drafts.use(false);
  assert.equal(drafts.newest().fields.name, "of 8");
});

test("a tab of a user who has left writes over nobody's draft", async () => {
  for (const inFundStore of [false, true]) {
    const local = new FakeStorage();
    const [seven, eight] = [tab({ owner: "7", local }), tab({ owner: "8", local })];
    await seven.drafts.use(inFundStore);
    const draft = seven.drafts.save(newDraft({ ...FIELDS, name: "of 7" }));
    await eight.drafts.use(inFundStore);
    eight.drafts.save(newDraft({ ...FIELDS, name: "of 8" }));
    assert.equal(seven.drafts.isCleared(), false);
    seven.drafts.save({ ...draft, fields: { ...FIELDS, name: "still of 7" } });
    assert.equal(eight.drafts.isCleared(), false);
    for (const [owner, name] of [["8", "of 8"], ["7", "still of 7"]]) {
      const { drafts } = tab({ owner, local });
      await drafts.use(inFundStore);
      assert.equal(drafts.newest().fields.name, name);
    }
  }
});

test("a cleared draft is gone from both layouts, and the next one is newer than any before", async () => {
  const { drafts, local } = tab();
  await drafts.use(true);
  const first = drafts.save(newDraft(FIELDS));
  drafts.clear("another");
  assert.equal(drafts.newest().nonce, first.nonce);
  drafts.clear(first.nonce);
  assert.equal(drafts.newest(), null);
  assert.ok(drafts.isCleared());
  assert.equal(local.length, 0);
  assert.ok(drafts.save(newDraft(FIELDS)).revision > first.revision);
});
