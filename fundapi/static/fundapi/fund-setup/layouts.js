/**
 * A draft, and its two layouts in storage, of which a rollout chooses one:
 *
 * | layout     | key                        | value                                                             |
 * |------------|----------------------------|-------------------------------------------------------------------|
 * | legacy     | `fundSetup`                | one flat JSON object: the six fields, and what the draft needs    |
 * | fund store | `fundStore:v1:draft:<user>`| `{"version": 1, "fields": {…}, "nonce", "revision", …}`, per user |
 */

export const FIELDS = /** @type {const} */ ([
  "name",
  "size",
  "managementFee",
  "carryPercentage",
  "vintageYear",
  "modelVersion",
]);

/** @typedef {Record<(typeof FIELDS)[number], string>} Fields as typed */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">} StorageLike */

/**
 * The request that a draft became, and its outcome.
 * @typedef {object} Submission
 * @property {"pending" | "created" | "replayed" | "conflict" | "unanswered"} state `unanswered`: the server may have
 *   forgotten the key, so the person decides
 * @property {string} body the JSON text: a reload sends the same bytes
 * @property {number | null} at ms; when the key was first sent, null: not yet. Earlier versions: the last press
 * @property {number | null} fundId
 */

/**
 * The first sending under a draft's key that may have created the fund. The server counts a key's age from it, so it
 * never moves while the draft keeps its key.
 * @typedef {object} FirstSending
 * @property {number} at ms by this browser's clock; 0: unknown
 * @property {string | null} environment the server's, part of the key; null: not noted
 * @property {number} clockAhead ms by which this browser's clock was ahead of the server's
 */

/**
 * @typedef {object} Draft
 * @property {Fields} fields
 * @property {string} nonce the draft's idempotency key
 * @property {number} revision grows with every save
 * @property {number} savedAt ms
 * @property {string | null} owner a user's id; null in drafts of earlier versions
 * @property {FirstSending | null} firstSending null: no request of this key can have created a fund
 * @property {Submission | null} submission
 */

/**
 * @typedef {object} Layout
 * @property {"legacy" | "fund-store"} name
 * @property {string} key in storage
 * @property {(draft: Draft) => string} write
 * @property {(text: string) => Draft} read throws when it cannot
 */

const NONCE = /^[A-Za-z0-9_.:~-]{1,255}$/;
const STATES = ["pending", "created", "replayed", "conflict", "unanswered"];
const UNKNOWN = { at: 0, environment: null, clockAhead: 0 };

/** @returns {string} a random idempotency key */
export function newNonce() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID() is for https alone
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Return the key of a draft that the person means to send as another fund. Of two tabs that do so, both get the same
 * key, and there is one more fund.
 * @param {string} nonce
 * @returns {string}
 */
export function nextNonce(nonce) {
  const [base = "", count = "1"] = nonce.split("~");
  return /^\d{1,9}$/.test(count) && base.length <= 200 ? `${base}~${Number(count) + 1}` : newNonce();
}

/**
 * @param {Fields} fields
 * @returns {Draft}
 */
export function newDraft(fields) {
  return { fields, nonce: newNonce(), revision: 0, savedAt: 0, owner: null, firstSending: null, submission: null };
}

/**
 * @param {Fields} one
 * @param {Fields} other
 * @returns {boolean}
 */
export function sameFields(one, other) {
  return FIELDS.every((field) => one[field] === other[field]);
}

/**
 * @param {any} fields
 * @param {any} rest
 * @returns {Draft}
 */
function readDraft(fields, rest) {
  return {
    fields: /** @type {Fields} */ (Object.fromEntries(FIELDS.map((field) => [field, readField(fields[field])]))),
    nonce: typeof rest.nonce === "string" && NONCE.test(rest.nonce) ? rest.nonce : newNonce(),
    revision: Number.isSafeInteger(rest.revision) ? rest.revision : 0,
    savedAt: Number.isFinite(rest.savedAt) ? rest.savedAt : 0,
    owner: typeof rest.owner === "string" ? rest.owner : null,
    firstSending: readFirstSending(rest),
    submission: readSubmission(rest.submission),
  };
}

/**
 * Read the first sending. Earlier versions of the page noted only the last press, and nothing after *Stop*: without
 * any note it is unknown.
 * @param {any} draft
 * @returns {FirstSending | null}
 */
function readFirstSending({ nonce, firstSending, submission }) {
  if (typeof nonce !== "string" || !NONCE.test(nonce)) return null; // it gets a new key
  if (Number.isFinite(firstSending?.at)) {
    const { at, environment, clockAhead } = firstSending;
    return {
      at,
      environment: typeof environment === "string" ? environment : null,
      clockAhead: Number.isFinite(clockAhead) ? clockAhead : 0,
    };
  }
  if (submission?.state === "pending" && Number.isFinite(submission.at)) return { ...UNKNOWN, at: submission.at };
  return firstSending === null ? null : UNKNOWN;
}

/**
 * @param {unknown} value
 * @returns {string}
 */
function readField(value) {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  throw new TypeError("a field is not a text");
}

/**
 * @param {any} value
 * @returns {Submission | null}
 */
function readSubmission(value) {
  if (!STATES.includes(value?.state) || typeof value.body !== "string") return null;
  const at = Number.isFinite(value.at) ? value.at : null;
  return { state: value.state, body: value.body, at, fundId: value.fundId ?? null };
}

/**
 * @param {string} text
 * @returns {any}
 */
function parseObject(text) {
  const value = JSON.parse(text);
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new TypeError("not an object");
  return value;
}

/** @type {Layout} */
export const LEGACY = {
  name: "legacy",
  key: "fundSetup",
  write: ({ fields, ...rest }) => JSON.stringify({ ...fields, ...rest }),
  read: (text) => {
    const blob = parseObject(text);
    if (!FIELDS.some((field) => field in blob)) throw new TypeError("none of the six fields");
    return readDraft(blob, blob);
  },
};

/**
 * @param {string} owner
 * @returns {Layout}
 */
export function fundStore(owner) {
  return {
    name: "fund-store",
    key: `fundStore:v1:draft:${owner}`,
    write: (draft) => JSON.stringify({ version: 1, ...draft }),
    read: (text) => {
      const entry = parseObject(text);
      if (entry.version !== 1) throw new TypeError("another version");
      return readDraft(parseObject(JSON.stringify(entry.fields)), entry);
    },
  };
}
