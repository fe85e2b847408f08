from tests.conftest import FUND, Api


def test_a_first_request_creates_and_a_retry_replays(api: Api, key: str) -> None:
    first = api.create(key)
    again = api.create(key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["Idempotency-Status"] == "created"
    assert again.headers["Idempotency-Status"] == "replayed"
    assert again.content == first.content
    assert again.headers["Location"] == first.headers["Location"] == f"/api/funds/{first.json()['id']}"
    assert first.json()["name"] == FUND["name"]
