"""The texts of an alert: the JSON of the webhook, a line for chats, an e-mail. Pure."""

from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

import msgspec

from rollout.judge.decision import AlertKind
from rollout.units import percent

TEST = "test"  # the kind of what `manage.py send_test_alert` sends
SUBJECT_MAX = 60  # characters; what a telephone shows of a subject

# Kind: the event in a few words, and in a sentence.
TEXTS = {
    AlertKind.RED: ("Red at {percentage}", "A check of {feature} at {percentage} was red."),
    AlertKind.TRIPPED: (
        "Breaker tripped at {percentage}",
        "The breaker of {feature} tripped at {percentage}. Auto-rollback is off: roll it back.",
    ),
    AlertKind.ROLLED_BACK: (
        "Rolled back from {percentage}",
        "{feature} was rolled back from {percentage} to 0 %.",
    ),
    AlertKind.NO_DATA: (
        "No data at {percentage}",
        "The judge has had no data to evaluate {feature} at {percentage} since {since:%Y-%m-%d %H:%M} UTC.",
    ),
    AlertKind.WEATHER: (
        "Everybody has errors at {percentage}",
        "Clients have errors with {feature} and without it. Nothing is promoted or rolled back meanwhile.",
    ),
    AlertKind.BASELINE: (
        "Errors without the feature at {percentage}",
        "Only clients without {feature} have errors at {percentage}. Nothing is promoted or rolled back.",
    ),
    AlertKind.UNSIGNED: (
        "Few networks report errors at {percentage}",
        "Too few networks report errors of {feature} at {percentage} to roll it back: look for yourself.",
    ),
    AlertKind.COMPLETED: ("Complete", "{feature} is complete: on for everybody, and no longer judged."),
    TEST: ("Test alert", "This is a test of the alerts about {feature}. Nothing has happened."),
}
# Other kinds of alerts take the judge's sentence.
NEXT = {AlertKind.COMPLETED: "Nothing. The flag and the old path can be removed from the code."}


@dataclass(frozen=True, slots=True)
class Message:
    """One event, as the outbox stores it. A new field needs a default: old rows do not have it."""

    id: str  # the same at every attempt, and over every channel
    kind: str
    feature: str
    environment: str
    percentage: float  # at the check, so before a rollback
    signal: str
    reason: str
    evidence: tuple[str, ...]
    next: str
    at: datetime  # of the check
    since: datetime | None  # begin of the time without data
    url: str  # of the operator's screen; "" without ROLLOUT_ADMIN_URL


def plain(message: Message) -> dict[str, Any]:
    """Return a message as a JSON document; :func:`restore` is the inverse."""
    document: dict[str, Any] = msgspec.to_builtins(message)
    return document


def restore(document: dict[str, Any]) -> Message:
    return msgspec.convert(document, Message, strict=False)


def headline(message: Message) -> str:
    """Return the event in a line of at most 60 characters."""
    what = TEXTS[message.kind][0].format(percentage=percent(message.percentage))
    line = " ".join(f"[{message.environment}] {what}: {message.feature}".split())
    return line if len(line) <= SUBJECT_MAX else line[: SUBJECT_MAX - 1] + "…"


def webhook(message: Message) -> bytes:
    """Return the body of the webhook. Slack and compatible chats show ``text``, which has Slack's escapes."""
    lines = (headline(message), message.reason, f"Next: {message.next}", message.url)
    text = "\n".join(escape(line, quote=False) for line in lines if line)
    return msgspec.json.encode({**plain(message), "text": text})


def email(message: Message) -> str:
    """Return the body of the e-mail."""
    happened = TEXTS[message.kind][1].format(
        feature=message.feature, percentage=percent(message.percentage), since=message.since
    )
    lines = [
        happened,
        f"Environment {message.environment}, {message.at:%Y-%m-%d %H:%M:%S} UTC.",
        "",
        f"Why: {message.reason}",
        "",
        "Evidence:",
        *(f"  {line}" for line in message.evidence),
        "",
        f"Next: {message.next}",
        *(["", message.url] if message.url else []),
        "",
        f"-- \n{message.id}",
    ]
    return "\n".join(lines) + "\n"
