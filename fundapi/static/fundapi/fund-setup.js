/**
 * The page /fund-setup: a form whose draft survives reloads, other tabs and lost networks, and becomes one fund.
 *
 * The draft carries its idempotency key (`nonce`), when that was first sent (`firstSending`), and the request that was
 * sent (`submission`). After a reload, in another tab or when the network is back, the page sends the same bytes under
 * the same key, and the server's answer says whether this request created the fund or an earlier one did. When the
 * server may have forgotten the key, the page sends nothing and asks the person.
 */

import { emergencyActive } from "../rollout/emergency.js"; // first: it shows its banner even if the rest fails
import { createRollouts, readSwitches } from "../rollout/rollout.js";
import { browserStorage } from "../rollout/storage.js";
import { createTelemetry, ticketSource } from "../rollout/telemetry.js";
import { ProblemError, csrfCookie } from "../idempotency/client.js";
import { Drafts } from "./fund-setup/drafts.js";
import {
  announce,
  button,
  csrfField,
  defaults,
  editButton,
  focus,
  form,
  inputs,
  link,
  marked,
  page,
  recheck,
  renderErrors,
  renderFields,
  renderNotes,
  renderOutcome,
  renderProgress,
  renderQuestion,
  renderSize,
  showAlert,
  typedFields,
} from "./fund-setup/form.js";
import { formatDollars, fromServer, toJson, validate } from "./fund-setup/fund.js";
import { FIELDS, newDraft, nextNonce } from "./fund-setup/layouts.js";
import { attentionMessage, dateAndTime, failureMessage, waitMessage } from "./fund-setup/messages.js";
import { createSender } from "./fund-setup/sending.js";
import { clockAhead, firstSentAt } from "./fund-setup/sent.js";

/** @typedef {import("./fund-setup/layouts.js").StorageLike | null} DraftStorage */
/** @typedef {import("./fund-setup/layouts.js").Draft} Draft */
/** @typedef {import("./fund-setup/layouts.js").Fields} Fields */
/** @typedef {import("./fund-setup/layouts.js").Submission} Submission */
/** @typedef {import("./fund-setup/form.js").ListedFund} ListedFund */

const FEATURE = "USE_FUND_STORE";
const LISTED = 10; // newest funds to compare with, and all since the first sending
const LISTED_MAX = 50;
const CLOCK_ERROR = 300_000; // ms
const LIST_WAIT = 10_000; // ms until the page asks without them

const { environment = "", owner = "", funds = "", signIn = "", telemetry: intake = "", tickets, ticket = "" } = page.dataset;
const ahead = clockAhead(Number(page.dataset.now));
const csrf = () => csrfCookie() || csrfField(); // signing in again in another tab renews the cookie
const local = /** @type {DraftStorage} */ (browserStorage("localStorage"));
const session = /** @type {DraftStorage} */ (browserStorage("sessionStorage"));
const rollouts = createRollouts();
rollouts.install(window);
const variant = () => rollouts.variant(FEATURE, "fund-store", "legacy");
const telemetry = createTelemetry({
  endpoint: intake,
  flag: FEATURE,
  variant,
  ready: rollouts.refresh,
  ticket: ticketSource({ url: tickets, first: { ticket, expiresAt: page.dataset.ticketExpires }, csrf }),
  consoleHooks: true,
});
Object.assign(window, { __telemetry: telemetry });
const locks = navigator.locks ?? null;
const drafts = new Drafts({
  owner,
  local,
  session,
  locks,
  report: (event, detail) => telemetry.record(event, { detail }),
});
const sender = createSender({
  environment,
  url: funds,
  ttl: Number(page.dataset.keyTtl),
  csrf,
  headers: () => ({ ...pageHeaders(), ...outcomeHeaders() }),
  locks,
  firstSentAt: () => firstSentAt(draft.firstSending, { environment, clockAhead: ahead() }),
  onFirstSending: noteFirstSending,
  current: () => draft,
  latest: () => {
    takeNewest();
    return draft;
  },
  onProgress: renderSending,
  onWait: announceWait,
  onAnswer: finish,
  onFailure: fail,
  onExpired: expire,
});

let draft = newDraft({ ...defaults });

/** Return the user of this page: the server refuses another one, who has signed in in another tab. */
function pageHeaders() {
  return { "Signed-In-As": owner };
}

/** Return the variant, by which the server reports the outcome. @returns {Record<string, string>} */
function outcomeHeaders() {
  const known = variant();
  return known ? { "Rollout-Variant": `${FEATURE}=${known}` } : {};
}

// --- The draft ------------------------------------------------------------------------------------------------

/** @param {Partial<Draft>} change */
function save(change) {
  const before = drafts.keptIn;
  draft = drafts.save({ ...draft, ...change });
  if (drafts.keptIn !== before && drafts.keptIn !== "browser") {
    telemetry.record("draft_not_in_browser", { ok: true, detail: { keptIn: drafts.keptIn } });
  }
}

/** Take over a newer draft that another tab has saved. */
function takeNewest() {
  const newest = drafts.newest();
  const asks = draft.submission?.state === "unanswered" || draft.submission?.state === "conflict";
  if (asks && drafts.isCleared()) startAnother(); // answered in another tab
  if (!newest || (newest.revision <= draft.revision && draft.revision > 0)) return;
  const before = draft;
  draft = newest;
  if (draft.submission?.state !== "pending") sender.abort(); // stopped, or answered, in another tab
  if (draft.submission?.state !== before.submission?.state) showAlert("");
  render();
  if (draft.submission?.state === "pending") sender.run();
  else announce("");
}

/** Move the draft to the layout that the rollout chooses now. */
async function followRollout() {
  await drafts.use(rollouts.isOn(FEATURE));
  page.dataset.store = drafts.active.name;
  takeNewest();
  renderDraftNotes();
}

function render() {
  renderFields(draft);
  renderDraftNotes();
  renderSending();
  renderOutcome(draft, { review, createAsNew, startAnother }, newestFunds);
  renderQuestion(draft, { createAsNew, done, edit }, newestFunds);
}

function renderDraftNotes() {
  renderNotes(draft, drafts.keptIn, drafts.unreadable()[0]);
}

function renderSending() {
  renderProgress(draft, sender.busy && navigator.onLine);
}

function saveFields() {
  save({ fields: typedFields() });
  renderSize();
  renderDraftNotes();
}

/** Save what was typed. When it corrects a marked field, drop the mark, and the alert with the last mark. */
function onInput(/** @type {keyof Fields} */ field) {
  saveFields();
  if (!marked().includes(field)) return;
  recheck(field);
  announce(attentionMessage(marked().length));
  if (!marked().length && draft.submission?.state !== "unanswered") showAlert("");
}

// --- Actions --------------------------------------------------------------------------------------------------

function submit() {
  if (draft.submission?.state === "pending") return; // a double click
  if (draft.submission?.state !== "unanswered") showAlert("");
  saveFields();
  const first = renderErrors(validate(draft.fields));
  if (first) {
    announce(attentionMessage(marked().length));
    first.focus();
    return;
  }
  const at = draft.firstSending?.at ?? null;
  save({ submission: { state: "pending", body: toJson(draft.fields), at, fundId: null } });
  telemetry.record("fund_create_attempt");
  announce("Creating your fund…");
  render();
  sender.run();
}

/** Note when the draft's key is sent for the first time, before it is. @param {number} at ms */
function noteFirstSending(at) {
  const { submission } = draft;
  save({
    firstSending: { at, environment, clockAhead: ahead() },
    submission: submission && { ...submission, at },
  });
}

/** Stop sending, so that the person can edit. The request may have arrived: the draft keeps its key. */
function stop() {
  save({ submission: null });
  sender.abort();
  sender.wake();
  announce("Stopped. If the fund has been created after all, we tell you before anything is created twice.");
  render();
  inputs.name.focus();
}

function review() {
  inputs.name.focus();
  inputs.name.scrollIntoView({ block: "center" });
}

function createAsNew() {
  save({ nonce: nextNonce(draft.nonce), firstSending: null, submission: null });
  render();
  submit();
}

/** The person has found the fund in the list. */
function done() {
  startAnother();
  announce("Nothing was sent again. You can set up another fund.");
}

function edit() {
  save({ submission: null });
  announce("Nothing was sent again.");
  render();
  review();
}

function startAnother() {
  drafts.clear(draft.nonce);
  draft = newDraft({ ...defaults });
  showAlert("");
  announce("");
  renderErrors({});
  render();
  takeNewest(); // one that was begun since, in another tab
  inputs.name.focus();
}

// --- Answers --------------------------------------------------------------------------------------------------

/**
 * @param {number} status
 * @param {string | undefined} code
 * @param {number | null} seconds
 */
function announceWait(status, code, seconds) {
  if (draft.submission?.state !== "pending") return;
  const text = waitMessage(status, code, seconds, { online: navigator.onLine, kept: drafts.keptIn === "browser" });
  if (text) announce(text);
}

/**
 * @param {Submission} submission
 * @param {"created" | "replayed" | "conflict"} state
 * @param {number | null} fundId
 */
function finish(submission, state, fundId) {
  save({ submission: { ...submission, state, fundId } });
  const event = state === "conflict" ? "fund_create_conflict" : "fund_create_success";
  telemetry.record(event, { detail: { state } });
  announce("");
  render();
  focus("outcome-title");
}

/**
 * @param {unknown} error
 * @param {boolean} unanswered whether an earlier request of the same key may have created the fund
 */
function fail(error, unanswered) {
  const problem = error instanceof ProblemError ? error : null;
  if (problem) {
    telemetry.record(problem.code === "validation_error" ? "validation_error" : "fund_create_failure", {
      ok: [401, 403, 413].includes(problem.status), // for the person to solve; says nothing about the rollout
      detail: { status: problem.status, code: problem.code, fields: problem.errors.map(({ field }) => field) },
    });
  } else {
    telemetry.record("fund_create_failure", { detail: error });
  }
  save({ submission: null, firstSending: unanswered ? draft.firstSending : null });
  announce("");
  render();
  const { text, way } = failureMessage(problem, draft.fields, unanswered);
  if (way === "sign-in") showAlert(text, [link("Sign in", signIn)]);
  else if (way === "reload") showAlert(text, [button("Reload the page", "quiet", () => location.reload())]);
  else showAlert(text);
  const first = renderErrors(problem ? fromServer(problem.errors, draft.fields) : {});
  if (first) first.focus();
  else focus("alert");
}

/** @param {Submission} submission */
async function expire(submission) {
  save({ submission: { ...submission, state: "unanswered" } });
  announce("Getting your newest funds…");
  render();
}

/**
 * Return the person's newest funds, to compare with.
 * @returns {Promise<ListedFund[] | null>} null when the server does not answer
 */
async function newestFunds() {
  const sent = draft.firstSending;
  const since = sent?.at ? sent.at - sent.clockAhead - CLOCK_ERROR : Infinity;
  try {
    const response = await fetch(`${funds}?pageSize=${LISTED_MAX}`, {
      headers: { Accept: "application/json", ...pageHeaders() },
      signal: AbortSignal.timeout(LIST_WAIT),
    });
    if (!response.ok) return null;
    // The size stays a text: a float would round it.
    const exact = (await response.text()).replace(/"size":([\d.]+)/g, '"size":"$1"');
    /** @type {{next: string | null, results: {name: string, size: string, createdAt: string}[]}} */
    const { next, results } = JSON.parse(exact);
    const shown = results.filter(({ createdAt }, index) => index < LISTED || Date.parse(createdAt) >= since);
    /** @type {ListedFund[]} */
    const list = shown.map(({ name, size, createdAt }) => [dateAndTime(createdAt), `${name}, ${formatDollars(size)}`]);
    if (next && shown.length === results.length) list.push(["Before that", "more funds, which this page does not show"]);
    return list;
  } catch {
    return null;
  }
}

// --- Start ----------------------------------------------------------------------------------------------------

/** Report once that this browser has a kill switch set: the judge counts how many do. */
function reportKillSwitch() {
  const { emergency, urlOverride, storedOverride } = readSwitches(FEATURE, { search: location.search, storage: local });
  const optedOut = [urlOverride, storedOverride].includes(false);
  const used = emergency || emergencyActive() ? "emergency_rollback" : optedOut ? "opt_out" : null;
  if (used) telemetry.record("kill_switch_used", { ok: true, detail: { switch: used } });
}

for (const field of FIELDS) inputs[field].addEventListener("input", () => onInput(field));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
editButton.addEventListener("click", stop);
window.addEventListener("storage", ({ key }) => {
  if (drafts.owns(key)) takeNewest();
});
window.addEventListener("online", () => {
  renderSending();
  sender.wake();
});
window.addEventListener("offline", () => {
  renderSending();
  if (!sender.busy) announceWait(0, undefined, null);
});
window.addEventListener("pageshow", ({ persisted }) => {
  if (!persisted) return;
  rollouts.refresh(); // the page comes from the browser's back/forward cache
  takeNewest();
});
window.addEventListener("beforeunload", (event) => {
  const unfinished = draft.revision > 0 && !form.hidden;
  if (unfinished && drafts.keptIn === "page") event.preventDefault();
});

await rollouts.ready;
reportKillSwitch();
const changed = FIELDS.filter((field) => inputs[field].value !== defaults[field]); // typed while the page loaded
const typed = /** @type {Partial<Fields>} */ (Object.fromEntries(changed.map((field) => [field, inputs[field].value])));
await drafts.use(rollouts.isOn(FEATURE));
page.dataset.store = drafts.active.name;
const stored = drafts.newest();
const isFund = stored?.submission?.state === "created" || stored?.submission?.state === "replayed";
if (stored && !(isFund && changed.length)) draft = stored;
if (changed.length && draft.submission?.state !== "pending") save({ fields: { ...draft.fields, ...typed } });
announce("");
render();
rollouts.subscribe(followRollout);
if (rollouts.isOn(FEATURE) !== (drafts.active.name === "fund-store")) await followRollout();
if (draft.submission?.state === "pending") {
  announce("Finishing what you sent before…");
  sender.run();
}
