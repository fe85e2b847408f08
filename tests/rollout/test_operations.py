import json
import sys
import uuid
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from rollout import operations, store
from rollout.models import Incident, Rollout, Stage
from rollout.tick import settle_all
from tests.canary import Canary, Judged
from tests.clock import travelled
from tests.eventually import eventually
from tests.rollout.conftest import MakeRollout
from tests.servers import manage


def test_a_percentage_starts_a_stage_and_a_record_of_who_and_why(
    make_rollout: MakeRollout, user: User
) -> None:
    before = make_rollout()
    after = operations.set_percentage(before.feature, Decimal(10), reason="first canary", actor=user)
    assert after.percentage == 10
    assert after.stage == Stage.CANARY.value
    assert after.version == before.version + 1
    assert after.stage_started_at > before.stage_started_at
    (change,) = operations.changes_since(after, before.version)
    assert (change["who"], change["why"]) == (str(user), "first canary")
    assert change["fields"]["percentage"] == (Decimal(0), Decimal(10))


def test_the_same_percentage_again_does_not_restart_the_stage(make_rollout: MakeRollout) -> None:
    rollout = make_rollout()
    first = operations.set_percentage(rollout.feature, Decimal(10), reason="canary")
    again = operations.set_percentage(rollout.feature, Decimal(10), reason="the same")
    assert again.stage_started_at == first.stage_started_at


@pytest.mark.parametrize(
    ("percentage", "stage"), [(0, "off"), (10, "canary"), (50, "partial"), (100, "full")]
)
def test_the_stage_follows_the_percentage(make_rollout: MakeRollout, percentage: int, stage: str) -> None:
    rollout = make_rollout(percentage=1)
    assert operations.set_percentage(rollout.feature, Decimal(percentage), reason="x").stage == stage


def test_promote_climbs_the_runbook_s_steps_and_no_further(make_rollout: MakeRollout) -> None:
    feature = make_rollout().feature
    climbed = [operations.promote(feature, reason="clean").percentage for _ in range(3)]
    assert climbed == [10, 50, 100]
    with pytest.raises(operations.OperationError, match="no higher step"):
        operations.promote(feature, reason="clean")


def test_nothing_is_promoted_while_on_hold_or_stopped(make_rollout: MakeRollout) -> None:
    feature = make_rollout().feature
    operations.hold(feature, reason="wait")
    with pytest.raises(operations.OperationError, match="on hold"):
        operations.promote(feature, reason="go")
    operations.resume(feature, reason="go")
    operations.stop(feature, reason="fire")
    operations.resume(feature, reason="go")
    with pytest.raises(operations.OperationError, match="stopped"):
        operations.promote(feature, reason="go")


def test_a_stale_edit_is_refused_with_what_changed_meanwhile(make_rollout: MakeRollout, user: User) -> None:
    rollout = make_rollout()
    operations.set_percentage(rollout.feature, Decimal(25), reason="faster", actor=user)
    with pytest.raises(operations.StaleEdit) as refused:
        operations.set_percentage(rollout.feature, Decimal(10), reason="canary", version=rollout.version)
    (change,) = refused.value.changes
    assert change["why"] == "faster"
    assert change["fields"]["percentage"][1] == 25
    assert Rollout.objects.get(pk=rollout.pk).percentage == 25


def test_an_emergency_stop_needs_no_version_no_reason_and_no_state(make_rollout: MakeRollout) -> None:
    rollout = make_rollout(percentage=50)
    operations.set_percentage(rollout.feature, Decimal(60), reason="meanwhile")
    stopped = operations.stop(rollout.feature, reason="")
    assert stopped.emergency_stop
    assert operations.stop(rollout.feature, reason="again").emergency_stop
    assert stopped.live_word == "legacy"
    released = operations.release(rollout.feature, reason="fixed")
    assert released.percentage == 60
    assert released.on_hold
    assert released.live_word == "fund-store"


def test_rolling_back_means_zero_and_hold(make_rollout: MakeRollout) -> None:
    rolled = operations.roll_back(make_rollout(percentage=50).feature, reason="errors")
    assert rolled.percentage == 0
    assert rolled.stage == Stage.OFF.value
    assert rolled.on_hold
    assert rolled.live_word == "legacy"


@pytest.mark.parametrize("percentage", ["-1", "100.01", "1000"])
def test_a_percentage_is_between_0_and_100(make_rollout: MakeRollout, percentage: str) -> None:
    with pytest.raises(operations.OperationError, match="between 0 and 100"):
        operations.set_percentage(make_rollout().feature, Decimal(percentage), reason="x")


def test_version_1_moves_by_whole_percents_and_version_2_by_hundredths(make_rollout: MakeRollout) -> None:
    with pytest.raises(operations.OperationError, match="steps of 1"):
        operations.set_percentage(make_rollout(hash_version=1).feature, Decimal("0.5"), reason="x")
    fine = operations.set_percentage(make_rollout().feature, Decimal("0.01"), reason="x")
    assert fine.percentage == Decimal("0.01")
    with pytest.raises(operations.OperationError, match=r"steps of 0\.01"):
        operations.set_percentage(fine.feature, Decimal("0.001"), reason="x")


def test_every_change_needs_a_reason_and_a_rollout(make_rollout: MakeRollout) -> None:
    with pytest.raises(operations.OperationError, match="reason"):
        operations.hold(make_rollout().feature, reason="  ")
    with pytest.raises(operations.OperationError, match="reason"):
        operations.hold(make_rollout().feature, reason="\u200b\u3164")
    with pytest.raises(operations.NoSuchRollout, match=r"Known: .*USE_FUND_STORE"):
        operations.hold("NOBODY", reason="x")


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"percentage": 101}, "rollout_percentage_range"),
        ({"feature": "lower_case"}, "rollout_feature_pattern"),
        ({"version": 0}, "rollout_version_positive"),
        ({"hash_version": 3}, "rollout_hash_version_known"),
    ],
)
def test_the_database_refuses_what_no_code_should_write(
    database: None, fields: dict[str, Any], constraint: str
) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Rollout.objects.create(**{"feature": f"F{uuid.uuid4().hex[:12].upper()}", **fields})


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("rollout", *arguments, stdout=out)
    return out.getvalue()


def row_of(feature: str) -> str:
    """The line of a rollout in the table of all."""
    return next(line for line in run("status").splitlines() if feature in line)


def test_a_narrow_terminal_shows_each_rollout_s_state(
    make_rollout: MakeRollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature = make_rollout().feature
    operations.stop(feature, reason="x", actor=None)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "STOPPED" in row_of(feature)
    longest = f"F{uuid.uuid4().hex.upper()}".ljust(100, "X")
    Rollout.objects.create(feature=longest, emergency_stop=True)
    assert "STOPPED" in row_of(feature)
    assert "STOPPED" in row_of(longest[:25])


def test_the_shell_has_the_admin_s_buttons(make_rollout: MakeRollout) -> None:
    feature = make_rollout().feature
    assert json.loads(run("set", feature, "10", "--reason", "canary", "--json"))["percentage"] == 10
    assert json.loads(run("promote", feature, "--reason", "clean", "--json"))["percentage"] == 50
    assert json.loads(run("hold", feature, "--reason", "wait", "--json"))["on_hold"] is True
    assert json.loads(run("resume", feature, "--reason", "go", "--json"))["on_hold"] is False
    assert json.loads(run("stop", feature, "--json"))["emergency_stop"] is True
    assert json.loads(run("release", feature, "--reason", "ok", "--json"))["emergency_stop"] is False
    assert json.loads(run("rollback", feature, "--reason", "no", "--json"))["percentage"] == 0
    assert json.loads(run("status", feature, "--json"))["version"] == 8
    assert "rolled back" in row_of(feature)
    assert "(shell, " in Rollout.objects.get(feature=feature).history.first().history_change_reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["set", "NOBODY", "10", "--reason", "x"], "no rollout 'NOBODY'"),
        (["status", "NOBODY"], "no rollout 'NOBODY'"),
        (["set", "USE_FUND_STORE", "ten", "--reason", "x"], "not a percentage"),
        (["set", "USE_FUND_STORE", "nan", "--reason", "x"], "not a percentage"),
        (["set", "USE_FUND_STORE", "10"], "reason"),
    ],
)
def test_the_shell_says_what_is_wrong(database: None, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run(*arguments)


def test_a_script_sees_a_refusal_in_the_exit_code(database: None) -> None:
    result = manage("rollout", "set", "NOBODY", "10", "--reason", "x")
    assert result.returncode == 1
    assert "no rollout 'NOBODY'" in result.stderr
    assert result.stdout == ""


# --- After a completion ---------------------------------------------------------------------------------------


def completed(make: MakeRollout, **fields: Any) -> str:
    feature = make(percentage=100, stage=Stage.FULL, **fields).feature
    assert not operations.complete(feature, reason="24 good hours").track_migrations
    return feature


WAYS_OUT: dict[str, Callable[[str], Rollout]] = {
    "rolled back": lambda feature: operations.roll_back(feature, reason="x"),
    "less": lambda feature: operations.set_percentage(feature, Decimal(50), reason="x"),
    "zero": lambda feature: operations.set_percentage(feature, Decimal(0), reason="x"),
    "stopped, released": lambda feature: (
        operations.stop(feature, reason="x") and operations.release(feature, reason="x")
    ),
    "disabled, enabled": lambda feature: (
        operations.configure(feature, {"enabled": False, "track_migrations": False}, reason="x")
        and operations.configure(feature, {"enabled": True, "track_migrations": False}, reason="x")
    ),
}


@pytest.mark.parametrize("leave", WAYS_OUT.values(), ids=WAYS_OUT)
def test_a_rollout_that_leaves_completion_is_judged_and_tracked_again(
    make_rollout: MakeRollout, leave: Callable[[str], Rollout]
) -> None:
    left = leave(completed(make_rollout))
    assert left.track_migrations
    assert left.stage == Stage.of(left.percentage)
    assert left.is_judged == (left.percentage > 0)


@pytest.mark.parametrize("leave", WAYS_OUT.values(), ids=WAYS_OUT)
def test_what_a_person_does_not_track_stays_so_after_a_completion(
    make_rollout: MakeRollout, leave: Callable[[str], Rollout]
) -> None:
    """A feature that migrates nothing would have no data for good."""
    feature = make_rollout(percentage=100, stage=Stage.FULL).feature
    operations.configure(feature, {"track_migrations": False}, reason="it migrates nothing")
    operations.complete(feature, reason="24 good hours")
    assert not leave(feature).track_migrations


def test_tracking_that_a_person_switches_off_after_a_completion_stays_off(make_rollout: MakeRollout) -> None:
    feature = completed(make_rollout)
    operations.roll_back(feature, reason="x")
    operations.configure(feature, {"track_migrations": False}, reason="it migrates nothing any more")
    assert not operations.set_percentage(feature, Decimal(10), reason="again").track_migrations
    feature = completed(make_rollout)
    for tracked in (True, False):
        operations.configure(feature, {"track_migrations": tracked}, reason="a look")
    assert not operations.roll_back(feature, reason="x").track_migrations


def test_a_rollout_that_an_earlier_version_left_untracked_is_tracked_from_its_next_stage(
    make_rollout: MakeRollout,
) -> None:
    rollout = Rollout.objects.get(feature=completed(make_rollout))
    rollout.percentage, rollout.stage, rollout.version = Decimal(0), Stage.OFF, rollout.version + 1
    rollout.save()
    assert operations.set_percentage(rollout.feature, Decimal(10), reason="again").track_migrations


def test_migrations_are_accepted_again_after_a_completion(traffic: Judged) -> None:
    canary = traffic("100")
    operations.complete(canary.feature, reason="24 good hours")
    operations.roll_back(canary.feature, reason="x")
    operations.resume(canary.feature, reason="x")
    operations.set_percentage(canary.feature, Decimal(10), reason="again")
    eventually(lambda: not refused(canary))


def refused(canary: Canary) -> list[dict[str, Any]]:
    event = {"id": str(uuid.uuid4()), "event": "migration_failed", "ok": False, "flag": canary.feature}
    body = {"clientId": str(uuid.uuid4()), "sessionId": str(uuid.uuid4()), "events": [event]}
    rejected: list[dict[str, Any]] = canary.http.post("/api/telemetry", json=body).json()["rejected"]
    return rejected


# --- Times and log lines --------------------------------------------------------------------------------------


def test_a_change_has_the_time_of_the_database(make_rollout: MakeRollout) -> None:
    """A web host whose clock is slow or fast moves no stage."""
    feature = make_rollout().feature
    with travelled("-31 minutes"):
        changes: list[Callable[[], Rollout]] = [
            lambda: operations.set_percentage(feature, Decimal(10), reason="x"),
            lambda: operations.stop(feature, reason="x"),
            lambda: operations.release(feature, reason="x"),
            lambda: operations.configure(feature, {"enabled": False}, reason="x"),
            lambda: operations.configure(feature, {"enabled": True}, reason="x"),
            lambda: operations.set_percentage(feature, Decimal(100), reason="x"),
            lambda: operations.complete(feature, reason="x"),
        ]
        for change in changes:
            changed, now = change(), store.clock()
            times = [changed.updated_at, changed.history.order_by("-version")[0].history_date]
            times += [] if changed.emergency_stop or not changed.enabled else [changed.stage_started_at]
            assert all(timedelta(0) <= now - at < timedelta(seconds=5) for at in times)


@pytest.mark.parametrize(
    ("change", "event"),
    [
        (lambda feature: operations.roll_back(feature, reason="fire"), "rollout_rolled_back"),
        (
            lambda feature: operations.set_percentage(feature, Decimal(0), reason="fire"),
            "rollout_rolled_back",
        ),
        (lambda feature: operations.stop(feature, reason="fire"), "rollout_stopped"),
        (
            lambda feature: operations.configure(feature, {"enabled": False}, reason="fire"),
            "rollout_disabled",
        ),
    ],
)
def test_a_way_back_is_a_warning_in_the_log_once(
    make_rollout: MakeRollout,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[str], Rollout],
    event: str,
) -> None:
    feature = make_rollout(percentage=50).feature
    for _ in range(2):
        change(feature)
    (line,) = [each for each in caplog.records if each.getMessage().startswith("rollout_")]
    assert (line.getMessage(), line.levelname, line.feature) == (event, "WARNING", feature)  # type: ignore[attr-defined]
    assert (vars(line)["from"], vars(line)["reason"]) == (50, "fire")
    assert vars(line)["to"] == (0 if event == "rollout_rolled_back" else 50)
    assert line.incident is None  # type: ignore[attr-defined]


def test_the_log_line_of_a_way_back_has_its_data(make_rollout: MakeRollout) -> None:
    feature = make_rollout(percentage=50).feature
    done = manage("rollout", "rollback", feature, "--reason", "fire", LOG_FORMAT="json")
    (line,) = [json.loads(line) for line in done.stderr.splitlines() if "rollout_rolled_back" in line]
    assert (line["level"], line["feature"], line["from"], line["to"]) == ("warning", feature, 50, 0)
    assert line["reason"].startswith("fire")


def test_a_rollback_by_the_judge_is_logged_once_with_its_incident(
    traffic: Judged, caplog: pytest.LogCaptureFixture
) -> None:
    canary = traffic()
    for _ in range(3):
        canary.send("migration_failed", clients=5)
        made = canary.check()
    assert made.action == "roll_back"
    settle_all()
    incident = Incident.objects.get(rollout=canary.pk)
    (line,) = [each for each in caplog.records if each.getMessage() == "rollout_rolled_back"]
    shown = {name: vars(line)[name] for name in ("levelname", "feature", "from", "to", "incident", "reason")}
    assert shown == {
        "levelname": "WARNING",
        "feature": canary.feature,
        "from": 10,
        "to": 0,
        "incident": incident.pk,
        "reason": incident.reason,
    }


def test_a_rehearsal_of_a_change_logs_nothing(
    make_rollout: MakeRollout, caplog: pytest.LogCaptureFixture
) -> None:
    feature = make_rollout(percentage=50).feature
    with transaction.atomic():
        operations.roll_back(feature, reason="fire")
        transaction.set_rollback(True)
    assert not [each for each in caplog.records if each.getMessage().startswith("rollout_")]
