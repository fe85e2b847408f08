"""The fund that every client creates, in each spelling."""

import json
import uuid
from collections.abc import Iterator
from itertools import count

EVENTS = 200  # as many as a browser sends at once
NAME = "Harbor Growth I"
FUND = {
    "name": NAME,
    "size": 250_000_000,
    "managementFee": 0.02,
    "carryPercentage": 0.2,
    "vintageYear": 2025,
}
STOCK_NAMES = {
    "managementFee": "management_fee",
    "carryPercentage": "carry_percentage",
    "vintageYear": "vintage_year",
}


# The product's answer for a fund with results, 350 bytes long.
ANSWER = (
    b'{"id":1000123,"name":"Harbor Growth III","size":123456000,"managementFee":0.02,"carryPercentage":0.2,'
    b'"vintageYear":2025,"modelVersion":"2026.4.11","engineResults":{"irr":0.183745,"grossIrr":0.229134,'
    b'"netTvpi":1.9283,"dpi":0.7712,"moic":2.1172,"years":[0.1134,0.1872,0.2118,0.1943,0.1655,0.1278,0.091,0.075]},'
    b'"createdAt":"2026-11-23T13:25:34.067449Z"}'
)


def fund(name: str = NAME) -> bytes:
    """Return a fund with the names of the product's API."""
    return json.dumps({**FUND, "name": name}).encode()


def stock_fund(name: str = NAME) -> bytes:
    """Return a fund with the names of a ModelSerializer: the columns'."""
    return json.dumps(
        {STOCK_NAMES.get(field, field): value for field, value in {**FUND, "name": name}.items()}
    ).encode()


def telemetry_batches() -> Iterator[bytes]:
    """Yield batches of new events of one browser."""
    browser = uuid.uuid4().hex
    event = {
        "event": "heartbeat",
        "category": "usage",
        "ok": True,
        "at": "2026-11-23T09:00:00.000Z",
        "flag": "USE_FUND_STORE",
        "variant": "fund-store",
        "detail": None,
    }
    events = [{"id": f"{browser}-BATCH-{number}", **event} for number in range(EVENTS)]
    batch = json.dumps({"clientId": browser, "sessionId": browser, "dropped": 0, "events": events}).encode()
    for number in count():
        yield batch.replace(b"BATCH", str(number).encode())
