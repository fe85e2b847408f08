/**
 * The page /fund-setup: a form whose draft outlives everything that can happen to a browser, and which becomes one fund.
 *
 * The draft carries its own idempotency key (`nonce`) and what was sent of it (`submission`). So whatever happens while
 * it is sent (reload, another tab, no network) the same bytes are sent again under the same key, and the server's
 * answer says whether that made a fund or had made one before.
 */

import { emergencyActive } from "../rollout/emergency.js"; // first: it shows its banner even if the rest fails
import { createRollouts, readSwitches } from "../rollout/rollout.js";
import { browserStorage } from "../rollout/storage.js";
import { createTelemetry } from "../rollout/telemetry.js";
import { ProblemError, csrfCookie } from "../idempotency/client.js";
import { Drafts } from "./fund-setup/drafts.js";
import {
  button,
  csrfField,
  defaults,
  descriptionList,
  editButton,
  focus,
  form,
  inputs,
  link,
  page,
  renderErrors,
  renderFields,
  renderNotes,
  renderOutcome,
  renderProgress,
  renderSize,
  say,
  typedFields,
  warn,
} from "./fund-setup/form.js";
import { check, fromServer, sayDollars, toJson } from "./fund-setup/fund.js";
import { FIELDS, newDraft, newNonce } from "./fund-setup/layouts.js";
import { failureMessage, unansweredMessage, waitMessage } from "./fund-setup/messages.js";
import { createSender } from "./fund-setup/sending.js";

/** @typedef {import("./fund-setup/drafts.js").StorageLike | null} DraftStorage */
/** @typedef {import("./fund-setup/layouts.js").Draft} Draft */
/** @typedef {import("./fund-setup/layouts.js").Fields} Fields */
/** @typedef {import("./fund-setup/layouts.js").Submission} Submission */

const FEATURE = "USE_FUND_STORE";

const { environment = "", owner = "", funds = "", signIn = "", telemetry: intake = "" } = page.dataset;
const local = /** @type {DraftStorage} */ (browserStorage("localStorage"));
const session = /** @type {DraftStorage} */ (browserStorage("sessionStorage"));
const rollouts = createRollouts();
rollouts.install(window);
const telemetry = createTelemetry({
  endpoint: intake,
  flag: FEATURE,
  variant: () => (rollouts.isOn(FEATURE) ? "fund-store" : "legacy"),
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
  csrf: () => csrfCookie() || csrfField(), // the cookie first: another tab's sign-in renews it
  locks,
  current: () => draft,
  latest: () => {
    adopt();
    return draft;
  },
  onProgress: renderSending,
  onWait: sayWait,
  onAnswer: finish,
  onFailure: fail,
  onExpired: expire,
});

let draft = newDraft({ ...defaults });

// --- The draft ------------------------------------------------------------------------------------------------

/** @param {Partial<Draft>} change */
function keep(change) {
  const before = drafts.keptIn;
  draft = drafts.save({ ...draft, ...change });
  if (drafts.keptIn !== before && drafts.keptIn !== "browser") {
    telemetry.record("draft_not_in_browser", { ok: true, detail: { keptIn: drafts.keptIn } });
  }
}

/** Take over what another tab, or an earlier visit, has saved since. */
function adopt() {
  const newest = drafts.newest();
  if (!newest || (newest.revision <= draft.revision && draft.revision > 0)) return;
  const before = draft;
  draft = newest;
  if (draft.submission?.state !== "pending") sender.abort(); // stopped, or answered, in another tab
  render();
  if (draft.submission?.state !== before.submission?.state) warn("");
  if (draft.submission?.state === "pending") sender.run();
  else say("");
}

/** Keep the draft where the rollout wants it now. */
async function follow() {
  await drafts.use(rollouts.isOn(FEATURE));
  page.dataset.store = drafts.active.name;
  adopt();
  renderDraftNotes();
}

function render() {
  renderFields(draft);
  renderDraftNotes();
  renderSending();
  renderOutcome(draft, { review, createAsNew, startAnother }, newestFunds);
}

function renderDraftNotes() {
  renderNotes(draft, drafts.keptIn, drafts.unreadable()[0]);
}

function renderSending() {
  renderProgress(draft, sender.busy && navigator.onLine);
}

function typed() {
  keep({ fields: typedFields() });
  renderSize();
  renderDraftNotes();
}

// --- What the person does -------------------------------------------------------------------------------------

function submit() {
  if (draft.submission?.state === "pending") return; // a double click
  warn("");
  typed();
  const errors = check(draft.fields);
  const first = renderErrors(errors);
  if (first) {
    const count = Object.keys(errors).length;
    say(count === 1 ? "One field needs your attention." : `${count} fields need your attention.`);
    first.focus();
    return;
  }
  keep({ submission: { state: "pending", body: toJson(draft.fields), at: Date.now(), fundId: null } });
  telemetry.record("fund_create_attempt");
  say("Creating your fund…");
  render();
  sender.run();
}

/** The person would rather edit. What was sent may have arrived; the key stays, so that can do no harm. */
function stop() {
  keep({ submission: null });
  sender.abort();
  sender.wake();
  say("Stopped. If the fund has been created after all, we tell you before anything is created twice.");
  render();
  inputs.name.focus();
}

function review() {
  inputs.name.focus();
  inputs.name.scrollIntoView({ block: "center" });
}

function createAsNew() {
  keep({ nonce: newNonce(), submission: null });
  render();
  submit();
}

function startAnother() {
  drafts.clear();
  draft = { ...newDraft({ ...defaults }), revision: 0 };
  warn("");
  say("");
  renderErrors({});
  render();
  inputs.name.focus();
}

// --- What comes of sending ------------------------------------------------------------------------------------

/**
 * @param {number} status
 * @param {string | undefined} code
 * @param {number | null} seconds
 */
function sayWait(status, code, seconds) {
  if (draft.submission?.state !== "pending") return;
  const text = waitMessage(status, code, seconds, { online: navigator.onLine, kept: drafts.keptIn === "browser" });
  if (text) say(text);
}

/**
 * @param {Submission} submission
 * @param {"created" | "replayed" | "conflict"} state
 * @param {number | null} fundId
 */
function finish(submission, state, fundId) {
  keep({ submission: { ...submission, state, fundId } });
  const event = state === "conflict" ? "fund_create_conflict" : "fund_create_success";
  telemetry.record(event, { detail: { state } });
  say("");
  render();
  focus("outcome-title");
}

/** @param {unknown} error */
function fail(error) {
  const problem = error instanceof ProblemError ? error : null;
  if (problem) {
    telemetry.record(problem.code === "validation_error" ? "validation_error" : "fund_create_failure", {
      ok: [401, 403, 413].includes(problem.status), // the person's to solve, not a sign that the rollout is bad
      detail: { status: problem.status, code: problem.code, fields: problem.errors.map(({ field }) => field) },
    });
  } else {
    telemetry.record("fund_create_failure", { detail: error });
  }
  keep({ submission: null });
  say("");
  render();
  const { text, way } = failureMessage(problem, draft.fields);
  if (way === "sign-in") warn(text, [link("Sign in", signIn)]);
  else if (way === "reload") warn(text, [button("Reload the page", "quiet", () => location.reload())]);
  else warn(text);
  const first = renderErrors(problem ? fromServer(problem.errors, draft.fields) : {});
  if (first) first.focus();
  else focus("alert");
}

/** @param {Submission} submission */
async function expire(submission) {
  keep({ submission: null });
  say("");
  render();
  const list = descriptionList(await newestFunds());
  warn(unansweredMessage(submission.at), [list]);
}

/**
 * The person's newest funds, to compare with.
 * @returns {Promise<[string, string][]>} when, and which; none when there is no answer: the words have to do
 */
async function newestFunds() {
  try {
    const response = await fetch(`${funds}?pageSize=3`, { headers: { Accept: "application/json" } });
    const exact = (await response.text()).replace(/"size":([\d.]+)/g, '"size":"$1"'); // not by way of a float
    /** @type {{name: string, size: string, createdAt: string}[]} */
    const results = response.ok ? JSON.parse(exact).results : [];
    return results.map(({ name, size, createdAt }) => [
      new Date(createdAt).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }),
      `${name}, ${sayDollars(size)}`,
    ]);
  } catch {
    return [];
  }
}

// --- Start ----------------------------------------------------------------------------------------------------

/** Say once that somebody used a kill switch of their own: the rollout is judged by how many do. */
function reportKillSwitch() {
  const { emergency, urlOverride, storedOverride } = readSwitches(FEATURE, { search: location.search, storage: local });
  const used = emergency || emergencyActive() ? "emergency_rollback" : [urlOverride, storedOverride].includes(false) ? "opt_out" : "";
  if (used) telemetry.record("kill_switch_used", { ok: true, detail: { switch: used } });
}

for (const field of FIELDS) inputs[field].addEventListener("input", typed);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
editButton.addEventListener("click", stop);
window.addEventListener("storage", ({ key }) => {
  if (drafts.owns(key)) adopt();
});
window.addEventListener("online", () => {
  renderSending();
  sender.wake();
});
window.addEventListener("offline", () => {
  renderSending();
  if (!sender.busy) sayWait(0, undefined, null);
});
window.addEventListener("pageshow", ({ persisted }) => {
  if (!persisted) return;
  rollouts.refresh(); // back from the browser's own cache: much may have changed
  adopt();
});
window.addEventListener("beforeunload", (event) => {
  const unfinished = draft.revision > 0 && !form.hidden;
  if (unfinished && drafts.keptIn === "page") event.preventDefault();
});

await rollouts.ready;
reportKillSwitch();
const early = FIELDS.filter((field) => inputs[field].value !== defaults[field]); // typed before we were ready
const earlier = /** @type {Partial<Fields>} */ (Object.fromEntries(early.map((field) => [field, inputs[field].value])));
await drafts.use(rollouts.isOn(FEATURE));
page.dataset.store = drafts.active.name;
const found = drafts.newest();
const done = found?.submission?.state === "created" || found?.submission?.state === "replayed";
if (found && !(done && early.length)) draft = found;
if (early.length && draft.submission?.state !== "pending") keep({ fields: { ...draft.fields, ...earlier } });
say("");
render();
rollouts.subscribe(follow);
if (rollouts.isOn(FEATURE) !== (drafts.active.name === "fund-store")) await follow();
if (draft.submission?.state === "pending") {
  say("Finishing what you sent before…");
  sender.run();
}
