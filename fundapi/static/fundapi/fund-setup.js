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
import { ConflictError, OfflineError, ProblemError, TimeoutError, createClient, readRetryAfter } from "../idempotency/client.js";
import { Drafts, FIELDS, newDraft, newNonce } from "./fund-setup/drafts.js";
import { check, fromServer, sayDollars, sayLarge, toJson } from "./fund-setup/fund.js";

/** @typedef {import("./fund-setup/drafts.js").Draft} Draft */
/** @typedef {import("./fund-setup/drafts.js").Fields} Fields */
/** @typedef {import("./fund-setup/drafts.js").Submission} Submission */
/** @typedef {import("./fund-setup/fund.js").Errors} Errors */

const FEATURE = "USE_FUND_STORE";
const SENDING = "fundSetup:sending"; // the lock of the one tab that sends
const AGAIN = /** @type {const} */ ([5, 10, 20, 30]); // s between rounds, after the client's own retries
const KEY_LIFE = 23 * 3600 * 1000; // ms; the server forgets a key after 24 h, and would then create a second fund

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const element = (id) => /** @type {T} */ (document.getElementById(id));

const page = element("fund-setup");
const form = /** @type {HTMLFormElement} */ (element("fund"));
const inputs = /** @type {Record<keyof Fields, HTMLInputElement>} */ (
  Object.fromEntries(FIELDS.map((field) => [field, element(field)]))
);
const createButton = /** @type {HTMLButtonElement} */ (element("create"));
const editButton = /** @type {HTMLButtonElement} */ (element("edit"));
const { environment = "", owner = "", funds = "", signIn = "", telemetry: intake = "" } = page.dataset;
const defaults = /** @type {Fields} */ (
  Object.fromEntries(FIELDS.map((field) => [field, inputs[field].defaultValue]))
);

/** @typedef {import("./fund-setup/drafts.js").StorageLike | null} DraftStorage */
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
const client = createClient({ environment, operation: "fund-create", csrf: csrfToken, fetch: sendExactly });

let draft = newDraft({ ...defaults });
/** @type {AbortController | null} */ let sending = null; // the request that runs in this tab
let pumping = false;
/** @type {(() => void) | null} */ let wake = null; // ends the pause before the next attempt

// --- Words ----------------------------------------------------------------------------------------------------

/** @param {string} text what is going on; announced politely */
function say(text) {
  if (element("status").textContent !== text) element("status").textContent = text;
}

/**
 * What the person must know and do something about; announced at once.
 * @param {string} text empty: nothing any more
 * @param {HTMLElement[]} [ways] links and buttons
 */
function warn(text, ways = []) {
  element("alert").replaceChildren(...(text ? [notice("problem", text, ways)] : []));
}

/**
 * @param {"problem" | "caution"} kind
 * @param {string} text
 * @param {HTMLElement[]} [more]
 */
function notice(kind, text, more = []) {
  const box = document.createElement("div");
  box.className = `notice ${kind}`;
  const words = document.createElement("p");
  words.textContent = text;
  box.append(words, ...more);
  return box;
}

/**
 * @param {string} text
 * @param {string} className
 * @param {() => void} action
 */
function button(text, className, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.textContent = text;
  made.addEventListener("click", action);
  return made;
}

/**
 * @param {string} text
 * @param {string} href
 */
function link(text, href) {
  const made = document.createElement("a");
  made.href = href;
  made.textContent = text;
  return made;
}

const KEPT_IN = {
  browser: "",
  tab:
    "This browser has no room left to save your draft, so it is kept in this tab only. " +
    "Do not close the tab before the fund is created.",
  page:
    "This browser does not let us save your draft, so it is kept on this page only. " +
    "Do not close or reload the page before the fund is created.",
};

/** Say what is unusual about the draft. */
function renderNotes() {
  const notes = [];
  if (KEPT_IN[drafts.keptIn]) notes.push(notice("caution", KEPT_IN[drafts.keptIn]));
  const [found] = drafts.unreadable();
  if (found) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "Show what was found";
    const text = document.createElement("pre");
    text.tabIndex = 0;
    text.textContent = found.text.slice(0, 10_000);
    details.append(summary, text);
    const words =
      "An earlier draft in this browser is damaged and could not be opened. We have kept it, so nothing is lost: " +
      "copy from it what you need, or ask support for help.";
    notes.push(notice("caution", words, [details]));
  }
  const now = `${drafts.keptIn} ${found?.key}`;
  if (element("notes").dataset.shown !== now) element("notes").replaceChildren(...notes);
  element("notes").dataset.shown = now;
  const typed = draft.revision > 0 && drafts.keptIn === "browser";
  element("kept").textContent = typed ? "Draft saved in this browser" : "";
}

/** @param {Errors} errors */
function renderErrors(errors) {
  for (const field of FIELDS) {
    const words = errors[field] ?? "";
    const line = element(`${field}-error`);
    line.textContent = words;
    line.hidden = !words;
    line.closest(".field")?.classList.toggle("wrong", Boolean(words));
    if (words) inputs[field].setAttribute("aria-invalid", "true");
    else inputs[field].removeAttribute("aria-invalid");
  }
}

function renderSize() {
  const dollars = sayDollars(inputs.size.value);
  const large = sayLarge(inputs.size.value);
  element("size-said").textContent = dollars && large ? `${dollars} (${large})` : dollars;
}

/** Show the draft as it is. What is typed is never overwritten by what is older. */
function render() {
  for (const field of FIELDS) {
    if (inputs[field].value !== draft.fields[field]) inputs[field].value = draft.fields[field];
  }
  renderSize();
  renderNotes();
  const state = draft.submission?.state;
  const locked = state === "pending";
  form.hidden = state === "created" || state === "replayed";
  form.classList.toggle("locked", locked);
  form.setAttribute("aria-busy", String(locked));
  for (const field of FIELDS) inputs[field].readOnly = locked;
  createButton.disabled = false;
  createButton.setAttribute("aria-disabled", String(locked));
  editButton.hidden = !locked;
  renderProgress();
  renderOutcome();
}

/** A bar moves while a request may be on its way, and not while we only wait. */
function renderProgress() {
  const locked = draft.submission?.state === "pending";
  const moving = locked && sending !== null && navigator.onLine;
  element("progress").hidden = !moving;
  createButton.textContent = locked ? (moving ? "Creating…" : "Waiting…") : "Create fund";
}

const OUTCOMES = {
  created: { title: "Fund created", text: "Your fund is set up." },
  replayed: {
    title: "Your fund was already created",
    text: "We had received it the first time you sent it. You still have one fund, not two.",
  },
  conflict: {
    title: "You have already sent this draft with other details",
    text:
      "A fund was created from this draft before, and then something in it was changed. So that no fund is created twice " +
      "by accident, we have not created another one. Compare what you typed below with your newest funds. If this is " +
      "meant to be a separate fund, create it as a new one.",
  },
};

function renderOutcome() {
  const panel = element("outcome");
  const { submission } = draft;
  const state = submission?.state;
  if (!submission || !state || state === "pending") {
    panel.hidden = true;
    panel.dataset.shown = "";
    return;
  }
  const shown = `${state} ${draft.nonce}`;
  if (panel.dataset.shown === shown) return;
  panel.dataset.shown = shown;
  panel.hidden = false;
  panel.classList.toggle("conflict", state === "conflict");
  element("outcome-title").textContent = OUTCOMES[state].title;
  element("outcome-text").textContent = OUTCOMES[state].text;
  element("outcome-fund").replaceChildren(...(state === "conflict" ? [] : describe(draft.fields, submission.fundId)));
  element("outcome-actions").replaceChildren(
    ...(state === "conflict"
      ? [button("Review what I typed", "primary", review), button("Create as a new fund", "quiet", createAsNew)]
      : [button("Set up another fund", "primary", startAnother)]),
  );
  if (state === "conflict") {
    newestFunds().then((rows) => {
      if (panel.dataset.shown === shown) element("outcome-fund").replaceChildren(...rows);
    });
  }
}

/**
 * The person's newest funds, to compare with.
 * @returns {Promise<HTMLElement[]>} rows of a description list; none when there is no answer: the words have to do
 */
async function newestFunds() {
  try {
    const response = await fetch(`${funds}?pageSize=3`, { headers: { Accept: "application/json" } });
    const exact = (await response.text()).replace(/"size":([\d.]+)/g, '"size":"$1"'); // not by way of a float
    /** @type {{name: string, size: string, createdAt: string}[]} */
    const results = response.ok ? JSON.parse(exact).results : [];
    return rows(
      results.map(({ name, size, createdAt }) => [
        new Date(createdAt).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }),
        `${name}, ${sayDollars(size)}`,
      ]),
    );
  } catch {
    return [];
  }
}

/**
 * The fund in words, from what was typed: the very digits that were sent.
 * @param {Fields} fields
 * @param {number | null} id
 */
function describe(fields, id) {
  return rows([
    ["Name", fields.name.trim()],
    ["Size", sayDollars(fields.size)],
    ["Management fee", `${fields.managementFee.replaceAll("%", "").trim()} % a year`],
    ["Carry", `${fields.carryPercentage.replaceAll("%", "").trim()} %`],
    ["Vintage year", fields.vintageYear.trim()],
    ["Model version", fields.modelVersion.trim()],
    ["Fund number", id === null ? "" : String(id)],
  ]);
}

/**
 * Rows of a description list; those without a value are left out.
 * @param {[string, string][]} pairs
 * @returns {HTMLElement[]}
 */
function rows(pairs) {
  return pairs
    .filter(([, value]) => value)
    .flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const said = document.createElement("dd");
      term.textContent = name;
      said.textContent = value;
      return [term, said];
    });
}

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
  if (draft.submission?.state !== "pending") sending?.abort(); // stopped, or answered, in another tab
  render();
  if (draft.submission?.state !== before.submission?.state) warn("");
  if (draft.submission?.state === "pending") pump();
  else say("");
}

/** Keep the draft where the rollout wants it now. */
async function follow() {
  await drafts.use(rollouts.isOn(FEATURE));
  page.dataset.store = drafts.active.name;
  adopt();
  renderNotes();
}

function typed() {
  const fields = /** @type {Fields} */ (Object.fromEntries(FIELDS.map((field) => [field, inputs[field].value])));
  keep({ fields });
  renderSize();
  renderNotes();
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

// --- Sending --------------------------------------------------------------------------------------------------

/** Django's token: the cookie's, which another tab's sign-in renews, else the one in the page. */
function csrfToken() {
  const cookie = /(?:^|;\s*)csrftoken=([^;]*)/.exec(document.cookie)?.[1];
  return cookie ?? /** @type {HTMLInputElement} */ (form.elements.namedItem("csrfmiddlewaretoken")).value;
}

/**
 * The client takes a payload and writes it as JSON, which would round numbers; so it gets the JSON text itself as a
 * payload, and here the text is taken out of its quotes again. Also says why an attempt that failed is repeated.
 * @param {string} url
 * @param {RequestInit} init
 * @returns {Promise<Response>}
 */
async function sendExactly(url, init) {
  try {
    const response = await fetch(url, { ...init, body: JSON.parse(String(init.body)) });
    const code = response.status === 409 ? (await response.clone().json().catch(() => null))?.code : undefined;
    sayWait(response.status, code, readRetryAfter(response.headers.get("Retry-After")));
    return response;
  } catch (error) {
    if (!init.signal?.aborted) sayWait(0, undefined, null);
    throw error;
  }
}

/**
 * Why it takes longer, while it is tried again.
 * @param {number} status 0: no answer
 * @param {string | undefined} code
 * @param {number | null} seconds until the next attempt
 */
function sayWait(status, code, seconds) {
  if (draft.submission?.state !== "pending") return;
  const when = seconds ? ` in ${Math.ceil(seconds)} seconds` : " in a moment";
  if (status === 0 && !navigator.onLine) {
    const leave = drafts.keptIn === "browser" ? "You can close this page and come back." : "Keep this page open.";
    say(`You are offline. Your fund is queued in this browser, and is sent as soon as you are online again. ${leave}`);
  } else if (status === 0) say(`We cannot reach the server. Nothing is lost: we try again${when}.`);
  else if (status === 429) say(`You have created many funds in a short time. Nothing is lost: we send this one again${when}.`);
  else if (status === 409 && code === "idempotency_request_in_progress") {
    say("Your fund is still being created. We are waiting for the answer.");
  } else if (status >= 500) say(`The service is not available right now. Nothing is lost: we try again${when}.`);
}

function submit() {
  if (draft.submission?.state === "pending") return; // a double click
  warn("");
  typed();
  const errors = check(draft.fields);
  renderErrors(errors);
  const first = FIELDS.find((field) => errors[field]);
  if (first) {
    const count = Object.keys(errors).length;
    say(count === 1 ? "One field needs your attention." : `${count} fields need your attention.`);
    inputs[first].focus();
    return;
  }
  keep({ submission: { state: "pending", body: toJson(draft.fields), at: Date.now(), fundId: null } });
  telemetry.record("fund_create_attempt");
  say("Creating your fund…");
  render();
  pump();
}

/** The person would rather edit. What was sent may have arrived; the key stays, so that can do no harm. */
function stop() {
  keep({ submission: null });
  sending?.abort();
  wake?.();
  say("Stopped. If the fund has been created after all, we tell you before anything is created twice.");
  render();
  inputs.name.focus();
}

/** Send what is pending until there is an answer; in one tab, as long as that lives. */
async function pump() {
  if (pumping) return;
  pumping = true;
  let entered = false;
  const enter = () => {
    entered = true;
    return rounds();
  };
  try {
    await (locks ? locks.request(SENDING, enter) : enter());
  } catch (error) {
    if (entered) throw error;
    await enter(); // locks are blocked, as storage is
  } finally {
    pumping = false;
  }
  if (draft.submission?.state === "pending") pump(); // sent again while it was being stopped
}

async function rounds() {
  for (let round = 0; ; round++) {
    adopt();
    const { submission } = draft;
    if (submission?.state !== "pending") return;
    if (Date.now() - submission.at > KEY_LIFE) {
      keep({ submission: null });
      say("");
      render();
      const list = document.createElement("dl");
      list.append(...(await newestFunds()));
      warn(
        `You sent this on ${new Date(submission.at).toLocaleString()}, and we never got the answer. After more than a ` +
          "day we cannot tell any more whether the fund was created. Look at your newest funds before you create it again.",
        [list],
      );
      return;
    }
    if (!navigator.onLine) {
      sayWait(0, undefined, null);
      await pause(Infinity);
    } else {
      const seconds = await send(submission, AGAIN[Math.min(round, AGAIN.length - 1)] ?? 30);
      if (seconds === null) return;
      await pause(seconds);
    }
  }
}

/**
 * Wait; less when the network comes back, or the person stops.
 * @param {number} seconds
 * @returns {Promise<void>}
 */
function pause(seconds) {
  return new Promise((resolve) => {
    const timer = Number.isFinite(seconds) ? setTimeout(resolve, seconds * 1000) : undefined;
    wake = () => {
      clearTimeout(timer);
      wake = null;
      resolve();
    };
  });
}

/**
 * @param {Submission} submission
 * @param {number} again seconds to the next round, when the server names none
 * @returns {Promise<number | null>} seconds to the next round; null when there is nothing more to send
 */
async function send(submission, again) {
  const { nonce } = draft;
  const controller = new AbortController();
  sending = controller;
  renderProgress();
  try {
    const result = await client.post(funds, submission.body, { key: nonce, signal: controller.signal });
    if (draft.nonce !== nonce) return null; // meanwhile another draft, in another tab
    finish(submission, result.status, result.body?.id ?? null);
    return null;
  } catch (error) {
    if (controller.signal.aborted) return null;
    return explain(submission, error, again);
  } finally {
    sending = null;
    renderProgress();
  }
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
  element("outcome-title").focus();
}

/**
 * @param {Submission} submission
 * @param {unknown} error
 * @param {number} again
 * @returns {number | null} as `send`
 */
function explain(submission, error, again) {
  if (error instanceof ConflictError) {
    finish(submission, "conflict", null);
    return null;
  }
  if (error instanceof OfflineError || error instanceof TimeoutError) {
    sayWait(0, undefined, again);
    return again;
  }
  if (error instanceof ProblemError) {
    const passing = error.code === "idempotency_request_in_progress" || [429, 502, 503, 504].includes(error.status);
    if (passing) {
      const seconds = Math.max(again, error.retryAfter ?? 0);
      sayWait(error.status, error.code, seconds);
      return seconds;
    }
    telemetry.record(error.code === "validation_error" ? "validation_error" : "fund_create_failure", {
      ok: [401, 403, 413].includes(error.status), // the person's to solve, not a sign that the rollout is bad
      detail: { status: error.status, code: error.code, fields: error.errors.map(({ field }) => field) },
    });
  } else {
    telemetry.record("fund_create_failure", { detail: error });
  }
  keep({ submission: null });
  say("");
  render();
  const { text, ways } = words(error);
  warn(text, ways);
  const errors = error instanceof ProblemError ? fromServer(error.errors, draft.fields) : {};
  renderErrors(errors);
  const first = FIELDS.find((field) => errors[field]);
  (first ? inputs[first] : element("alert")).focus();
  return null;
}

/**
 * What went wrong for good, for a person.
 * @param {unknown} error
 * @returns {{text: string, ways?: HTMLElement[]}}
 */
function words(error) {
  const status = error instanceof ProblemError ? error.status : 0;
  if (error instanceof ProblemError && error.code === "validation_error") {
    const known = error.errors.some(({ field }) => field in draft.fields);
    return known
      ? { text: "The fund was not created: please correct the marked fields." }
      : { text: `The fund was not created: ${error.errors.map(({ detail }) => detail).join(" ") || error.detail}` };
  }
  if (status === 401) {
    return {
      text: "You have been signed out, so the fund was not created. Your draft is kept. Sign in again, then create it.",
      ways: [link("Sign in", signIn)],
    };
  }
  if (status === 403 && error instanceof ProblemError && /csrf/i.test(error.detail)) {
    return {
      text: "This page has been open for too long, so the fund was not created. Your draft is kept. Reload the page, then create it.",
      ways: [button("Reload the page", "quiet", () => location.reload())],
    };
  }
  if (status === 403) {
    return {
      text: "You may not create funds, so this one was not created. Your draft is kept. Ask your administrator for the permission “Can add fund”.",
    };
  }
  if (status === 413) {
    return {
      text: "This is too large to send, so the fund was not created. Your draft is kept. Shorten the name or the model version, then create it.",
    };
  }
  if (status >= 500) {
    return {
      text: "Something went wrong on our side. Your draft is kept. Press “Create fund” to try again: it cannot create the fund twice.",
    };
  }
  if (error instanceof ProblemError) {
    return { text: `The fund was not created. Your draft is kept. The server says: ${error.detail}` };
  }
  return { text: "Something went wrong on this page. Your draft is kept. Reload the page, then try again." };
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
  renderProgress();
  wake?.();
});
window.addEventListener("offline", () => {
  renderProgress();
  if (!sending) sayWait(0, undefined, null);
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
  pump();
}
