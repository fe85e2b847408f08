import assert from "node:assert/strict";
import { test } from "node:test";

import { describe, failureMessage, waitMessage } from "../../fundapi/static/fundapi/fund-setup/messages.js";

const FIELDS = { name: " Harbor ", size: "250,000,000", managementFee: "2 %", carryPercentage: "20", vintageYear: "2025", modelVersion: "" };
const ONLINE = { online: true, kept: true };

const problem = (status, code = "", detail = "", errors = []) => ({ status, code, detail, errors });

test("each reason to wait has its own text, with the seconds where they are known", () => {
  const texts = [
    waitMessage(0, undefined, 5, ONLINE),
    waitMessage(429, "throttled", 7.2, ONLINE),
    waitMessage(409, "idempotency_request_in_progress", null, ONLINE),
    waitMessage(503, undefined, null, ONLINE),
  ];
  assert.equal(new Set(texts).size, 4);
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
  assert.equal(failureMessage(problem(401), FIELDS).way, "sign-in");
  assert.equal(failureMessage(problem(403, "", "CSRF Failed"), FIELDS).way, "reload");
  assert.equal(failureMessage(problem(403, "permission_denied"), FIELDS).way, undefined);
  assert.equal(failureMessage(null, FIELDS).way, undefined);
});

test("each failure that is not of a field says that the draft is kept", () => {
  const failures = [null, ...[400, 401, 403, 404, 413, 500].map((status) => problem(status, "", "why"))];
  for (const failure of failures) assert.match(failureMessage(failure, FIELDS).text, /Your draft is kept\./);
});

test("errors of fields that the form has are marked there; others are in the text", () => {
  const error = (field) => problem(400, "validation_error", "in general", [{ field, detail: "Not so." }]);
  assert.match(failureMessage(error("size"), FIELDS).text, /correct the marked fields/);
  assert.equal(failureMessage(error("currency"), FIELDS).text, "The fund was not created: Not so.");
  assert.equal(failureMessage(problem(400, "validation_error", "In general."), FIELDS).text, "The fund was not created: In general.");
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
