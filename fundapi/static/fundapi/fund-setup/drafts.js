/**
 * Where the draft of a fund lives in this browser: in the layout that the rollout chooses (`layouts.js`).
 *
 * Beside it, by either layout's key: `…:unreadable:<time>` is a draft that could not be read, `…:aside:<time>` the older
 * of two that differed. Neither is ever deleted here. `fundSetup:<user>` is another user's legacy draft, until they
 * return.
 *
 * A draft is one entry, so writing it is atomic. When the browser does not take it (full, blocked) it goes to
 * sessionStorage, which survives a reload, else to the page's memory. The highest `revision` is the newest, wherever.
 */

import { LEGACY, fundStore, sameFields } from "./layouts.js";
import { oneTabAtATime } from "./locks.js";

/** @typedef {import("./layouts.js").Draft} Draft */
/** @typedef {import("./layouts.js").Layout} Layout */
/** @typedef {import("./locks.js").Locks} Locks */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">} StorageLike */

/** @typedef {{name: "browser" | "tab" | "page", storage: StorageLike}} Place */

/** @typedef {{place: Place, layout: Layout, draft: Draft}} Entry */

/** A Storage for a page that has none. @implements {StorageLike} */
class Memory {
  /** @type {Map<string, string>} */ #items = new Map();
  get length() {
    return this.#items.size;
  }
  /** @param {number} index */
  key(index) {
    return [...this.#items.keys()][index] ?? null;
  }
  /** @param {string} key */
  getItem(key) {
    return this.#items.get(key) ?? null;
  }
  /** @type {(key: string, value: string) => void} */
  setItem(key, value) {
    this.#items.set(key, value);
  }
  /** @param {string} key */
  removeItem(key) {
    this.#items.delete(key);
  }
}

/**
 * @typedef {object} Options
 * @property {string} owner the user's id
 * @property {StorageLike | null} local localStorage, or null where it is blocked
 * @property {StorageLike | null} session
 * @property {Locks | null} locks `navigator.locks`
 * @property {(event: string, detail: object) => void} report to telemetry
 */

export class Drafts {
  #owner;
  #locks;
  #report;
  #legacy = LEGACY;
  #fundStore;
  /** @type {Place[]} best first */ #places;
  /** @type {Map<string, string>} texts that could not be put by, and their keys: not written over */ #untouchable = new Map();
  #revision = 0;

  /** Where the rollout wants the draft. */
  active = LEGACY;

  /** Where the last save went: `browser` is as it should be, `tab` ends with the tab, `page` with the page. */
  keptIn = /** @type {Place["name"]} */ ("browser");

  /** @param {Options} options */
  constructor({ owner, local, session, locks, report }) {
    this.#owner = owner;
    this.#fundStore = fundStore(owner);
    this.#locks = locks;
    this.#report = report;
    this.#places = [];
    if (local) this.#places.push({ name: "browser", storage: local });
    if (session) this.#places.push({ name: "tab", storage: session });
    this.#places.push({ name: "page", storage: new Memory() });
    if (!local) this.keptIn = session ? "tab" : "page";
  }

  /**
   * Keep the draft where the rollout wants it, and bring along what is in the other layout. Never rejects for what
   * storage does: then the draft stays readable where it was, and `keptIn` says where new versions go.
   * @param {boolean} inFundStore
   * @returns {Promise<void>}
   */
  async use(inFundStore) {
    this.active = inFundStore ? this.#fundStore : this.#legacy; // at once: what is typed meanwhile is newer
    const local = this.#places.find(({ name }) => name === "browser")?.storage ?? null;
    await oneTabAtATime({ locks: this.#locks, storage: local }, () => this.#migrate());
  }

  /**
   * The newest draft of this user, wherever it is.
   * @returns {Draft | null}
   */
  newest() {
    return this.#entries()[0]?.draft ?? null;
  }

  /**
   * Keep a draft.
   * @param {Draft} draft
   * @returns {Draft} as it was kept
   */
  save(draft) {
    this.#revision = Math.max(this.#revision, draft.revision) + 1;
    const kept = { ...draft, owner: this.#owner, revision: this.#revision, savedAt: Date.now() };
    const text = this.active.write(kept);
    const place = this.#places.find((candidate) => this.#write(candidate, text));
    this.keptIn = place?.name ?? "page";
    const worse = this.#places.slice(this.#places.findIndex((candidate) => candidate === place) + 1);
    for (const { storage } of worse) {
      for (const { key } of this.#layouts) attempt(() => storage.removeItem(key));
    }
    return kept;
  }

  /** Forget the draft: it became a fund, and the person starts another. */
  clear() {
    for (const { place, layout } of this.#entries()) attempt(() => place.storage.removeItem(layout.key));
  }

  /**
   * Is this the key of a draft, such as a `storage` event names?
   * @param {string | null} key null: all of storage was cleared
   */
  owns(key) {
    return key === null || this.#layouts.some((layout) => layout.key === key);
  }

  /**
   * Drafts that could not be read, as they were found.
   * @returns {{key: string, text: string}[]} the newest first
   */
  unreadable() {
    const found = this.#places.flatMap(({ storage }) => {
      const keys = attempt(() => Array.from({ length: storage.length }, (_, index) => storage.key(index) ?? "")) ?? [];
      return keys
        .filter((key) => this.#layouts.some((layout) => key.startsWith(`${layout.key}:unreadable:`)))
        .map((key) => ({ key, text: storage.getItem(key) ?? "" }));
    });
    const left = [...this.#untouchable].filter(([text]) => !this.#isReadable(text));
    return [...left.map(([text, key]) => ({ key, text })), ...found.sort((a, b) => (a.key < b.key ? 1 : -1))];
  }

  get #layouts() {
    return [this.#legacy, this.#fundStore];
  }

  /**
   * Every draft of this user that can be read, the newest first.
   * @returns {Entry[]}
   */
  #entries() {
    /** @type {Entry[]} */ const entries = [];
    for (const place of this.#places) {
      for (const layout of this.#layouts) {
        const draft = attempt(() => {
          const text = place.storage.getItem(layout.key);
          return text === null ? null : layout.read(text);
        });
        if (draft && (draft.owner === null || draft.owner === this.#owner)) entries.push({ place, layout, draft });
      }
    }
    entries.sort((a, b) => b.draft.revision - a.draft.revision || b.draft.savedAt - a.draft.savedAt);
    this.#revision = Math.max(this.#revision, entries[0]?.draft.revision ?? 0);
    return entries;
  }

  /**
   * @param {Place} place
   * @param {string} text
   * @returns {boolean} whether it is there now
   */
  #write({ storage }, text) {
    const { key } = this.active;
    const foreign = attempt(() => {
      const there = storage.getItem(key);
      return there !== null && this.#untouchable.has(there);
    });
    if (foreign) return false;
    return attempt(() => {
      storage.setItem(key, text);
      return storage.getItem(key) === text;
    }) ?? false;
  }

  /** Runs in one tab at a time. Everything in it is synchronous: between its lines no other script runs. */
  #migrate() {
    for (const place of this.#places) {
      for (const layout of this.#layouts) this.#setAsideUnreadable(place, layout);
      this.#exchangeUsers(place);
    }
    const entries = this.#entries();
    const [newest] = entries;
    const old = entries.filter(({ layout }) => layout !== this.active);
    if (!newest || old.length === 0) return;
    const { active } = this;
    if (newest.layout !== active) {
      const detail = { from: newest.layout.name, to: active.name };
      if (!this.#move(newest)) {
        this.#report("migration_failed", { ...detail, reason: "storage" });
        this.save(newest.draft); // to the tab or the page; what is stored stays where it was
        return;
      }
      this.#report("migration_succeeded", detail);
    }
    for (const entry of entries) {
      if (entry.layout === active) continue;
      if (sameFields(entry.draft.fields, newest.draft.fields) || this.#keepAside(entry)) {
        attempt(() => entry.place.storage.removeItem(entry.layout.key));
      }
    }
  }

  /**
   * Write a draft in the active layout. Where there is no room for two copies, the old one makes room, and comes back
   * if that was not enough.
   * @param {Entry} entry
   * @returns {boolean}
   */
  #move({ place, layout, draft }) {
    const text = this.active.write({ ...draft, owner: this.#owner });
    const best = this.#places.find((candidate) => this.#write(candidate, text));
    if (best && this.#places.indexOf(best) <= this.#places.indexOf(place)) {
      this.keptIn = best.name;
      return true;
    }
    if (best) attempt(() => best.storage.removeItem(this.active.key)); // worse than where it is
    const before = attempt(() => place.storage.getItem(layout.key)) ?? null;
    if (before === null) return false;
    attempt(() => place.storage.removeItem(layout.key));
    if (this.#write(place, text)) {
      this.keptIn = place.name;
      return true;
    }
    attempt(() => place.storage.setItem(layout.key, before));
    return false;
  }

  /**
   * @param {Entry} entry
   * @returns {boolean | undefined} whether it is there now
   */
  #keepAside({ place, layout, draft }) {
    return attempt(() => {
      place.storage.setItem(`${layout.key}:aside:${Date.now()}`, layout.write(draft));
      return true;
    });
  }

  /** @param {string} text */
  #isReadable(text) {
    return this.#layouts.some((layout) => attempt(() => layout.read(text)));
  }

  /**
   * @param {Place} place
   * @param {Layout} layout
   */
  #setAsideUnreadable({ storage }, layout) {
    const text = attempt(() => storage.getItem(layout.key)) ?? null;
    if (text === null || this.#untouchable.has(text) || attempt(() => layout.read(text))) return;
    const aside = `${layout.key}:unreadable:${Date.now()}`;
    const kept = attempt(() => {
      storage.setItem(aside, text);
      return storage.getItem(aside) === text;
    });
    if (kept) attempt(() => storage.removeItem(layout.key));
    else this.#untouchable.set(text, layout.key);
    const moving = layout !== this.active;
    const detail = { from: layout.name, to: this.active.name, reason: "unreadable", length: text.length };
    this.#report(moving ? "migration_failed" : "validation_error", detail);
  }

  /**
   * The legacy layout has room for one user: put another's draft by, and fetch ours.
   * @param {Place} place
   */
  #exchangeUsers({ storage }) {
    const { key } = this.#legacy;
    const theirs = attempt(() => storage.getItem(key)) ?? null;
    const owner = theirs === null ? null : (attempt(() => this.#legacy.read(theirs))?.owner ?? null);
    if (theirs !== null && owner !== null && owner !== this.#owner) {
      const put = attempt(() => {
        storage.setItem(`${key}:${owner}`, theirs);
        storage.removeItem(key);
        return true;
      });
      if (!put) this.#untouchable.set(theirs, key);
    }
    const ours = attempt(() => storage.getItem(`${key}:${this.#owner}`)) ?? null;
    if (ours === null || attempt(() => storage.getItem(key)) !== null) return;
    attempt(() => {
      storage.setItem(key, ours);
      storage.removeItem(`${key}:${this.#owner}`);
    });
  }
}

/**
 * @template T
 * @param {() => T} work
 * @returns {T | undefined} undefined when it threw
 */
function attempt(work) {
  try {
    return work();
  } catch {
    return undefined;
  }
}
