import assert from "node:assert/strict";
import { test } from "node:test";

import { attentionMessage, dateAndTime, describe, failureMessage, unansweredMessage, waitMessage } from "../../fundapi/static/fundapi/fund-setup/messages.js";

const FIELDS = { name: " Harbor ", size: "250,000,000", managementFee: "2 %", carryPercentage: "20", vintageYear: "2025", modelVersion: "" };
const ONLINE = { online: true, kept: true };

const problem = (status, code = "", detail = "", errors = []) => ({ status, code, detail, errors });

test("each reason to wait has its own text, with the seconds where they are known", () => {
  const texts = [
    waitMessage(0, undefined, 5, ONLINE),
    waitMessage(429, "throttled", 7.2, ONLINE),
    waitMessage(409, "idempotency_request_in_progress", null, ONLINE),
    waitMessage(503, undefined, null, ONLINE),
    waitMessage(200, "foreign_answer", 5, ONLINE),
  ];
  assert.equal(new Set(texts).size, 5);
  assert.match(texts[0], /cannot reach the server.* in 5 seconds\./);
  assert.match(texts[1], / in 8 seconds\./);
  assert.match(texts[3], / in a moment\./);
});

test("an answer that ends the waiting is not announced", () => {
  for (const status of [201, 400, 403]) assert.equal(waitMessage(status, undefined, null, ONLINE), "");
  assert.equal(waitMessage(409, "idempotency_key_reused", null, ONLINE), "");
});

test("offline, the page says whether it may be closed", () => {
  assert.match(waitMessage(0, undefined, null, { online: false, kept: true }), /You can close this page/);
  assert.match(waitMessage(0, undefined, null, { online: false, kept: false }), /Keep this page open/);
});

test("a failure names the way out", () => {
  assert.equal(failureMessage(problem(401), FIELDS, false).way, "sign-in");
  assert.equal(failureMessage(problem(403, "", "CSRF Failed"), FIELDS, false).way, "reload");
  assert.equal(failureMessage(problem(403, "signed_in_as_another"), FIELDS, false).way, "reload");
  assert.equal(failureMessage(problem(400, "idempotency_key_environment_mismatch"), FIELDS, false).way, "reload");
  assert.equal(failureMessage(problem(403, "permission_denied"), FIELDS, false).way, undefined);
  assert.equal(failureMessage(null, FIELDS, false).way, undefined);
});

const CODES = [
  [400, "idempotency_key_environment_mismatch"],
  [400, "parse_error"],
  [401, "not_authenticated"],
  [403, "permission_denied"],
  [403, "signed_in_as_another"],
  [404, "not_found"],
  [413, "body_too_large"],
];

test("each failure that is not of a field says that the draft is kept", () => {
  const failures = [null, problem(500, "", "why"), ...CODES.map(([status, code]) => problem(status, code, "why"))];
  for (const failure of failures) {
    for (const unanswered of [false, true]) assert.match(failureMessage(failure, FIELDS, unanswered).text, /Your draft is kept\./);
  }
});

test("while an earlier request is unanswered, no failure says that there is no fund", () => {
  for (const [status, code] of CODES) {
    assert.match(failureMessage(problem(status, code, "why"), FIELDS, false).text, /was not created\./);
    const { text } = failureMessage(problem(status, code, "why"), FIELDS, true);
    assert.match(text, /We do not know yet whether an earlier request has created your fund\./);
    assert.doesNotMatch(text, /not created/);
  }
});

test("errors of fields that the form has are marked there; others are in the text", () => {
  const error = (field) => problem(400, "validation_error", "in general", [{ field, detail: "Not so." }]);
  assert.match(failureMessage(error("size"), FIELDS, true).text, /correct the marked fields/);
  assert.equal(failureMessage(error("currency"), FIELDS, true).text, "The fund was not created: Not so.");
  const general = failureMessage(problem(400, "validation_error", "In general."), FIELDS, true);
  assert.equal(general.text, "The fund was not created: In general.");
});

test("the question says when it was sent, where that is known, and what there is to compare with", () => {
  const at = Date.UTC(2026, 10, 27, 12, 0);
  assert.match(unansweredMessage(at, []).text, /^You pressed .* on .*2026.* no answer came\./);
  assert.match(unansweredMessage(0, []).text, /^This draft was begun in an earlier version of this page/);
  assert.match(unansweredMessage(at, [["now", "a fund"]]).list, /^These are your newest funds:$/);
  assert.match(unansweredMessage(at, []).list, /no funds yet/);
  assert.match(unansweredMessage(at, null).list, /cannot be shown right now/);
});

test("a time names its zone", () => {
  const before = process.env.TZ;
  for (const [zone, words] of Object.entries({ UTC: /UTC/, "Asia/Kolkata": /GMT\+5:30/ })) {
    process.env.TZ = zone;
    assert.match(dateAndTime("2026-11-27T12:00:00Z"), words);
    assert.match(unansweredMessage(Date.UTC(2026, 10, 27, 12, 0), []).text, words);
  }
  process.env.TZ = before ?? "";
  if (before === undefined) delete process.env.TZ;
});

test("the number of marked fields is announced, and nothing where there are none", () => {
  assert.equal(attentionMessage(2), "2 fields need your attention.");
  assert.equal(attentionMessage(1), "One field needs your attention.");
  assert.equal(attentionMessage(0), "");
});

test("a fund is described by the digits that were typed", () => {
  assert.deepEqual(Object.fromEntries(describe(FIELDS, 12)), {
    Name: "Harbor",
    Size: "$250,000,000",
    "Management fee": "2 % a year",
    Carry: "20 %",
    "Vintage year": "2025",
    "Model version": "",
    "Fund number": "12",
  });
});
