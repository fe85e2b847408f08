"""The texts of an alert, without a network."""

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from rollout.alerts import messages
from rollout.alerts.messages import Message, headline
from rollout.judge.decision import AlertKind

MESSAGE = Message(
    id="msg_1",
    kind="rolled_back",
    feature="USE_FUND_STORE",
    environment="prod",
    percentage=10,
    signal="red",
    reason="red: 50 points in this check (3 consecutive red checks)",
    evidence=("score: 50 points in this check (red)", "console: none & <b>nothing</b> (green)"),
    next="Rolled back to 0 %.",
    at=datetime(2026, 8, 11, 14, 30, tzinfo=UTC),
    since=datetime(2026, 8, 11, 14, tzinfo=UTC),
    url="https://funds.example.com/admin/",
)


@pytest.mark.parametrize("kind", [*AlertKind, messages.TEST])
def test_each_kind_has_its_words_and_survives_the_outbox(kind: str) -> None:
    message = replace(MESSAGE, kind=str(kind))
    assert messages.restore(messages.plain(message)) == message
    assert headline(message).startswith("[prod] ")
    assert headline(message).endswith(": USE_FUND_STORE")
    assert "{" not in messages.email(message)
    assert len(headline(message)) <= 60


def test_a_subject_is_cut_where_the_least_is_lost() -> None:
    long = headline(replace(MESSAGE, feature="A" * 100, percentage=12.34))
    assert long.startswith("[prod] Rolled back from 12.34 %: AAAA")
    assert (len(long), long[-1]) == (60, "…")


def test_a_line_break_in_a_name_stays_out_of_the_subject() -> None:
    assert "\n" not in headline(replace(MESSAGE, environment="a\nBcc: x"))


def test_the_text_is_for_slack_and_the_rest_is_as_it_was() -> None:
    body = msgspec.json.decode(messages.webhook(replace(MESSAGE, reason="rates < 95 % & <!channel>")))
    assert body["text"].splitlines() == [
        "[prod] Rolled back from 10 %: USE_FUND_STORE",
        "rates &lt; 95 % &amp; &lt;!channel&gt;",
        "Next: Rolled back to 0 %.",
        "https://funds.example.com/admin/",
    ]
    assert body["reason"] == "rates < 95 % & <!channel>"
    assert body["at"] == "2026-08-11T14:30:00Z"


def test_without_an_address_there_is_no_empty_line_for_it() -> None:
    message = replace(MESSAGE, url="")
    assert (
        msgspec.json.decode(messages.webhook(message))["text"].splitlines()[-1] == "Next: Rolled back to 0 %."
    )
    assert "\n\n\n" not in messages.email(message)
