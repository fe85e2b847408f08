"""The functions of docs/how-to/retries.md, taken from the page, create a fund once on a bad day."""

import json
import re
import subprocess
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User

from fundapi.models import Fund
from tests.conftest import FUND, Api, token_of
from tests.node import NODE
from tests.relay import Relay
from tests.servers import PROJECT, Server

PAGE = (PROJECT / "docs/how-to/retries.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
KEY = '"a-key-of-this-fund"'
QUICK = {  # the same, in a time that a test has
    "ATTEMPTS, BACKOFF, TIMEOUT = 7, 0.25, 15": "ATTEMPTS, BACKOFF, TIMEOUT = 7, 0.01, 1",
    "[ATTEMPTS, BACKOFF, TIMEOUT] = [7, 250, 15_000]": "[ATTEMPTS, BACKOFF, TIMEOUT] = [7, 10, 1000]",
    'token: "your token"': 'token: "your token", backoff: 10, timeout: 1000',
    'environment: "dev"': 'environment: "test"',
    "backoff_factor=0.25,\n    backoff_jitter=1,": "backoff_factor=0.01,",
}
BAD_DAY = ("lost", "gateway", "torn", "running", "late", "maintenance")
LIES = ("cut", "blocked", "cut")  # JSON without its end, under its own length; HTML with 403
FUNCTIONS = ("requests", "httpx", "fetch")


def examples(section: str) -> list[str]:
    return re.findall(r"^```\w+\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


def prepared(example: str, url: str, user: User, key: str) -> str:
    """Return an example for this server, user and key; its patience is short."""
    for before, after in QUICK.items():
        example = example.replace(before, after)
    example = example.replace("http://127.0.0.1:8000", url).replace(KEY, json.dumps(key))
    return example.replace("your token", token_of(user))


class Raised(Exception):
    """The error that an example ended with."""


@pytest.fixture
def run(user: User, tmp_path: Path) -> Callable[[str, str, str], dict[str, Any]]:
    """Run the example of a section against a URL with a key, and return its fund."""

    def javascript(text: str) -> dict[str, Any]:
        packages = tmp_path / "node_modules"
        packages.mkdir(exist_ok=True)
        if not (packages / "fundapi").exists():
            (packages / "fundapi").symlink_to(PROJECT)
        file = tmp_path / "example.mjs"
        file.write_text(text + "\nconsole.log(JSON.stringify(fund));\n")
        done = subprocess.run([NODE, str(file)], capture_output=True, text=True, check=False, timeout=90)
        if done.returncode:
            raise Raised(done.stderr)
        fund: dict[str, Any] = json.loads(done.stdout)
        return fund

    def python(text: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        try:
            exec(text, names)
        except Exception as error:
            raise Raised(f"{type(error).__name__}: {error}") from error
        fund: dict[str, Any] = names["fund"]
        return fund

    def run(section: str, url: str, key: str) -> dict[str, Any]:
        text = prepared(examples(section)[0], url, user, key)
        return python(text) if section in {"requests", "httpx"} else javascript(text)

    return run


@pytest.mark.parametrize("section", [*FUNCTIONS, "Our own client"])
def test_there_is_one_fund_after_a_bad_day(
    section: str, server: Server, user: User, key: str, run: Callable[..., dict[str, Any]]
) -> None:
    with Relay(server.url, *BAD_DAY) as relay:
        fund = run(section, relay.url, key)
    assert [seen.fault for seen in relay.seen] == [*BAD_DAY, ""]
    assert {seen.key for seen in relay.seen} <= {key, f"test|fund-create|{key}"}
    assert len({seen.body for seen in relay.seen}) == 1
    waited = relay.seen[BAD_DAY.index("running") + 1].at - relay.seen[BAD_DAY.index("running")].at
    assert waited >= 1  # its Retry-After
    assert [fund["id"]] == list(Fund.objects.filter(owner=user).values_list("id", flat=True))


@pytest.mark.parametrize("section", FUNCTIONS)
def test_a_refusal_is_final(
    section: str, server: Server, user: User, api: Api, key: str, run: Callable[..., dict[str, Any]]
) -> None:
    api.create(key, FUND | {"size": 1})
    with Relay(server.url) as relay, pytest.raises(Raised, match=r"Refused.*idempotency_key_reused"):
        run(section, relay.url, key)
    assert len(relay.seen) == 1


@pytest.mark.parametrize("section", [*FUNCTIONS, "Our own client"])
def test_what_a_proxy_has_spoilt_is_no_answer(
    section: str, server: Server, user: User, key: str, run: Callable[..., dict[str, Any]]
) -> None:
    with Relay(server.url, *LIES) as relay:
        fund = run(section, relay.url, key)
    assert [seen.fault for seen in relay.seen] == [*LIES, ""]
    assert [fund["id"]] == list(Fund.objects.filter(owner=user).values_list("id", flat=True))


@pytest.mark.parametrize("section", FUNCTIONS)
def test_nobody_waits_a_day_for_a_server_that_is_closed(
    section: str, server: Server, user: User, key: str, run: Callable[..., dict[str, Any]]
) -> None:
    with Relay(server.url, "lost", "closed") as relay, pytest.raises(Raised, match="Unknown"):
        run(section, relay.url, key)
    assert len(relay.seen) == 2


@pytest.mark.parametrize("section", FUNCTIONS)
def test_a_redirect_is_refused_and_not_followed(
    section: str, server: Server, user: User, key: str, run: Callable[..., dict[str, Any]]
) -> None:
    with Relay(server.url, "moved") as relay, pytest.raises(Raised, match="Refused"):
        run(section, relay.url, key)
    assert len(relay.seen) == 1


@pytest.mark.parametrize("section", FUNCTIONS)
def test_without_any_answer_it_is_unknown_and_a_later_call_tells(
    section: str, server: Server, user: User, key: str, run: Callable[..., dict[str, Any]]
) -> None:
    with Relay(server.url, *["lost"] * 7) as relay:
        with pytest.raises(Raised, match="Unknown"):
            run(section, relay.url, key)
        assert len(relay.seen) == 7
        fund = run(section, relay.url, key)
    assert [fund["id"]] == list(Fund.objects.filter(owner=user).values_list("id", flat=True))


@pytest.mark.parametrize("section", ["requests", "httpx"])
def test_a_draft_holds_its_key_and_numbers_stay_exact(
    section: str, server: Server, user: User, key: str
) -> None:
    names: dict[str, Any] = {
        "json": json,
        "time": time,
        "uuid": uuid,
        "fund": FUND | {"size": 250_000_000.01},
    }
    exec(examples("Keep the key with the request")[0], names)
    exec(prepared(examples(section)[0], server.url, user, key), names)
    create, draft = names["create_fund"], names["draft"]
    assert names["may_send"](draft)
    assert not names["may_send"]({"first_sent": draft["first_sent"] - 24 * 3600})
    assert create(draft["body"], draft["key"])["size"] == Decimal("250000000.01")
    body = draft["body"].replace("250000000.01", "90071992547409.93")
    assert create(body, f"{key}-large")["size"] == Decimal("90071992547409.93")


def test_urllib3_retries_all_but_half_an_answer(server: Server, user: User, key: str) -> None:
    names: dict[str, Any] = {}
    exec(prepared(examples("requests")[1], server.url, user, key), names)
    headers = {
        "Authorization": f"Bearer {token_of(user)}",
        "Content-Type": "application/json",
        "Idempotency-Key": key,
    }

    def send(relay: Relay, fund: Any) -> requests.Response:
        answer: requests.Response = names["session"].post(
            f"{relay.url}/api/funds", json=fund, headers=headers, timeout=1, allow_redirects=False
        )
        return answer

    with names["session"], Relay(server.url, "lost", "gateway", "running", "late", "", "torn") as relay:
        assert send(relay, FUND).headers["Idempotency-Status"] == "replayed"
        assert len(relay.seen) == 5
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            send(relay, FUND)
        assert send(relay, FUND | {"size": 1}).json()["code"] == "idempotency_key_reused"
        assert len(relay.seen) == 7
    assert Fund.objects.filter(owner=user).count() == 1
