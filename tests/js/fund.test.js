import assert from "node:assert/strict";
import { test } from "node:test";

import { validate, fromServer, readNumber, formatDollars, largeInWords, toJson, toRatio } from "../../fundapi/static/fundapi/fund-setup/fund.js";

const FIELDS = {
  name: " Harbor Growth I ",
  size: "250,000,000.50",
  managementFee: "2",
  carryPercentage: "20",
  vintageYear: "2025",
  modelVersion: "",
};

test("numbers are read as people write them, digit by digit", () => {
  const cases = {
    "250,000,000": "250000000",
    "$ 1 250 000.50": "1250000.5",
    "1'000": "1000",
    "999,999,999,999,999,999.99": "999999999999999999.99",
    "0.10": "0.1",
    ".5": "0.5",
    "5.": "5",
    "007": "7",
    "0": "0",
    "0.00": "0",
    "2 %": "2",
  };
  for (const [text, number] of Object.entries(cases)) assert.equal(readNumber(text), number, text);
});

test("what could be read in two ways, or in none, is not guessed at", () => {
  for (const text of ["", " ", ".", "-1", "1,5", "1,50", "12,34,567", "1.000.000", "1e6", "250m", "Infinity", "١٢", "1,000,", "$"]) {
    assert.equal(readNumber(text), null, text);
  }
});

test("a percentage becomes a ratio by moving the point", () => {
  const cases = { 2: "0.02", 20: "0.2", "12.5": "0.125", 0: "0", 50: "0.5", 100: "1", "0.0001": "0.000001", "1.1": "0.011", 9.87: "0.0987" };
  for (const [percent, ratio] of Object.entries(cases)) assert.equal(toRatio(percent), ratio);
});

test("the body holds the numbers that were typed", () => {
  assert.equal(
    toJson({ ...FIELDS, size: "$999,999,999,999,999,999.99", managementFee: "1.1", modelVersion: " v2 \"x\" " }),
    '{"name":"Harbor Growth I","size":999999999999999999.99,"managementFee":0.011,"carryPercentage":0.2,"vintageYear":2025,"modelVersion":"v2 \\"x\\""}',
  );
  assert.equal(JSON.parse(toJson(FIELDS)).modelVersion, null);
});

test("a good fund has nothing to correct", () => {
  assert.deepEqual(validate(FIELDS), {});
  const limits = { ...FIELDS, name: "🏦".repeat(200), size: "0", managementFee: "10.0", carryPercentage: "50.00", modelVersion: "m".repeat(50) };
  assert.deepEqual(validate(limits), {});
});

const WRONG = [
  ["name", "  ", /Give the fund a name/],
  ["name", "n".repeat(201), /201 characters; at most 200/],
  ["size", "", /Enter a number/],
  ["size", "a lot", /not a number/],
  ["size", "-5", /less than 0/],
  ["size", "$ -5", /less than 0/],
  ["managementFee", "− 0.5 %", /less than 0/],
  ["size", "-5abc", /not a number/],
  ["size", "-", /not a number/],
  ["size", "--5", /not a number/],
  ["carryPercentage", "-five", /not a number/],
  ["size", "1,5", /commas between thousands only, and a point for decimals, such as 1,250,000\.50\./],
  ["managementFee", "1,5", /a point for decimals, such as 2 or 1\.75\./],
  ["carryPercentage", "17,5", /a point for decimals, such as 20 or 17\.5\./],
  ["size", "-1,5", /commas between thousands/],
  ["size", "1.250.000,50", /commas between thousands/],
  ["size", "1,250,000 dollars", /not a number/],
  ["size", "1,5abc", /not a number/],
  ["size", ".", /not a number/],
  ["size", "0.005", /two decimals/],
  ["size", "1000000000000000000", /18 digits/],
  ["managementFee", "10.0001", /10 percent at most/],
  ["managementFee", "11", /10 percent at most/],
  ["managementFee", "1.00001", /4 decimals/],
  ["managementFee", "", /Enter a number/],
  ["carryPercentage", "50.5", /50 percent at most/],
  ["carryPercentage", "1".repeat(400), /50 percent at most/],
  ["vintageYear", "1999", /2000 to 2100/],
  ["vintageYear", "2101", /2000 to 2100/],
  ["vintageYear", "25", /2000 to 2100/],
  ["modelVersion", "m".repeat(51), /51 characters; at most 50/],
];
for (const [field, text, words] of WRONG) {
  test(`${field} ${JSON.stringify(text.slice(0, 20))} is to be corrected, in words`, () => {
    const errors = validate({ ...FIELDS, [field]: text });
    assert.deepEqual(Object.keys(errors), [field]);
    assert.match(errors[field], words);
  });
}

test("dollars are shown as they are read", () => {
  assert.equal(formatDollars("250000000"), "$250,000,000");
  assert.equal(formatDollars("1250000.5"), "$1,250,000.50");
  assert.equal(formatDollars("999999999999999999.99"), "$999,999,999,999,999,999.99");
  assert.equal(formatDollars("a lot"), "");
});

test("a large number is said in words, and an inexact one as such", () => {
  const cases = {
    999999: "",
    250000000: "250 million",
    1250000: "1.25 million",
    1000000000: "1 billion",
    1234567890: "about 1.234 billion",
    "1000000.01": "about 1 million",
    1000000000000: "1 trillion",
    "a lot": "",
  };
  for (const [text, words] of Object.entries(cases)) assert.equal(largeInWords(text), words, text);
});

test("the server's errors are said in this form's words, beside fields that it has", () => {
  const errors = [
    { field: "managementFee", code: "max_value", detail: "Must be at most 0.10." },
    { field: "name", code: "blank", detail: "This field may not be blank." },
    { field: "size", code: "new_rule", detail: "Something new." },
    { field: "", code: "invalid", detail: "Not an object." },
  ];
  assert.deepEqual(fromServer(errors, { ...FIELDS, managementFee: "11" }), {
    managementFee: "This can be 10 percent at most.",
    name: "This field is required.",
    size: "Something new.",
  });
});
