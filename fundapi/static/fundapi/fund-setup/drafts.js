/**
 * The draft of a fund in this browser's storage, in the layout that the rollout chooses (`layouts.js`).
 *
 * Beside it, by either layout's key: `…:unreadable:<time>` is a draft that could not be read, `…:aside:<time>` the
 * older of two that differed. This module never deletes either. `fundSetup:<user>` is another user's legacy draft,
 * until that user returns.
 *
 * A draft is one entry, so writing it is atomic. Where localStorage is full or blocked, the draft goes to
 * sessionStorage, which survives a reload, else to the page's memory. The highest `revision` is the newest.
 */

import { LEGACY, fundStore, sameFields } from "./layouts.js";
import { oneTabAtATime } from "./locks.js";

/** @typedef {import("./layouts.js").Draft} Draft */
/** @typedef {import("./layouts.js").Layout} Layout */
/** @typedef {import("./layouts.js").StorageLike} StorageLike */
/** @typedef {import("./locks.js").Locks} Locks */

/** @typedef {{name: "browser" | "tab" | "page", storage: StorageLike}} Area */

/** @typedef {{area: Area, layout: Layout, draft: Draft}} Entry */

/** Storage in the page's memory. @implements {StorageLike} */
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
  /** @type {Area[]} best first */ #areas;
  /** @type {Map<string, string>} texts that could not be set aside, with their keys; never overwritten */
  #protected = new Map();
  #revision = 0;

  /** The layout that the rollout chooses. */
  active = LEGACY;

  /** The area of the last save: `browser` lasts, `tab` ends with the tab, `page` with the page. */
  keptIn = /** @type {Area["name"]} */ ("browser");

  /** @param {Options} options */
  constructor({ owner, local, session, locks, report }) {
    this.#owner = owner;
    this.#fundStore = fundStore(owner);
    this.#locks = locks;
    this.#report = report;
    this.#areas = [];
    if (local) this.#areas.push({ name: "browser", storage: local });
    if (session) this.#areas.push({ name: "tab", storage: session });
    this.#areas.push({ name: "page", storage: new Memory() });
    if (!local) this.keptIn = session ? "tab" : "page";
  }

  /**
   * Use the layout that the rollout chooses, and migrate a draft of the other one. Does not reject when storage fails:
   * the draft then stays readable where it was, and `keptIn` names the area of new versions.
   * @param {boolean} inFundStore
   * @returns {Promise<void>}
   */
  async use(inFundStore) {
    this.active = inFundStore ? this.#fundStore : this.#legacy; // before the wait: what is typed meanwhile is newer
    const local = this.#areas.find(({ name }) => name === "browser")?.storage ?? null;
    await oneTabAtATime({ locks: this.#locks, storage: local }, () => this.#migrate());
  }

  /**
   * Return the newest draft of this user, from any area and layout.
   * @returns {Draft | null}
   */
  newest() {
    return this.#entries()[0]?.draft ?? null;
  }

  /**
   * Save a draft. It keeps the first sending that another tab has noted, even before this tab hears of it.
   * @param {Draft} draft
   * @returns {Draft} as it was saved
   */
  save(draft) {
    const newest = this.newest();
    const unseen = newest && newest.revision > draft.revision && newest.nonce === draft.nonce ? newest.firstSending : null;
    const firstSending = draft.firstSending ?? unseen;
    this.#revision = Math.max(this.#revision, draft.revision) + 1;
    const saved = { ...draft, firstSending, owner: this.#owner, revision: this.#revision, savedAt: Date.now() };
    const text = this.active.write(saved);
    const area = this.#areas.find((candidate) => this.#write(candidate, text));
    this.keptIn = area?.name ?? "page";
    const worse = this.#areas.slice(this.#areas.findIndex((candidate) => candidate === area) + 1);
    for (const { storage } of worse) {
      for (const { key } of this.#layouts) ignoringErrors(() => storage.removeItem(key));
    }
    return saved;
  }

  /**
   * Remove a draft that became a fund, and leave another one that was begun since, in another tab.
   * @param {string} nonce
   */
  clear(nonce) {
    for (const { area, layout, draft } of this.#entries()) {
      if (draft.nonce === nonce) ignoringErrors(() => area.storage.removeItem(layout.key));
    }
  }

  /** Return whether another tab has removed the draft. One that gave way to another user's is still there. */
  isCleared() {
    const aside = `${this.#legacy.key}:${this.#owner}`;
    return this.newest() === null && !this.#areas.some(({ storage }) => ignoringErrors(() => storage.getItem(aside)));
  }

  /**
   * Return whether a `storage` event's key is a draft's.
   * @param {string | null} key null: all of storage was cleared
   */
  owns(key) {
    return key === null || this.#layouts.some((layout) => layout.key === key);
  }

  /**
   * Return the texts of drafts that could not be read.
   * @returns {{key: string, text: string}[]} the newest first
   */
  unreadable() {
    const setAside = this.#areas.flatMap(({ storage }) => {
      const keys = ignoringErrors(() => Array.from({ length: storage.length }, (_, index) => storage.key(index) ?? ""));
      return (keys ?? [])
        .filter((key) => this.#layouts.some((layout) => key.startsWith(`${layout.key}:unreadable:`)))
        .map((key) => ({ key, text: storage.getItem(key) ?? "" }));
    });
    const inPlace = [...this.#protected].filter(([text]) => !this.#isReadable(text));
    return [...inPlace.map(([text, key]) => ({ key, text })), ...setAside.sort((a, b) => (a.key < b.key ? 1 : -1))];
  }

  get #layouts() {
    return [this.#legacy, this.#fundStore];
  }

  /**
   * Return every draft of this user that can be read, the newest first.
   * @returns {Entry[]}
   */
  #entries() {
    /** @type {Entry[]} */ const entries = [];
    for (const area of this.#areas) {
      for (const layout of this.#layouts) {
        const draft = ignoringErrors(() => {
          const text = area.storage.getItem(layout.key);
          return text === null ? null : layout.read(text);
        });
        if (draft && (draft.owner === null || draft.owner === this.#owner)) entries.push({ area, layout, draft });
      }
    }
    entries.sort((a, b) => b.draft.revision - a.draft.revision || b.draft.savedAt - a.draft.savedAt);
    this.#revision = Math.max(this.#revision, entries[0]?.draft.revision ?? 0);
    return entries;
  }

  /**
   * @param {Area} area
   * @param {string} text
   * @returns {boolean} whether storage has it now
   */
  #write(area, text) {
    const { storage } = area;
    const { key } = this.active;
    this.#swapUsers(area); // somebody else may have signed in since
    const isProtected = ignoringErrors(() => {
      const stored = storage.getItem(key);
      return stored !== null && this.#protected.has(stored);
    });
    if (isProtected) return false;
    return ignoringErrors(() => {
      storage.setItem(key, text);
      return storage.getItem(key) === text;
    }) ?? false;
  }

  /** Migrate; in one tab at a time. All of it is synchronous, so no other script runs in between. */
  #migrate() {
    for (const area of this.#areas) {
      for (const layout of this.#layouts) this.#setAsideUnreadable(area, layout);
      this.#swapUsers(area);
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
        this.save(newest.draft); // in the tab or the page; the stored draft stays where it was
        return;
      }
      this.#report("migration_succeeded", detail);
    }
    for (const entry of entries) {
      if (entry.layout === active) continue;
      if (sameFields(entry.draft.fields, newest.draft.fields) || this.#setAside(entry)) {
        ignoringErrors(() => entry.area.storage.removeItem(entry.layout.key));
      }
    }
  }

  /**
   * Write a draft in the active layout. Where there is no room for two copies, the old one is removed first, and
   * restored if there is still no room.
   * @param {Entry} entry
   * @returns {boolean}
   */
  #move({ area, layout, draft }) {
    const text = this.active.write({ ...draft, owner: this.#owner });
    const best = this.#areas.find((candidate) => this.#write(candidate, text));
    if (best && this.#areas.indexOf(best) <= this.#areas.indexOf(area)) {
      this.keptIn = best.name;
      return true;
    }
    if (best) ignoringErrors(() => best.storage.removeItem(this.active.key)); // a worse area than the draft's
    const before = ignoringErrors(() => area.storage.getItem(layout.key)) ?? null;
    if (before === null) return false;
    ignoringErrors(() => area.storage.removeItem(layout.key));
    if (this.#write(area, text)) {
      this.keptIn = area.name;
      return true;
    }
    ignoringErrors(() => area.storage.setItem(layout.key, before));
    return false;
  }

  /**
   * Keep the older of two drafts that differ, under a key of its own.
   * @param {Entry} entry
   * @returns {boolean | undefined} whether storage has it now
   */
  #setAside({ area, layout, draft }) {
    return ignoringErrors(() => {
      area.storage.setItem(`${layout.key}:aside:${Date.now()}`, layout.write(draft));
      return true;
    });
  }

  /** @param {string} text */
  #isReadable(text) {
    return this.#layouts.some((layout) => ignoringErrors(() => layout.read(text)));
  }

  /**
   * Move a draft that cannot be read to a key of its own, and report it.
   * @param {Area} area
   * @param {Layout} layout
   */
  #setAsideUnreadable({ storage }, layout) {
    const text = ignoringErrors(() => storage.getItem(layout.key)) ?? null;
    if (text === null || this.#protected.has(text) || ignoringErrors(() => layout.read(text))) return;
    const key = `${layout.key}:unreadable:${Date.now()}`;
    const moved = ignoringErrors(() => {
      storage.setItem(key, text);
      return storage.getItem(key) === text;
    });
    if (moved) ignoringErrors(() => storage.removeItem(layout.key));
    else this.#protected.set(text, layout.key);
    const migrating = layout !== this.active;
    const detail = { from: layout.name, to: this.active.name, reason: "unreadable", length: text.length };
    this.#report(migrating ? "migration_failed" : "validation_error", detail);
  }

  /**
   * Set another user's legacy draft aside, and restore this user's: the legacy layout has room for one.
   * @param {Area} area
   */
  #swapUsers({ storage }) {
    const { key } = this.#legacy;
    const theirs = ignoringErrors(() => storage.getItem(key)) ?? null;
    const owner = theirs === null ? null : (ignoringErrors(() => this.#legacy.read(theirs))?.owner ?? null);
    if (theirs !== null && owner !== null && owner !== this.#owner) {
      const moved = ignoringErrors(() => {
        storage.setItem(`${key}:${owner}`, theirs);
        storage.removeItem(key);
        return true;
      });
      if (!moved) this.#protected.set(theirs, key);
    }
    const ours = ignoringErrors(() => storage.getItem(`${key}:${this.#owner}`)) ?? null;
    if (ours === null || ignoringErrors(() => storage.getItem(key)) !== null) return;
    ignoringErrors(() => {
      storage.setItem(key, ours);
      storage.removeItem(`${key}:${this.#owner}`);
    });
  }
}

/**
 * @template T
 * @param {() => T} work
 * @returns {T | undefined} undefined when storage threw
 */
function ignoringErrors(work) {
  try {
    return work();
  } catch {
    return undefined;
  }
}
