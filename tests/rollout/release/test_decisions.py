"""The decisions of the release commands, without a database, a network or a clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal
from rollout.judge.state import Action
from rollout.release.decisions import (
    CheckRun,
    CheckState,
    Observation,
    Outcome,
    PullRequest,
    Step,
    by_issues,
    combined,
    consecutive_reds,
    in_queue,
    is_overdue,
    labels_for,
    matches,
    readiness,
    revert_branch,
    rules_of,
    size_warning,
    state_of_run,
    state_of_status,
    verdict,
)

GREEN, YELLOW, HOLD, RED = Signal.GREEN, Signal.YELLOW, Signal.NO_DATA, Signal.RED
BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PULL = PullRequest(
    number=48,
    title="Fund store",
    url="",
    is_open=True,
    draft=False,
    merged=False,
    merged_at=None,
    merge_commit=None,
    head="a" * 40,
    head_branch="fund-store",
    base_branch="main",
    mergeable=True,
    mergeable_state="clean",
    lines=999,
    commits=1,
    labels=frozenset(),
)
PASSED = CheckRun("test", CheckState.PASSED)
PENDING = CheckRun("types", CheckState.PENDING)
FAILED = CheckRun("lint", CheckState.FAILED)


@pytest.mark.parametrize(
    ("fields", "checks", "waited", "step"),
    [
        ({}, [PASSED], 0, Step.MERGE),
        ({"mergeable_state": "unstable"}, [PASSED], 0, Step.MERGE),
        ({"merged": True, "is_open": False}, [], 0, Step.DONE),
        ({"is_open": False}, [PASSED], 0, Step.REFUSE),
        ({"draft": True}, [PASSED], 0, Step.REFUSE),
        ({"mergeable": False}, [PASSED], 0, Step.REFUSE),
        ({}, [PASSED, FAILED, PENDING], 0, Step.REFUSE),  # what fails now will not pass by waiting
        ({}, [], 4, Step.WAIT),
        ({}, [], 5, Step.GIVE_UP),
        ({"mergeable_state": "behind", "has_queue": True}, [PASSED], 0, Step.MERGE),
        ({"mergeable_state": "blocked", "has_queue": True}, [PASSED, PENDING], 0, Step.WAIT),
        ({"draft": True, "has_queue": True}, [PASSED], 0, Step.REFUSE),
        ({}, [PASSED, PENDING], 59, Step.WAIT),
        ({}, [PASSED, PENDING], 60, Step.GIVE_UP),
        ({"mergeable": None, "mergeable_state": "unknown"}, [PASSED], 0, Step.WAIT),
        ({"mergeable": None, "mergeable_state": "unknown"}, [PASSED], 60, Step.GIVE_UP),
        ({"mergeable_state": "blocked"}, [PASSED, PENDING], 0, Step.WAIT),
        ({"mergeable_state": "blocked"}, [PASSED], 0, Step.REFUSE),
        ({"mergeable_state": "behind"}, [PASSED], 0, Step.REFUSE),
    ],
)
def test_what_to_do_about_a_pull_request(
    fields: dict[str, Any], checks: list[CheckRun], waited: int, step: Step
) -> None:
    decided = readiness(
        replace(PULL, **fields), checks, waited=waited * MINUTE, start=5 * MINUTE, timeout=60 * MINUTE
    )
    assert decided.step is step, decided.says


def test_the_time_to_wait_bounds_the_wait_for_a_first_check() -> None:
    decided = readiness(PULL, [], waited=MINUTE, start=5 * MINUTE, timeout=MINUTE)
    assert decided.step is Step.GIVE_UP


@pytest.mark.parametrize(
    ("status", "conclusion", "state"),
    [
        *(("completed", conclusion, CheckState.PASSED) for conclusion in ("success", "neutral", "skipped")),
        *(
            ("completed", conclusion, CheckState.FAILED)
            for conclusion in (
                "failure",
                "cancelled",
                "timed_out",
                "action_required",
                "stale",
                "startup_failure",
                "something new",
            )
        ),
        *(
            (status, None, CheckState.PENDING)
            for status in ("queued", "in_progress", "waiting", "requested", "pending", "something new", None)
        ),
        ("completed", None, CheckState.PENDING),
        ("in_progress", "success", CheckState.PENDING),
    ],
)
def test_only_what_is_known_to_have_passed_has_passed(
    status: str | None, conclusion: str | None, state: CheckState
) -> None:
    assert state_of_run(status, conclusion) is state


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("success", "passed"),
        ("pending", "pending"),
        ("failure", "failed"),
        ("error", "failed"),
        ("odd", "failed"),
    ],
)
def test_the_state_of_a_commit_status(state: str, expected: str) -> None:
    assert state_of_status(state) == expected


@pytest.mark.parametrize(
    ("state", "statuses", "names"),
    [
        ("pending", [], []),  # GitHub's answer without any status
        ("success", [PASSED], []),
        ("pending", [PASSED, PENDING], []),
        ("failure", [PASSED, FAILED, PENDING], []),
        ("pending", [PASSED], ["combined status (pending)"]),
        ("failure", [PASSED, PENDING], ["combined status (failure)"]),
    ],
)
def test_the_combined_state_must_not_be_worse_than_what_was_read(
    state: str, statuses: list[CheckRun], names: list[str]
) -> None:
    assert [check.name for check in combined(state, statuses)] == names


@pytest.mark.parametrize(
    ("fields", "missed", "waited", "step"),
    [
        ({"merged": True, "is_open": False}, 2, 0, Step.DONE),
        ({"is_open": False}, 0, 0, Step.REFUSE),
        ({}, 0, 59, Step.WAIT),
        ({}, 1, 59, Step.WAIT),  # between the queue and the merge
        ({}, 2, 59, Step.REFUSE),
        ({}, 0, 60, Step.GIVE_UP),
    ],
)
def test_what_to_do_about_a_pull_request_in_a_queue(
    fields: dict[str, Any], missed: int, waited: int, step: Step
) -> None:
    decided = in_queue(replace(PULL, **fields), missed=missed, waited=waited * MINUTE, timeout=60 * MINUTE)
    assert decided.step is step, decided.says


def test_a_thousand_lines_are_warned_about() -> None:
    assert size_warning(PULL) == ""
    assert "1,000 lines" in size_warning(replace(PULL, lines=1000))


@pytest.mark.parametrize(
    ("path", "glob", "expected"),
    [
        ("idempotency/store.py", "idempotency/store.py", True),
        ("idempotency/store_py", "idempotency/store.py", False),
        ("rollout/migrations/0001_x.py", "*/migrations/*.py", True),
        ("a/b/migrations/0001_x.py", "*/migrations/*.py", False),
        ("rollout/static/rollout/admin.js", "*/static/**/*.js", True),
        ("rollout/static/admin.js", "*/static/**/*.js", True),
        ("rollout/static/admin.css", "*/static/**/*.js", False),
        ("rollout/release/deploy.py", "rollout/release/**", True),
        ("rollout/releases", "rollout/release/**", False),
        ("requirements/base.txt", "requirements/*", True),
        ("requirements/a/b.txt", "requirements/*", False),
        ("a1", "a?", True),
    ],
)
def test_globs_are_read_as_actions_labeler_reads_them(path: str, glob: str, *, expected: bool) -> None:
    assert matches(path, glob) is expected


def test_labels_follow_the_paths_in_the_order_of_the_rules() -> None:
    document = yaml.safe_load(
        """
        judge: [{changed-files: [{any-glob-to-any-file: [rollout/judge/decision.py, rollout/tick.py]}]}]
        browser: [{changed-files: [{any-glob-to-any-file: "**/*.js"}]}]
        other: [{base-branch: main}]
        """
    )
    rules = dict(rules_of(document))
    assert rules == {
        "judge": ["rollout/judge/decision.py", "rollout/tick.py"],
        "browser": ["**/*.js"],
        "other": [],
    }
    assert labels_for(["a/b.js", "rollout/tick.py"], rules) == ["judge", "browser"]
    assert labels_for(["README.md"], rules) == []


# --- Monitoring ---------------------------------------------------------------------------------------------------


def seen(*signals: Signal, feature: str = "A", stage: int = 1) -> list[Observation]:
    """One sighting a minute."""
    return [
        Observation(feature, stage, BEGAN + (number + 1) * MINUTE, signal, 0, "it is")
        for number, signal in enumerate(signals)
    ]


@pytest.mark.parametrize(
    ("signals", "reds"),
    [
        ([], 0),
        ([RED], 1),
        ([RED, RED, GREEN, RED], 1),
        ([RED, HOLD, RED], 2),
        ([RED, YELLOW], 0),
        ([HOLD, HOLD], 0),
    ],
)
def test_reds_are_counted_as_the_judge_counts_them(signals: list[Signal], reds: int) -> None:
    assert consecutive_reds(seen(*signals)) == reds


def test_a_check_that_is_merely_still_red_neither_adds_nor_ends_the_row() -> None:
    first, still, again = seen(RED, RED, RED)
    assert consecutive_reds([first, replace(still, fresh=False), replace(still, fresh=False)]) == 1
    assert consecutive_reds([first, replace(still, fresh=False), again]) == 2


def test_open_issues_are_red_anew_each_time() -> None:
    silent = [replace(each, silent=True, fresh=False) for each in seen(HOLD, HOLD, HOLD)]
    assert consecutive_reds(by_issues(each, 3, Policy()) for each in silent) == 3


def test_a_new_stage_begins_the_count_anew() -> None:
    assert consecutive_reds([*seen(RED, RED), *seen(RED, stage=2)]) == 1


def judged(observations: list[Observation], *, minutes: int = 5, now: int | None = None) -> Any:
    return verdict(
        observations,
        breaker=3,
        until=BEGAN + minutes * MINUTE,
        now=BEGAN + (minutes if now is None else now) * MINUTE,
        interval=MINUTE,
    )


@pytest.mark.parametrize(
    ("observations", "now", "expected"),
    [
        (seen(GREEN, GREEN), 2, None),
        (seen(RED, RED), 2, None),
        (seen(RED, RED, RED), 3, (Outcome.UNHEALTHY, True)),
        (seen(RED, HOLD, RED, RED), 4, (Outcome.UNHEALTHY, True)),
        ([*seen(RED, RED), *seen(RED, RED, feature="B")], 2, None),  # each counts its own
        (seen(GREEN, GREEN, GREEN, GREEN, GREEN), 5, (Outcome.HEALTHY, False)),
        (seen(RED, RED, GREEN, GREEN, YELLOW), 5, (Outcome.HEALTHY, False)),
        (seen(GREEN, GREEN, GREEN, GREEN, RED), 5, (Outcome.UNHEALTHY, False)),
        (seen(GREEN, GREEN, GREEN, GREEN, HOLD), 5, (Outcome.UNKNOWN, False)),
        ([*seen(GREEN, GREEN, GREEN), *seen(HOLD, HOLD, HOLD, feature="B")], 5, (Outcome.UNKNOWN, False)),
        ([], 5, (Outcome.UNKNOWN, False)),
        (seen(GREEN), 5, (Outcome.UNKNOWN, False)),  # nobody judged the last four minutes
        (seen(RED), 5, (Outcome.UNHEALTHY, False)),
    ],
)
def test_the_verdict_of_a_monitoring(
    observations: list[Observation], now: int, expected: tuple[Outcome, bool] | None
) -> None:
    reached = judged(observations, now=now)
    assert (reached and (reached.outcome, reached.tripped)) == expected


def test_a_rollback_by_the_judge_ends_it() -> None:
    observations = [*seen(GREEN), replace(seen(RED)[0], action=Action.ROLL_BACK)]
    reached = judged(observations, now=2)
    assert (reached.outcome, reached.rolled_back, reached.features) == (Outcome.UNHEALTHY, True, ("A",))


def test_what_was_completed_needs_no_more_checks() -> None:
    assert judged([replace(seen(GREEN)[0], action=Action.COMPLETE)]).outcome is Outcome.HEALTHY


@pytest.mark.parametrize(
    ("issues", "signal", "score"), [(0, HOLD, 0), (2, HOLD, 10), (3, RED, 15), (9, RED, 45)]
)
def test_issues_condemn_and_never_acquit(issues: int, signal: Signal, score: int) -> None:
    silent = replace(seen(HOLD)[0], silent=True)
    said = by_issues(silent, issues, Policy())
    assert (said.signal, said.score, said.source) == (signal, score, "issues")
    assert by_issues(seen(GREEN)[0], issues, Policy()) == seen(GREEN)[0]


def test_beat_is_away_when_a_check_is_half_an_interval_late() -> None:
    assert not is_overdue(BEGAN + 1.5 * MINUTE, BEGAN, MINUTE)
    assert is_overdue(BEGAN + 1.6 * MINUTE, BEGAN, MINUTE)


def test_the_branch_of_a_revert_is_the_same_for_every_run() -> None:
    assert revert_branch(48, "0123456789abcdef" + "0" * 24) == "revert-48-0123456789ab"
