"""A stored body comes back byte for byte, and takes less room."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from idempotency.bodies import DEFLATED, pack, unpack

FUND = json.dumps(
    {
        "id": 1_000_123,
        "name": "Harbor Growth III",
        "size": 123_456_000,
        "managementFee": 0.02,
        "carryPercentage": 0.2,
        "vintageYear": 2025,
        "modelVersion": "2026.4.11",
        "engineResults": {"irr": 0.183745, "tvpi": 1.9283, "dpi": 0.7712, "years": [0.11, 0.18, 0.21, 0.19]},
        "createdAt": "2026-11-23T13:25:34.067449Z",
    }
).encode()


@given(st.binary() | st.text().map(str.encode))
@example(b"")
@example(DEFLATED)
@example(DEFLATED * 1000)
@example(pack(FUND))  # a body that is what another one is kept as
@example(FUND * 1000)
def test_a_body_comes_back_byte_for_byte(body: bytes) -> None:
    assert unpack(pack(body)) == body
    assert len(pack(body)) <= len(body) or body.startswith(DEFLATED)


def test_a_fund_takes_less_room() -> None:
    assert len(pack(FUND)) < 0.8 * len(FUND)


def test_bodies_that_were_stored_unchanged_stay_readable() -> None:
    assert unpack(FUND) == FUND
