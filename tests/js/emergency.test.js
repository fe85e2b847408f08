import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, test } from "node:test";
import { BlockedStorage, FakeStorage, FullStorage } from "./fakes.js";

const NAME = "emergency_rollback";
let visits = 0;

class FakeElement {
  children = [];
  attributes = {};
  listeners = {};
  textContent = "";
  constructor(tag) {
    this.tag = tag;
  }
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  addEventListener(name, listener) {
    this.listeners[name] = listener;
  }
  append(...children) {
    this.children.push(...children);
  }
  prepend(child) {
    this.children.unshift(child);
  }
}

/** Open a page as a browser does: the module runs anew. */
async function visit({ search = "", storage = new FakeStorage(), body = new FakeElement("body") } = {}) {
  const page = { reloaded: false, body, storage };
  const listeners = {};
  const globals = {
    localStorage: storage,
    location: { search, href: `https://funds.example/fund-setup${search}`, reload: () => (page.reloaded = true) },
    history: { state: { page: 1 }, replaceState: (_state, _title, url) => Object.assign(globals.location, { href: String(url), search: url.search }) },
    document: {
      body,
      adoptedStyleSheets: [],
      createElement: (tag) => new FakeElement(tag),
      querySelector: () => globals.document.body?.children.find(({ className }) => className === "emergency-banner") ?? null,
      addEventListener: (name, listener) => (listeners[name] = listener),
    },
    CSSStyleSheet: class {
      replaceSync() {}
    },
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  const module = await import(`../../rollout/static/rollout/emergency.js?visit=${++visits}`);
  await new Promise((resolve) => setTimeout(resolve, 1));
  return { ...page, ...module, globals, listeners, page, banner: () => body?.children[0] };
}

afterEach(() => {
  for (const name of ["localStorage", "location", "history", "document", "CSSStyleSheet"]) delete globalThis[name];
});

test("an ordinary visit has no emergency and no banner", async () => {
  const { emergencyActive, banner } = await visit();
  assert.equal(emergencyActive(), false);
  assert.equal(banner(), undefined);
});

test("one visit with the URL is enough: later visits without it are in an emergency too", async () => {
  const { storage, emergencyActive, globals } = await visit({ search: "?emergency_rollback=true&x=1" });
  assert.equal(emergencyActive(), true);
  assert.equal(storage.getItem(NAME), "true");
  assert.equal(globals.location.search, "?emergency_rollback=true&x=1"); // the address stays as it was shared
  const later = await visit({ storage });
  assert.equal(later.emergencyActive(), true);
  assert.ok(later.banner());
});

test("every spelling of yes is an emergency, in the URL and in storage, as in Python", async () => {
  const table = JSON.parse(readFileSync(new URL("../rollout/precedence.json", import.meta.url), "utf8"));
  for (const [value, stop] of table.spellings.filter(([value]) => typeof value === "string")) {
    const visited = await visit({ search: `?${new URLSearchParams({ [NAME]: value })}` });
    assert.equal(visited.emergencyActive(), stop, value);
    assert.equal(visited.storage.getItem(NAME), stop ? "true" : null, value);
    const storage = new FakeStorage();
    storage.setItem(NAME, value);
    assert.equal((await visit({ storage })).emergencyActive(), stop, value);
  }
});

test("the runbook's localStorage.setItem works without the URL", async () => {
  const storage = new FakeStorage();
  storage.setItem(NAME, "true");
  assert.equal((await visit({ storage })).emergencyActive(), true);
});

test("false is no emergency, and does not end one either", async () => {
  const storage = new FakeStorage();
  assert.equal((await visit({ search: "?emergency_rollback=false", storage })).emergencyActive(), false);
  storage.setItem(NAME, "true");
  assert.equal((await visit({ search: "?emergency_rollback=false", storage })).emergencyActive(), true);
});

test("the banner says what is going on and how to leave, for screen readers too", async () => {
  const { banner } = await visit({ search: "?emergency_rollback=true" });
  const [status, leave] = banner().children;
  assert.equal(banner().tag, "section");
  assert.equal(banner().attributes["aria-label"], "Emergency rollback");
  assert.equal(status.attributes.role, "status");
  assert.match(status.textContent, /Emergency rollback is on.*previous version.*To leave, press the button/);
  assert.deepEqual([leave.tag, leave.type, leave.textContent], ["button", "button", "Leave emergency rollback"]);
});

test("leaving clears the flag and the URL, and reloads", async () => {
  const { banner, page, storage, globals, emergencyActive } = await visit({ search: "?emergency_rollback=true&draft=7" });
  banner().children[1].listeners.click();
  assert.equal(storage.getItem(NAME), null);
  assert.equal(globals.location.search, "?draft=7");
  assert.equal(page.reloaded, true);
  assert.equal(emergencyActive(), false);
});

test("there is one banner, however often it is asked for", async () => {
  const { showBanner, body } = await visit({ search: "?emergency_rollback=true" });
  showBanner();
  assert.equal(body.children.length, 1);
});

test("a page that has no body yet gets its banner when it has", async () => {
  const { globals, listeners } = await visit({ search: "?emergency_rollback=true", body: null });
  globals.document.body = new FakeElement("body");
  listeners.DOMContentLoaded();
  assert.equal(globals.document.body.children.length, 1);
});

for (const storage of [new BlockedStorage(), new FullStorage(), null]) {
  test(`it works with the URL alone where storage is ${storage?.constructor.name ?? "missing"}`, async () => {
    const { emergencyActive, clearEmergency, banner } = await visit({ search: "?emergency_rollback=true", storage });
    assert.equal(emergencyActive(), true);
    assert.ok(banner());
    clearEmergency();
    assert.equal(emergencyActive(), false);
  });
}

test("a browser that can do nothing still loads the page", async () => {
  const broken = { createElement: () => assert.fail("nothing works"), body: {}, querySelector: () => null };
  const { emergencyActive, showBanner } = await visit({ search: "?emergency_rollback=true" });
  Object.defineProperty(globalThis, "document", { value: broken, configurable: true, writable: true });
  delete globalThis.CSSStyleSheet;
  assert.doesNotThrow(showBanner);
  assert.equal(emergencyActive(), true);
});
