/**
 * A fund as a person types it, and as the API takes it. Numbers stay texts from the keyboard to the wire, so that
 * 999999999999999999.99 dollars arrive as 999999999999999999.99 dollars. The rules are those of
 * `fundapi/api/serializers.py`.
 */

/** @typedef {import("./layouts.js").Fields} Fields */
/** @typedef {keyof Fields} Field */
/** @typedef {Partial<Record<Field, string>>} Errors texts by field */

const NAME_LENGTH = 200; // characters
const MODEL_VERSION_LENGTH = 50; // characters
const SIZE_DIGITS = 18; // before the point
const PERCENT_PLACES = 4; // the API keeps six of the ratio
const YEARS = /** @type {const} */ ([2000, 2100]);

/** Texts for the codes that only the API can find. `validate` has the others. */
const SERVER_ERRORS = /** @type {Record<string, string>} */ ({
  required: "This field is required.",
  blank: "This field is required.",
  null: "This field is required.",
  null_characters_not_allowed: "This contains a character that cannot be stored. Type it again.",
  surrogate_characters_not_allowed: "This contains a character that cannot be stored. Type it again.",
});

/**
 * Read a number as people write it: `250,000,000.50`, `$ 250 000 000`, `.5`.
 * @param {string} text
 * @returns {string | null} plain digits such as `250000000.50`, without needless zeros; null when it is no number
 */
export function readNumber(text) {
  const bare = text.replace(/[\s$%_']/gu, "");
  const plain = /^\d{1,3}(,\d{3})+(\.\d*)?$/.test(bare) ? bare.replaceAll(",", "") : bare;
  const match = /^(\d*)(?:\.(\d*))?$/.exec(plain);
  if (!match || !/\d/.test(plain)) return null;
  const whole = (match[1] ?? "").replace(/^0+(?=\d)/, "") || "0";
  const fraction = (match[2] ?? "").replace(/0+$/, "");
  return fraction ? `${whole}.${fraction}` : whole;
}

/**
 * Return a percentage as a ratio, by moving the point: 2 → 0.02, 12.5 → 0.125.
 * @param {string} percent from `readNumber`
 * @returns {string}
 */
export function toRatio(percent) {
  const [whole = "", fraction = ""] = percent.split(".");
  const digits = whole.padStart(3, "0");
  return /** @type {string} */ (readNumber(`${digits.slice(0, -2)}.${digits.slice(-2)}${fraction}`));
}

/** @param {string} number from `readNumber` */
function places(number) {
  return number.split(".")[1]?.length ?? 0;
}

/** @param {string} text */
function characters(text) {
  return [...text].length;
}

/**
 * Say why a text is not a number of this form. Only what is a number otherwise is called negative or badly grouped.
 * @param {string} text
 * @param {string} example
 * @param {string} [grouped] an example with commas and a point
 * @returns {string | null}
 */
function numberError(text, example, grouped = example) {
  if (text.trim() === "") return `Enter a number, such as ${example}.`;
  if (readNumber(text) !== null) return null;
  const unsigned = text.replace(/^[\s$]*[-−–]/u, "");
  if (readNumber(unsigned) !== null) return "This cannot be less than 0.";
  if (/\d/.test(unsigned) && readNumber(unsigned.replace(/[.,]/g, "")) !== null) {
    return `Use commas between thousands only, and a point for decimals, such as ${grouped}.`;
  }
  return `This is not a number. Use digits, such as ${example}.`;
}

/**
 * @param {string} text
 * @param {number} most
 * @param {string} example
 * @returns {string | null}
 */
function percentError(text, most, example) {
  const error = numberError(text, example);
  if (error) return error;
  const percent = /** @type {string} */ (readNumber(text));
  const [whole = "", fraction = ""] = percent.split(".");
  if (whole.length > 3 || Number(whole) > most || (Number(whole) === most && fraction)) {
    return `This can be ${most} percent at most.`;
  }
  return places(percent) > PERCENT_PLACES ? `At most ${PERCENT_PLACES} decimals are kept: round it.` : null;
}

/**
 * Return what the person must correct before the fund can be sent.
 * @param {Fields} fields
 * @returns {Errors} in the order of the form
 */
export function validate(fields) {
  /** @type {Record<Field, string | null>} */
  const errors = {
    name: nameError(fields.name),
    size: sizeError(fields.size),
    managementFee: percentError(fields.managementFee, 10, "2 or 1.75"),
    carryPercentage: percentError(fields.carryPercentage, 50, "20 or 17.5"),
    vintageYear: yearError(fields.vintageYear),
    modelVersion:
      characters(fields.modelVersion.trim()) > MODEL_VERSION_LENGTH
        ? `This has ${characters(fields.modelVersion.trim())} characters; at most ${MODEL_VERSION_LENGTH} are kept.`
        : null,
  };
  return Object.fromEntries(Object.entries(errors).filter(([, error]) => error !== null));
}

/** @param {string} text */
function nameError(text) {
  const length = characters(text.trim());
  if (length === 0) return "Give the fund a name.";
  return length > NAME_LENGTH ? `The name has ${length} characters; at most ${NAME_LENGTH} are kept.` : null;
}

/** @param {string} text */
function sizeError(text) {
  const error = numberError(text, "250,000,000", "1,250,000.50");
  if (error) return error;
  const size = /** @type {string} */ (readNumber(text));
  if (places(size) > 2) return "Dollars have at most two decimals: round it to cents.";
  return (size.split(".")[0] ?? "").length > SIZE_DIGITS ? "This is more than can be kept: 18 digits at most." : null;
}

/** @param {string} text */
function yearError(text) {
  const [from, to] = YEARS;
  if (/^\d{4}$/.test(text.trim()) && Number(text) >= from && Number(text) <= to) return null;
  return `Enter a year from ${from} to ${to}.`;
}

/**
 * Return the body of `POST /api/funds`. A number is the text that was typed, never a float.
 * @param {Fields} fields without errors by `validate`
 * @returns {string} JSON
 */
export function toJson(fields) {
  const number = (/** @type {string} */ text) => /** @type {string} */ (readNumber(text));
  const members = {
    name: JSON.stringify(fields.name.trim()),
    size: number(fields.size),
    managementFee: toRatio(number(fields.managementFee)),
    carryPercentage: toRatio(number(fields.carryPercentage)),
    vintageYear: number(fields.vintageYear),
    modelVersion: JSON.stringify(fields.modelVersion.trim() || null),
  };
  const pairs = Object.entries(members).map(([name, value]) => `${JSON.stringify(name)}:${value}`);
  return `{${pairs.join(",")}}`;
}

/**
 * Format dollars as people read them: `$250,000,000`, `$1,250,000.50`.
 * @param {string} text as typed
 * @returns {string} empty when it is no number
 */
export function formatDollars(text) {
  const number = readNumber(text);
  if (number === null) return "";
  const [whole = "", fraction = ""] = number.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return `$${grouped}${fraction ? `.${fraction.padEnd(2, "0")}` : ""}`;
}

/**
 * Repeat a large number in words, against a zero too many: `250 million`, `about 1.235 billion`.
 * @param {string} text as typed
 * @returns {string} empty below a million
 */
export function largeInWords(text) {
  const whole = readNumber(text)?.split(".")[0] ?? "";
  const [zeros, word] =
    whole.length > 15 ? [15, "quadrillion"]
    : whole.length > 12 ? [12, "trillion"]
    : whole.length > 9 ? [9, "billion"]
    : [6, "million"];
  if (whole.length <= zeros) return "";
  const rest = whole.slice(-zeros);
  const exact = /^\d{0,3}0*$/.test(rest) && !readNumber(text)?.includes(".");
  const decimals = rest.slice(0, 3).replace(/0+$/, "");
  return `${exact ? "" : "about "}${whole.slice(0, -zeros)}${decimals ? `.${decimals}` : ""} ${word}`;
}

/**
 * Return the server's validation errors in the form's own texts.
 * @param {{field: string, code: string, detail: string}[]} errors
 * @param {Fields} fields as sent
 * @returns {Errors}
 */
export function fromServer(errors, fields) {
  const own = validate(fields);
  return Object.fromEntries(
    errors
      .filter(({ field }) => field in fields)
      .map(({ field, code, detail }) => [field, own[/** @type {Field} */ (field)] ?? SERVER_ERRORS[code] ?? detail]),
  );
}
