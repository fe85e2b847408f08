import json
import sys
import uuid
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from rollout import operations
from rollout.models import Rollout, Stage
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
    assert stopped.store_type == "legacy"
    released = operations.release(rollout.feature, reason="fixed")
    assert released.percentage == 60
    assert released.on_hold
    assert released.store_type == "fund-store"


def test_rolling_back_means_zero_and_hold(make_rollout: MakeRollout) -> None:
    rolled = operations.roll_back(make_rollout(percentage=50).feature, reason="errors")
    assert rolled.percentage == 0
    assert rolled.stage == Stage.OFF.value
    assert rolled.on_hold
    assert rolled.store_type == "legacy"


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
    assert "on hold" in row_of(feature)
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
