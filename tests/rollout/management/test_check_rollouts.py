"""``manage.py check_rollouts``: what it refuses, what it could not check, and what there was nothing to check for."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.test import override_settings
from django.utils import timezone

from rollout import metrics, operations, tick
from rollout.alerts import outbox
from rollout.models import Check, Incident, Rollout, Watch
from tests.canary import Judged
from tests.servers import manage

NO_TIMES = {
    "empty": "",
    "white space": "  \t",
    "no date in UTC": "9999-12-31T23:59:59-14:00",
    "no date in UTC, in the year 1": "0001-01-01T00:00:00+14:00",
    "an offset that is none": "2026-08-11T14:30:00+25:00",
    "a day that is none": "2026-02-30",
    "other digits": "2026-08-11T1\u0664:30",
    "not UTF-8": "\udcff",
    "two lines": "2026-08-11\n2026-08-12",
    "a number": "1786000000",
}


def command(*arguments: str) -> tuple[str, str, CommandError | None]:
    """Run the command; return its stdout, its stderr and its error."""
    out, err = StringIO(), StringIO()
    try:
        call_command("check_rollouts", *arguments, stdout=out, stderr=err, no_color=True)
    except CommandError as error:
        return out.getvalue(), err.getvalue(), error
    return out.getvalue(), err.getvalue(), None


def refused(at: str) -> str:
    """Return the sentence that refuses a time, after a look at everything that must not change."""
    before = state()
    out, _, error = command("--at", at)
    assert error is not None
    assert (error.returncode, out) == (2, "")
    assert state() == before
    document = command("--at", at, "--json")
    assert json.loads(document[0]) == {"error": str(error)}
    assert document[2] is not None
    assert "\n" not in str(error)
    return str(error)


def state() -> Any:
    return list(Watch.objects.order_by("pk").values()), list(Rollout.objects.order_by("pk").values())


@pytest.mark.parametrize("at", NO_TIMES.values(), ids=NO_TIMES)
def test_a_time_that_is_none_is_refused(database: None, at: str) -> None:
    assert refused(at) == f"{at!r} is not a time: write it as 2026-08-11T14:30:00Z."


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59", "2100-01-01"])
def test_a_time_far_ahead_is_refused(traffic: Judged, at: str) -> None:
    traffic()
    assert refused(at) == f"'{at}' is more than 366 days ahead: name a time within them."


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "0001-01-01", "1969-12-31T23:59:59+14:00"])
def test_a_time_before_the_stage_is_refused(traffic: Judged, at: str) -> None:
    feature = traffic().feature
    assert refused(at).startswith(f"'{at}' is before the begin of the stage of {feature}: name ")


def test_a_time_before_the_last_check_is_refused_with_one_that_is_taken(traffic: Judged) -> None:
    canary = traffic()
    canary.send(clients=25)
    canary.check(minutes=10)
    message = refused((canary.now - timedelta(microseconds=1)).isoformat())
    assert f"is before the last check of {canary.feature}: name " in message
    named = message.split("name ")[1].split(" ")[0]
    canary.send(clients=25)
    assert command("--at", named)[2] is None
    assert Check.objects.filter(rollout=canary.pk, at=datetime.fromisoformat(named)).exists()


def test_a_time_without_an_offset_is_utc_and_white_space_around_it_is_nothing(traffic: Judged) -> None:
    canary = traffic()
    canary.send(clients=25)
    at = (timezone.now() + timedelta(minutes=5)).astimezone(UTC).replace(microsecond=0)
    assert command("--at", f" {at.replace(tzinfo=None).isoformat()} ")[2] is None
    assert Check.objects.get(rollout=canary.pk).at == at


def test_a_check_ahead_of_the_real_time_says_what_that_means_for_the_beat(traffic: Judged) -> None:
    canary = traffic()
    canary.send(clients=25)
    at = (timezone.now() + timedelta(hours=3)).replace(microsecond=0)
    note = (
        f"{canary.feature} was checked as of {at:%Y-%m-%dT%H:%M:%SZ}, which is ahead of the real time: checks by the "
        "real time wait until then, or for new telemetry.\n"
    )
    out, _, _ = command("--at", at.isoformat())
    assert out.endswith(note)
    assert command()[0] == note
    canary.send(clients=25)
    command()
    assert Check.objects.filter(rollout=canary.pk).order_by("id").last().at < at  # type: ignore[union-attr]


@pytest.mark.parametrize("at", ["", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"])
def test_production_refuses_any_time(database: None, at: str) -> None:
    with override_settings(ROLLOUT_CONFIRM=True):
        assert "--at is for rehearsals" in refused(at)


def test_nothing_to_check_says_why(traffic: Judged) -> None:
    assert command() == ("Nothing to check: no rollout is under way.\n", "", None)
    canary = traffic()
    canary.send(clients=25)
    command()
    out, err, error = command()
    assert out.startswith(
        f"Nothing to check for {canary.feature}: no telemetry has arrived since its check at "
    )
    assert (err, error) == ("", None)
    out, err, error = command("--json")
    assert (json.loads(out), error) == ([], None)
    assert "no telemetry has arrived since" in err
    operations.roll_back(canary.feature, reason="enough")
    assert command()[0] == "Nothing to check: no rollout is under way.\n"


def test_a_check_that_raised_is_named_and_the_others_are_made(
    traffic: Judged, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, healthy = traffic(), traffic()
    for canary in (broken, healthy):
        canary.send(clients=25)
    whole = tick.check

    def check(feature: str, **how: Any) -> Check | None:
        if feature == broken.feature:
            raise OverflowError("date value out of range\nand more")
        return whole(feature, **how)

    monkeypatch.setattr(tick, "check", check)
    failures = metrics.check_failures.labels(broken.feature)
    counted = failures._value.get()
    out, _, error = command("--json")
    assert error is not None
    assert error.returncode == 2
    assert str(error) == (
        f"The check failed for {broken.feature}: OverflowError: date value out of range. "
        "Mend that, and check again; --traceback shows more."
    )
    made, failed = json.loads(out)
    assert (made["feature"], made["signal"]) == (healthy.feature, made["signal"])
    assert failed == {"feature": broken.feature, "error": "OverflowError: date value out of range"}
    assert "rollout_check_failed" not in caplog.messages  # its traceback is no answer to a person
    assert failures._value.get() == counted + 1
    tick.tick()  # as the beat does
    assert "rollout_check_failed" in caplog.messages
    assert failures._value.get() == counted + 2


def test_a_record_that_failed_is_named_too(traffic: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = traffic()
    for _ in range(3):
        canary.send("migration_failed", clients=5)
        canary.now += timedelta(minutes=1)

        def no_alert(*_: Any) -> None:
            raise DatabaseError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(outbox, "create", no_alert)
            _, _, error = command("--at", canary.now.isoformat())
    assert canary.rollout.percentage == 0
    assert error is not None
    assert f"The check failed for {canary.feature}: DatabaseError: the disk is full." in str(error)
    assert command()[2] is None
    assert Incident.objects.filter(rollout=canary.pk).count() == 1


def test_a_shell_sees_one_sentence_and_exit_code_2(database: None) -> None:
    for arguments in (["--at", "9999-12-31T23:59:59-14:00"], ["--at", ""]):
        run = manage("check_rollouts", *arguments)
        assert (run.returncode, run.stdout) == (2, "")
        assert len(run.stderr.splitlines()) == 1
        assert "is not a time" in run.stderr
    away = manage("check_rollouts", DATABASE_URL="postgres://nobody@127.0.0.1:1/nothing")
    assert (away.returncode, len(away.stderr.splitlines())) == (2, 1), away.stderr
    assert "The database could not be asked" in away.stderr
