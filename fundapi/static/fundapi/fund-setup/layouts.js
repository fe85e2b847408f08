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

/**
 * The request that a draft became, and its outcome.
 * @typedef {object} Submission
 * @property {"pending" | "created" | "replayed" | "conflict"} state
 * @property {string} body the JSON text: a reload sends the same bytes
 * @property {number} at ms; when the person pressed the button
 * @property {number | null} fundId
 */

/**
 * @typedef {object} Draft
 * @property {Fields} fields
 * @property {string} nonce the draft's idempotency key
 * @property {number} revision grows with every save
 * @property {number} savedAt ms
 * @property {string | null} owner a user's id; null in drafts of earlier versions
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
const STATES = ["pending", "created", "replayed", "conflict"];

/** @returns {string} a random idempotency key */
export function newNonce() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID() is for https alone
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {Fields} fields
 * @returns {Draft}
 */
export function newDraft(fields) {
  return { fields, nonce: newNonce(), revision: 0, savedAt: 0, owner: null, submission: null };
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
    submission: readSubmission(rest.submission),
  };
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
  if (!STATES.includes(value?.state) || typeof value.body !== "string" || !Number.isFinite(value.at)) return null;
  return { state: value.state, body: value.body, at: value.at, fundId: value.fundId ?? null };
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
