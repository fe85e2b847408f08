"""A ticket proves a user of this environment until it expires, across a change of the secret key, without SQL."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import override_settings

from rollout import tickets
from rollout.tickets import Refused, issue, read, signer_of

NOW = 1_800_000_000.0
OLD, NEW, NEWER = "old" * 20, "new" * 20, "newer" * 12


def refusal(ticket: Any, *, now: float = NOW) -> str:
    with pytest.raises(Refused) as refused:
        read(ticket, now=now)
    return str(refused.value)


def test_a_ticket_names_its_user_s_signer_until_it_expires() -> None:
    ticket = issue(7, now=NOW)
    assert ticket.expires_at == datetime.fromtimestamp(NOW, UTC) + timedelta(hours=1)
    assert read(ticket.text, now=NOW) == read(ticket.text, now=NOW + 3599) == signer_of(7)
    assert refusal(ticket.text, now=NOW + 3600) == "expired"


def test_every_ticket_of_a_user_has_one_signer_and_no_two_users_share_it() -> None:
    assert read(issue(7, now=NOW).text, now=NOW) == read(issue("7", now=NOW + 60).text, now=NOW)
    assert len({signer_of(user) for user in range(1000)}) == 1000


def test_a_ticket_fits_into_a_url_and_does_not_tell_the_user() -> None:
    text = issue("maria@example.com", now=NOW).text
    assert re.fullmatch(r"[0-9a-f]{32}\.[0-9]{10}\.[A-Za-z0-9_-]{43}", text)
    with override_settings(SECRET_KEY=NEW):  # the digest has a key, so nobody can try all ids
        assert issue("maria@example.com", now=NOW).text[:32] != text[:32]


@override_settings(ROLLOUT_TICKET_TTL=timedelta(minutes=5))
def test_the_setting_says_how_long_a_ticket_is_accepted() -> None:
    assert refusal(issue(7, now=NOW).text, now=NOW + 300) == "expired"


def test_a_ticket_of_another_environment_is_none() -> None:
    with override_settings(ROLLOUT_ENVIRONMENT="staging"):
        ticket, signer = issue(7, now=NOW), signer_of(7)
    assert refusal(ticket.text) == "invalid"
    assert signer != signer_of(7)


def test_a_changed_ticket_is_none() -> None:
    text = issue(7, now=NOW).text
    signer, expiry, signature = text.split(".")
    other = issue(8, now=NOW).text.split(".")[0]
    for changed in (
        f"{other}.{expiry}.{signature}",
        f"{signer}.{int(expiry) + 1}.{signature}",
        f"{signer}.{expiry}.{signature[:-1]}",
        f"{signer}.{expiry}.",
        f"{signer}.{expiry}",
        text + "A",
        text.upper(),
    ):
        assert refusal(changed) == "invalid", changed


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        ".",
        "..",
        "a.b.c",
        7,
        1.5,
        True,
        [],
        {},
        "\0",
        "\ud800.1.x",
        "ü.1.x",
        "x" * 1_000_000,
        "." * 199,
    ],
)
def test_a_value_that_is_no_ticket_is_refused_and_never_an_error(value: Any) -> None:
    assert refusal(value) == "invalid"


def test_a_huge_ticket_costs_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "_signer", lambda: pytest.fail("computed a digest"))
    assert refusal("." * 201) == "invalid"


def test_a_user_keeps_ticket_and_voice_while_the_secret_key_is_changed() -> None:
    with override_settings(SECRET_KEY=OLD, SECRET_KEY_FALLBACKS=[]):
        before = issue(7, now=NOW).text
        signer = signer_of(7)
    with override_settings(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=[OLD]):
        during = issue(7, now=NOW).text
        assert read(before, now=NOW) == read(during, now=NOW) == signer
    with override_settings(SECRET_KEY=NEWER, SECRET_KEY_FALLBACKS=[NEW, OLD]):
        assert read(before, now=NOW) == read(issue(7, now=NOW).text, now=NOW) == signer
    with override_settings(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=[]):
        assert refusal(before) == "invalid"
        assert read(during, now=NOW) == signer
        assert signer_of(7) != signer  # from here on it has another voice
