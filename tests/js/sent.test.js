import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { clockAhead, firstSentAt } from "../../fundapi/static/fundapi/fund-setup/sent.js";

const HOUR = 3600_000;
const NOW = 1_000 * HOUR;

function at(now, work) {
  mock.timers.enable({ apis: ["Date"], now });
  try {
    return work();
  } finally {
    mock.timers.reset();
  }
}

test("a key that was never sent has no time", () => {
  assert.equal(firstSentAt(null, { environment: "prod", clockAhead: 0 }), undefined);
});

test("the key of another environment is another key: nobody knows what became of it", () => {
  const sent = { at: NOW - HOUR, environment: "staging", clockAhead: 0 };
  assert.equal(firstSentAt(sent, { environment: "prod", clockAhead: 0 }), 0);
  assert.equal(at(NOW, () => firstSentAt({ ...sent, environment: null }, { environment: "prod", clockAhead: 0 })), NOW - HOUR);
});

for (const [title, then, now, expected] of [
  ["right", 0, 0, NOW - HOUR],
  ["wrong, as it was", 7 * HOUR, 7 * HOUR, NOW - HOUR],
  ["set back since", 0, -3 * HOUR, NOW - 4 * HOUR],
  ["corrected, after it was ahead", 5 * HOUR, 0, NOW - 6 * HOUR],
  ["set forward since", 0, 3 * HOUR, NOW - HOUR],
]) {
  test(`a key is never taken for younger than it is, by a clock that is ${title}`, () => {
    const sent = { at: NOW - HOUR, environment: "prod", clockAhead: then };
    assert.equal(at(NOW, () => firstSentAt(sent, { environment: "prod", clockAhead: now })), expected);
  });
}

test("a time in the future stays there: the client refuses it", () => {
  const sent = { at: NOW + HOUR, environment: "prod", clockAhead: 0 };
  assert.equal(at(NOW, () => firstSentAt(sent, { environment: "prod", clockAhead: -2 * HOUR })), NOW + HOUR);
});

test("a clock that is set while the page is open is noticed", () => {
  const ahead = at(NOW, () => clockAhead(NOW - HOUR));
  assert.ok(Math.abs(at(NOW, ahead) - HOUR) < 1000);
  assert.ok(Math.abs(at(NOW - 2 * HOUR, ahead) + HOUR) < 1000, "set back by two hours");
  assert.ok(Math.abs(at(NOW + 9 * HOUR, ahead) - HOUR) < 1000, "after a sleep of nine hours, no time of its own is lost");
});
