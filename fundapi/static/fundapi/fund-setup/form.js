/**
 * The form of /fund-setup and the messages around it. Only this module knows the page's elements.
 */

import { formatDollars, largeInWords, validate } from "./fund.js";
import { FIELDS } from "./layouts.js";
import { DAMAGED, KEPT_IN, OUTCOMES, describe, unansweredMessage } from "./messages.js";

/** @typedef {import("./fund.js").Errors} Errors */
/** @typedef {import("./layouts.js").Draft} Draft */
/** @typedef {import("./layouts.js").Fields} Fields */

/** @typedef {[when: string, fund: string]} ListedFund */

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const element = (id) => /** @type {T} */ (document.getElementById(id));

export const page = element("fund-setup");
export const form = /** @type {HTMLFormElement} */ (element("fund"));
export const editButton = /** @type {HTMLButtonElement} */ (element("edit"));
export const inputs = /** @type {Record<keyof Fields, HTMLInputElement>} */ (
  Object.fromEntries(FIELDS.map((field) => [field, element(field)]))
);
export const defaults = /** @type {Fields} */ (
  Object.fromEntries(FIELDS.map((field) => [field, inputs[field].defaultValue]))
);
const createButton = /** @type {HTMLButtonElement} */ (element("create"));

/** @returns {Fields} */
export function typedFields() {
  return /** @type {Fields} */ (Object.fromEntries(FIELDS.map((field) => [field, inputs[field].value])));
}

/** @returns {string} Django's CSRF token, as it was when the page was loaded */
export function csrfField() {
  return /** @type {HTMLInputElement} */ (form.elements.namedItem("csrfmiddlewaretoken")).value;
}

// --- Messages -------------------------------------------------------------------------------------------------

/** @param {string} text progress; a screen reader announces it after what it reads */
export function announce(text) {
  if (element("status").textContent !== text) element("status").textContent = text;
}

/**
 * Show what the person must act on; a screen reader announces it at once.
 * @param {string} text empty: remove the alert
 * @param {HTMLElement[]} [more] links, buttons
 */
export function showAlert(text, more = []) {
  element("alert").dataset.asks = "";
  element("alert").replaceChildren(...(text ? [notice("problem", text, more)] : []));
}

/**
 * @param {"problem" | "caution"} kind
 * @param {string} text
 * @param {HTMLElement[]} [more]
 */
function notice(kind, text, more = []) {
  const box = document.createElement("div");
  box.className = `notice ${kind}`;
  box.append(paragraph(text), ...more);
  return box;
}

/** @param {string} text */
function paragraph(text) {
  const element = document.createElement("p");
  element.textContent = text;
  return element;
}

/**
 * @param {string} text
 * @param {string} className
 * @param {() => void} action
 */
export function button(text, className, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = className;
  element.textContent = text;
  element.addEventListener("click", action);
  return element;
}

/**
 * @param {string} text
 * @param {string} href
 */
export function link(text, href) {
  const element = document.createElement("a");
  element.href = href;
  element.textContent = text;
  return element;
}

/**
 * Return the rows of a description list; a term without a value has none.
 * @param {[string, string][]} pairs
 * @returns {HTMLElement[]}
 */
function rows(pairs) {
  return pairs
    .filter(([, value]) => value)
    .flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const definition = document.createElement("dd");
      term.textContent = name;
      definition.textContent = value;
      return [term, definition];
    });
}

/**
 * @param {string} tag
 * @param {string} className
 * @param {HTMLElement[]} children
 */
function group(tag, className, children) {
  const box = document.createElement(tag);
  box.className = className;
  box.append(...children);
  return box;
}

// --- The draft ------------------------------------------------------------------------------------------------

/**
 * Show where the draft is kept, and a draft that could not be read.
 * @param {Draft} draft
 * @param {keyof typeof KEPT_IN} keptIn
 * @param {{key: string, text: string} | undefined} damaged the newest draft that could not be read
 */
export function renderNotes(draft, keptIn, damaged) {
  const notes = [];
  if (KEPT_IN[keptIn]) notes.push(notice("caution", KEPT_IN[keptIn]));
  if (damaged) notes.push(notice("caution", DAMAGED, [details("Show what was found", damaged.text.slice(0, 10_000))]));
  const shown = `${keptIn} ${damaged?.key}`;
  if (element("notes").dataset.shown !== shown) element("notes").replaceChildren(...notes);
  element("notes").dataset.shown = shown;
  const saved = draft.revision > 0 && keptIn === "browser";
  element("kept").textContent = saved ? "Draft saved in this browser" : "";
}

/**
 * @param {string} label
 * @param {string} text
 */
function details(label, text) {
  const box = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = label;
  const body = document.createElement("pre");
  body.tabIndex = 0;
  body.textContent = text;
  box.append(summary, body);
  return box;
}

/**
 * Mark the fields that have errors.
 * @param {Errors} errors
 * @returns {HTMLInputElement | undefined} the first of them
 */
export function renderErrors(errors) {
  for (const field of FIELDS) mark(field, errors[field] ?? "");
  const [first] = marked();
  return first && inputs[first];
}

/** @returns {(keyof Fields)[]} the fields that are marked */
export function marked() {
  return FIELDS.filter((field) => inputs[field].hasAttribute("aria-invalid"));
}

/**
 * @param {keyof Fields} field
 * @param {string} error empty: the field is not marked
 */
function mark(field, error) {
  const line = element(`${field}-error`);
  line.textContent = error;
  line.hidden = !error;
  line.closest(".field")?.classList.toggle("wrong", Boolean(error));
  if (error) inputs[field].setAttribute("aria-invalid", "true");
  else inputs[field].removeAttribute("aria-invalid");
}

/**
 * Check a marked field again after its text has changed. A field without a mark is checked when the fund is sent.
 * @param {keyof Fields} field
 */
export function recheck(field) {
  if (marked().includes(field)) mark(field, validate(typedFields())[field] ?? "");
}

/** Show the size in dollars and in words, against a zero too many. */
export function renderSize() {
  const dollars = formatDollars(inputs.size.value);
  const large = largeInWords(inputs.size.value);
  element("size-in-words").textContent = dollars && large ? `${dollars} (${large})` : dollars;
}

/**
 * Show the fields of a draft, and whether they can be changed.
 * @param {Draft} draft
 */
export function renderFields({ fields, submission }) {
  for (const field of FIELDS) {
    if (inputs[field].value === fields[field]) continue;
    inputs[field].value = fields[field];
    recheck(field);
  }
  renderSize();
  const state = submission?.state;
  const locked = state === "pending";
  form.hidden = state === "created" || state === "replayed";
  form.classList.toggle("locked", locked);
  form.setAttribute("aria-busy", String(locked));
  for (const field of FIELDS) inputs[field].readOnly = locked;
  createButton.disabled = false;
  createButton.setAttribute("aria-disabled", String(locked));
  editButton.hidden = !locked;
}

/**
 * Show a bar while a request is on its way, and none during a pause.
 * @param {Draft} draft
 * @param {boolean} moving
 */
export function renderProgress({ submission }, moving) {
  const locked = submission?.state === "pending";
  element("progress").hidden = !(locked && moving);
  createButton.textContent = locked ? (moving ? "Creating…" : "Waiting…") : "Create fund";
}

/**
 * Show the outcome of a draft that was sent.
 * @param {Draft} draft
 * @param {{review: () => void, createAsNew: () => void, startAnother: () => void}} actions
 * @param {() => Promise<ListedFund[] | null>} newestFunds to compare a conflict with
 */
export function renderOutcome({ fields, nonce, submission }, actions, newestFunds) {
  const panel = element("outcome");
  const state = submission?.state;
  if (!submission || !state || state === "pending" || state === "unanswered") {
    panel.hidden = true;
    panel.dataset.shown = "";
    return;
  }
  const shown = `${state} ${nonce}`;
  if (panel.dataset.shown === shown) return;
  panel.dataset.shown = shown;
  panel.hidden = false;
  panel.classList.toggle("conflict", state === "conflict");
  element("outcome-title").textContent = OUTCOMES[state].title;
  element("outcome-text").textContent = OUTCOMES[state].text;
  element("outcome-fund").replaceChildren(...(state === "conflict" ? [] : rows(describe(fields, submission.fundId))));
  element("outcome-actions").replaceChildren(
    ...(state === "conflict"
      ? [
          button("Review what I typed", "primary", actions.review),
          button("Create as a new fund", "quiet", actions.createAsNew),
        ]
      : [button("Set up another fund", "primary", actions.startAnother)]),
  );
  if (state === "conflict") {
    newestFunds().then((funds) => {
      if (panel.dataset.shown === shown) element("outcome-fund").replaceChildren(...rows(funds ?? []));
    });
  }
}

/**
 * Ask whether the fund of an unanswered request is there, beside the newest funds.
 * @param {Draft} draft
 * @param {{done: () => void, createAsNew: () => void, edit: () => void}} actions
 * @param {() => Promise<ListedFund[] | null>} newestFunds
 */
export async function renderQuestion(draft, actions, newestFunds) {
  const { firstSending, nonce, submission } = draft;
  const alert = element("alert");
  const asks = submission?.state === "unanswered" ? nonce : "";
  if ((alert.dataset.asks ?? "") === asks) return;
  if (!asks) return showAlert("");
  alert.dataset.asks = asks;
  announce("Getting your newest funds…");
  const funds = await newestFunds();
  if (alert.dataset.asks !== asks) return;
  announce("");
  const again = () => {
    alert.dataset.asks = "";
    renderQuestion(draft, actions, newestFunds);
  };
  const choices = [
    button("It is there: done", "quiet", actions.done),
    button("It is not there: create it", "quiet", actions.createAsNew),
    button("Back to editing", "quiet", actions.edit),
  ];
  if (!funds) choices.unshift(button("Show my newest funds", "primary", again));
  const { title, text, list } = unansweredMessage(firstSending?.at ?? 0, funds);
  const box = notice("caution", text, [
    paragraph(list),
    group("dl", "funds", rows(funds ?? [])),
    group("div", "actions", choices),
  ]);
  const heading = document.createElement("h2");
  heading.textContent = title;
  box.prepend(heading);
  alert.replaceChildren(box);
  alert.focus();
}

/** @param {"outcome-title" | "alert"} id */
export function focus(id) {
  element(id).focus();
}
