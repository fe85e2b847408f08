/**
 * The texts of /fund-setup: notes about a draft, reasons to wait, failures and outcomes.
 */

import { formatDollars } from "./fund.js";

/** @typedef {import("./layouts.js").Fields} Fields */

/** Notes by the area that keeps the draft. */
export const KEPT_IN = {
  browser: "",
  tab:
    "This browser has no room left to save your draft, so it is kept in this tab only. " +
    "Do not close the tab before the fund is created.",
  page:
    "This browser does not let us save your draft, so it is kept on this page only. " +
    "Do not close or reload the page before the fund is created.",
};

export const DAMAGED =
  "An earlier draft in this browser is damaged and could not be opened. We have kept it, so nothing is lost: " +
  "copy from it what you need, or ask support for help.";

/** Outcomes by the state of a submission. */
export const OUTCOMES = {
  created: { title: "Fund created", text: "Your fund is set up." },
  replayed: {
    title: "Your fund was already created",
    text: "The first request had already created it. You have one fund, not two.",
  },
  conflict: {
    title: "You have already sent this draft with other details",
    text:
      "A fund was created from this draft before, and then the draft was changed. We have not created a second fund. " +
      "Compare what you typed below with your newest funds. If you mean a separate fund, create it as a new one.",
  },
};

/**
 * @param {number} count of fields that are marked
 * @returns {string} empty: there are none
 */
export function attentionMessage(count) {
  if (count === 0) return "";
  return count === 1 ? "One field needs your attention." : `${count} fields need your attention.`;
}

/**
 * Say why creating the fund takes longer.
 * @param {number} status of the last answer; 0: no answer
 * @param {string | undefined} code of its problem
 * @param {number | null} seconds until the next attempt
 * @param {{online: boolean, kept: boolean}} browser whether it is online, and keeps the draft when the page is closed
 * @returns {string} empty: the answer is no reason to wait
 */
export function waitMessage(status, code, seconds, { online, kept }) {
  const whole = Math.ceil(seconds ?? 0);
  const when = whole > 1 ? ` in ${whole} seconds` : whole === 1 ? " in 1 second" : " in a moment";
  if (status === 0 && !online) {
    const leave = kept ? "You can close this page and come back." : "Keep this page open.";
    return `You are offline. This browser sends your fund as soon as you are online again. ${leave}`;
  }
  if (status === 0) return `We cannot reach the server. Nothing is lost: we try again${when}.`;
  if (status === 429) {
    return `You have created many funds in a short time. Nothing is lost: we send this one again${when}.`;
  }
  if (status === 409 && code === "idempotency_request_in_progress") {
    return "Your fund is still being created. We are waiting for the answer.";
  }
  if (code === "foreign_answer") {
    return (
      "Something on the way has answered in place of the server, such as the sign-in page of a network. " +
      `Nothing is lost: we try again${when}.`
    );
  }
  return status >= 500 ? `The service is not available right now. Nothing is lost: we try again${when}.` : "";
}

/**
 * Explain a failure, and name the way out of it.
 * @param {{status: number, code: string, detail: string, errors: {field: string, detail: string}[]} | null} problem
 *   null: an error of this page, not of the server
 * @param {Fields} fields as sent
 * @param {boolean} unanswered whether an earlier request may have created the fund
 * @returns {{text: string, way?: "sign-in" | "reload"}}
 */
export function failureMessage(problem, fields, unanswered) {
  if (!problem) {
    return { text: "This page has failed. Your draft is kept. Reload the page, then try again." };
  }
  const { status, code, detail, errors } = problem;
  if (code === "validation_error") {
    return errors.some(({ field }) => field in fields)
      ? { text: "The fund was not created: please correct the marked fields." }
      : { text: `The fund was not created: ${errors.map((error) => error.detail).join(" ") || detail}` };
  }
  if (status >= 500) {
    return {
      text:
        "The server has failed. Your draft is kept. " +
        "Press “Create fund” to try again: this cannot create the fund twice.",
    };
  }
  const { reason, fund = "the fund", next, way } = refusal(problem);
  const text = unanswered
    ? `${reason}. We do not know yet whether an earlier request has created your fund. Your draft is kept. ${next} ` +
      "If the fund is there already, we tell you before anything is created twice."
    : `${reason}, so ${fund} was not created. Your draft is kept. ${next}`;
  return { text, way };
}

/**
 * Return the reason why the server refused a request, and what to do next.
 * @param {{status: number, code: string, detail: string}} problem
 * @returns {{reason: string, fund?: string, next: string, way?: "sign-in" | "reload"}}
 */
function refusal({ status, code, detail }) {
  const reload = { next: "Reload the page, then create it.", way: /** @type {const} */ ("reload") };
  if (status === 401) {
    return { reason: "You have been signed out", next: "Sign in again, then create it.", way: "sign-in" };
  }
  if (code === "signed_in_as_another") {
    return {
      reason: "Another user has signed in in this browser",
      next: "Reload the page, and sign in as yourself to create it.",
      way: "reload",
    };
  }
  if (code === "idempotency_key_environment_mismatch") {
    return { reason: "The server's settings have changed since this page was opened", ...reload };
  }
  if (status === 403 && /csrf/i.test(detail)) return { reason: "This page has been open for too long", ...reload };
  if (status === 403) {
    return {
      reason: "You may not create funds",
      fund: "this one",
      next: "Ask your administrator for the permission “Can add fund”.",
    };
  }
  if (status === 413) {
    return {
      reason: "The fund is too large to send",
      fund: "it",
      next: "Shorten the name or the model version, then create it.",
    };
  }
  return { reason: "The server has refused the request", next: `The server says: ${detail}` };
}

/**
 * Ask whether a fund is there: it was sent, no answer came, and the server may have forgotten the request.
 * @param {number} at ms, the first sending; 0: unknown
 * @param {unknown[] | null} funds the newest ones; null: they cannot be had
 * @returns {{title: string, text: string, list: string}}
 */
export function unansweredMessage(at, funds) {
  const sent = at
    ? `You pressed “Create fund” on ${dateAndTime(at)}, and no answer came.`
    : "This draft was begun in an earlier version of this page, which did not note whether it was sent.";
  const list = !funds
    ? "Your newest funds cannot be shown right now. Look at them before you choose."
    : funds.length
      ? "These are your newest funds:"
      : "You have no funds yet.";
  return {
    title: "Was this fund created?",
    text:
      `${sent} The server may no longer remember that request, so sending it again could create a second fund. ` +
      "Nothing is sent before you choose.",
    list,
  };
}

/**
 * Format a time in the reader's own words and zone, and name the zone.
 * @param {number | string} at ms, or an ISO time
 * @returns {string}
 */
export function dateAndTime(at) {
  return new Date(at).toLocaleString(undefined, {
    year: "numeric",
    month: "short",
    day: "numeric",
    hour: "numeric",
    minute: "2-digit",
    timeZoneName: "short",
  });
}

/**
 * Describe a fund by what was typed: the digits that were sent.
 * @param {Fields} fields
 * @param {number | null} id
 * @returns {[string, string][]} terms and values; some values are empty
 */
export function describe(fields, id) {
  return [
    ["Name", fields.name.trim()],
    ["Size", formatDollars(fields.size)],
    ["Management fee", `${fields.managementFee.replaceAll("%", "").trim()} % a year`],
    ["Carry", `${fields.carryPercentage.replaceAll("%", "").trim()} %`],
    ["Vintage year", fields.vintageYear.trim()],
    ["Model version", fields.modelVersion.trim()],
    ["Fund number", id === null ? "" : String(id)],
  ];
}
