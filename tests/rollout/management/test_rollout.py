"""``manage.py rollout create`` and ``configure``: the admin's functions, with one sentence for whatever is wrong."""

import json
import uuid
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from rollout import configuration, operations
from rollout.management.commands import rollout as command
from rollout.models import Rollout
from tests.canary import Canary
from tests.rollout.conftest import MakeRollout


def run(*arguments: str) -> Any:
    """Run the command, and return its JSON."""
    out = StringIO()
    call_command("rollout", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as refusal:
        run(*arguments)
    assert refusal.value.returncode == 1
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def new_name() -> str:
    return f"FEATURE_{uuid.uuid4().hex[:12].upper()}"


def last_record(feature: str) -> Any:
    return Rollout.objects.get(feature=feature).history.latest()


# --- create -------------------------------------------------------------------------------------------------------


def test_a_new_rollout_begins_at_0_with_hash_version_2_and_who_and_why(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ada")
    feature = new_name()
    configuration.current()
    made = run("create", feature, "--reason", " A new waterfall ")
    assert (made["percentage"], made["stage"], made["hash_version"], made["version"]) == (0, "off", 2, 1)
    assert (made["timeline"], made["enabled"], made["store_type"]) == ("conservative", True, "legacy")
    record = last_record(feature)
    assert (record.history_type, record.history_change_reason) == ("+", "A new waterfall (shell, ada)")
    assert feature.encode() in configuration.current().body


def test_a_new_rollout_takes_its_timeline_its_description_and_its_switches(database: None) -> None:
    feature = new_name()
    options = [
        "--timeline=manual",
        "--description=Waterfalls",
        "--track-migrations=off",
        "--auto-rollback=off",
    ]
    run("create", feature, *options, "--reason=x")
    made = Rollout.objects.get(feature=feature)
    assert (made.timeline, made.description) == ("manual", "Waterfalls")
    assert (made.track_migrations, made.auto_rollback) == (False, False)
    assert run("set", feature, "10", "--reason", "canary")["percentage"] == 10


@pytest.mark.parametrize("feature", ["", " ", "lower_case", "2FAST", "WITH-DASH", "ÜBER", "A\n", "A" * 101])
def test_a_new_rollout_has_the_name_of_a_feature(database: None, feature: str) -> None:
    assert f"{feature!r} cannot be the feature: " in refused("create", feature, "--reason", "x")
    assert not Rollout.objects.filter(feature=feature).exists()


def test_a_feature_has_one_rollout(make_rollout: MakeRollout) -> None:
    feature = make_rollout().feature
    message = f"There is a rollout '{feature}' already: configure it."
    assert refused("create", feature, "--reason", "x") == message
    assert Rollout.objects.get(feature=feature).version == 1


def test_a_new_rollout_needs_a_reason(database: None) -> None:
    feature = new_name()
    for reason in ("", "  ", "\u200b"):
        assert "Give a reason" in refused("create", feature, "--reason", reason)
    assert not Rollout.objects.filter(feature=feature).exists()


def test_a_new_rollout_may_begin_at_a_percentage(database: None) -> None:
    created = run("create", new_name(), "--percentage", "12.5", "--reason", "x")
    assert (created["percentage"], created["stage"], created["version"]) == (12.5, "canary", 2)
    first = run("create", new_name(), "--percentage", "12", "--hash-version", "1", "--reason", "x")
    assert (first["percentage"], first["hash_version"]) == (12, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--percentage", "101"], "must be between 0 and 100"),
        (["--percentage", "much"], "much"),
        (["--percentage", "0.5", "--hash-version", "1"], "steps of 1"),
        (["--hash-version", "3"], "choose 1, 2"),
        (["--always", "alice"], "--always: 'alice' is not one of the people. Write user:NAME"),
    ],
)
def test_a_new_rollout_with_a_wrong_value_is_not_there(
    database: None, options: list[str], message: str
) -> None:
    feature = new_name()
    assert message in refused("create", feature, *options, "--reason", "x")
    assert not Rollout.objects.filter(feature=feature).exists()


def test_people_are_named_at_a_shell(make_rollout: MakeRollout, user: User) -> None:
    feature, someone = make_rollout().feature, f"user:{user.username}"
    configured = run(
        "configure", feature, "--always", f"staff,{someone}", "--never", "superusers", "--reason", "x"
    )
    assert (configured["always"], configured["never"]) == (f"staff, {someone}", "superusers")
    assert run("configure", feature, "--always", "", "--reason", "x")["always"] == ""
    assert "There is no group:Nobody" in refused(
        "configure", feature, "--never", "group:Nobody", "--reason", "x"
    )


def test_the_list_has_every_rollout(make_rollout: MakeRollout) -> None:
    features = {make_rollout().feature for _ in range(2)}
    out = StringIO()
    call_command("rollout", "list", "--json", stdout=out)
    assert features <= {rollout["feature"] for rollout in json.loads(out.getvalue())}


# --- configure ----------------------------------------------------------------------------------------------------


def test_each_field_is_configured_and_the_history_says_who_and_why(
    make_rollout: MakeRollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ada")
    before = make_rollout(percentage=10)
    for option, value, field, stored in (
        ("--timeline", "accelerated", "timeline", "accelerated"),
        ("--enabled", "off", "enabled", False),
        ("--enabled", "on", "enabled", True),
        ("--track-migrations", "off", "track_migrations", False),
        ("--auto-rollback", "off", "auto_rollback", False),
        ("--description", "Waterfalls", "description", "Waterfalls"),
        ("--description", "", "description", ""),
    ):
        assert run("configure", before.feature, option, value, "--reason", "why not")[field] == stored
        assert getattr(Rollout.objects.get(pk=before.pk), field) == stored
        assert last_record(before.feature).history_change_reason == "why not (shell, ada)"
    after = Rollout.objects.get(pk=before.pk)
    assert (after.version, int(after.percentage), after.hash_version) == (8, 10, 2)


def test_several_fields_are_one_change(make_rollout: MakeRollout) -> None:
    before = make_rollout()
    run("configure", before.feature, "--timeline=manual", "--auto-rollback=off", "--reason", "x")
    (change,) = operations.changes_since(Rollout.objects.get(pk=before.pk), 1)
    assert set(change["fields"]) == {"timeline", "auto_rollback"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Say what to configure, with one or more of --enabled, --timeline"),
        (["--enabled", "maybe"], "--enabled is 'maybe': it must be on or off."),
        (["--track-migrations", ""], "--track-migrations is '': it must be on or off."),
        (["--auto-rollback", "1"], "--auto-rollback is '1': it must be on or off."),
        (
            ["--timeline", "fast"],
            "'fast' cannot be the timeline: choose accelerated, conservative, manual.",
        ),
        (["--timeline", ""], "'' cannot be the timeline: choose"),
        (["--description", "x" * 201], "cannot be the description: "),
        (["--timeline", "manual", "--enabled", "no"], "--enabled is 'no'"),
    ],
)
def test_a_wrong_value_changes_nothing(make_rollout: MakeRollout, options: list[str], message: str) -> None:
    before = make_rollout()
    assert message in refused("configure", before.feature, *options, "--reason", "x")
    assert Rollout.objects.get(pk=before.pk).version == 1
    assert Rollout.objects.get(pk=before.pk).timeline == before.timeline


def test_an_unknown_rollout_cannot_be_configured(database: None) -> None:
    assert "There is no rollout 'NOBODY'. Known: " in refused(
        "configure", "NOBODY", "--enabled=on", "--reason", "x"
    )


def test_a_form_that_was_open_meanwhile_is_refused(make_rollout: MakeRollout, user: User) -> None:
    seen = make_rollout()
    run("configure", seen.feature, "--timeline", "manual", "--reason", "at night")
    with pytest.raises(operations.StaleEdit) as stale:
        operations.configure(seen.feature, {"enabled": False}, reason="x", actor=user, version=seen.version)
    (change,) = stale.value.changes
    assert change["fields"] == {"timeline": ("conservative", "manual")}


# --- The other actions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["hold", "promote", "rollback", "configure"])
def test_white_space_is_no_reason(make_rollout: MakeRollout, action: str) -> None:
    before = make_rollout()
    more = ["--enabled=off"] if action == "configure" else []
    assert "Give a reason" in refused(action, before.feature, *more, "--reason", " \t")
    assert Rollout.objects.get(pk=before.pk).version == 1


def test_a_stop_needs_no_reason_not_even_one_of_white_space(make_rollout: MakeRollout) -> None:
    feature = make_rollout().feature
    assert run("stop", feature, "--reason", "  ")["emergency_stop"] is True
    assert operations.stop(feature, reason="  ").emergency_stop
    assert operations.stop(feature, reason="\u200b").history.first().history_change_reason == "emergency stop"


def test_the_table_says_that_a_rollout_at_0_is_off(make_rollout: MakeRollout) -> None:
    off, moving = make_rollout().feature, make_rollout(percentage=10, stage="canary").feature
    out = StringIO()
    call_command("rollout", "status", stdout=out)
    lines = {
        feature: line for line in out.getvalue().splitlines() for feature in (off, moving) if feature in line
    }
    assert "│ off " in lines[off]
    assert "│ canary " in lines[moving]
    Rollout.objects.filter(feature=moving).update(percentage=0, stage="off")


def test_a_narrow_terminal_keeps_percentage_state_and_signal_whole(
    make_rollout: MakeRollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary, long = Canary(), make_rollout(percentage=10, emergency_stop=True)
    feature = f"{long.feature}_{'X' * 70}"
    Rollout.objects.filter(pk=long.pk).update(feature=feature)
    canary.fail()
    monkeypatch.setattr(command, "WIDTH", 80)
    out = StringIO()
    call_command("rollout", "status", stdout=out)
    lines = out.getvalue().splitlines()
    assert {len(line) for line in lines} == {80}
    (row,) = [line for line in lines if canary.feature in line]
    assert "│ 0 %        │ rolled back by the judge │ -" in row
    assert any("│ 10 %       │ STOPPED" in line for line in lines)
