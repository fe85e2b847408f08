"""Evidence counts voices, not events."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from rollout.judge.evidence import Behaviour, Counts, Evidence, behaviours, count_new, gather
from rollout.judge.policy import Policy
from rollout.store import EventGroup

WITH = frozenset({"fund-store", "on"})


def row(event: str, voice: UUID | None = None, *, ok: bool = True, **fields: object) -> EventGroup:
    voice = voice or uuid4()
    trusted = fields.setdefault("trusted", True)
    values: dict[str, object] = {
        "client": voice if trusted else None,
        "session": uuid4() if trusted else None,
        "server": False,
        "flagged": True,
        "variant": "fund-store",
        "category": "",
        "count": 1,
        "lost": 0,
    }
    return EventGroup(voice=voice, event=event, ok=ok, **{**values, **fields})  # type: ignore[arg-type]  # by name


def new(*rows: EventGroup, unsigned: bool = False) -> Counts:
    """Return the counts of a stage whose first rows are these."""
    return count_new((0, int(flags), 1) for flags in behaviours(rows, WITH).values())[unsigned]


def evidence(*rows: EventGroup, windows: int = 1) -> Evidence:
    return gather(rows, (), Policy(), variants_with=WITH, windows=windows)


def test_a_flood_of_one_client_counts_once_for_each_class() -> None:
    client = uuid4()
    rows = [row("migration_failed", client, ok=False, count=5000), row("error", client, ok=False, count=900)]
    seen = evidence(*rows)
    assert (seen.feature.score, seen.feature.points, seen.feature.failing, seen.clients) == (10, 52_700, 1, 1)
    assert seen.errors == {"migration": 5000, "default": 900}
    assert (new(*rows).failed, new(*rows).treatment_errors) == (1, 1)


def test_the_cap_of_a_client_grows_with_the_window_as_the_limits_do() -> None:
    assert evidence(row("error", ok=False, count=900), windows=60).feature.score == 600


def test_a_client_that_fails_after_a_success_is_a_failure() -> None:
    before, after = int(Behaviour.MIGRATED), int(Behaviour.MIGRATED | Behaviour.MIGRATION_FAILED)
    assert count_new([(before, after, 3)])[0] == Counts(succeeded=-3, failed=3)


def test_a_client_that_gets_the_feature_leaves_the_control_group_and_its_errors_stay_behind() -> None:
    client = uuid4()
    first = [row("heartbeat", client, variant="legacy"), row("error", client, ok=False, variant="legacy")]
    second = [row("heartbeat", client)]
    before = behaviours(first, WITH)[client]
    after = before | behaviours(second, WITH)[client]
    counted, _ = count_new([(int(before), int(after), 1)])
    assert (counted.treatment, counted.control, counted.assigned, counted.unassigned) == (1, -1, 0, 0)
    assert (counted.treatment_errors, counted.control_errors) == (0, 0)


def test_the_sample_is_who_shows_a_heartbeat_and_says_that_it_has_the_feature() -> None:
    assert new(row("heartbeat")).treatment == 1
    assert new(row("heartbeat", variant=None)).treatment == 0
    assert new(row("heartbeat", flagged=False)).treatment == 0
    assert new(row("heartbeat", variant="legacy")).treatment == 0
    assert new(row("migration_succeeded")).treatment == 0  # a bot, perhaps


def test_migration_failures_and_warnings_are_no_errors_to_compare() -> None:
    assert new(row("migration_failed", ok=False)).treatment_errors == 0
    assert new(row("console_warning", ok=False)).treatment_errors == 0
    assert new(row("console_error", ok=False)).treatment_errors == 1


@pytest.mark.parametrize(
    ("fields", "side"),
    [
        ({}, "feature"),
        ({"variant": "legacy"}, "baseline"),
        ({"variant": None}, "unknown"),
        ({"flagged": False}, "unknown"),
        ({"trusted": False}, "unsigned"),
        ({"trusted": False, "variant": "legacy"}, "unsigned_baseline"),
        ({"trusted": False, "variant": None}, "unknown"),
        ({"server": True}, "server"),
        ({"server": True, "variant": "legacy"}, "server_baseline"),
    ],
)
def test_each_failure_counts_on_one_side(fields: dict[str, Any], side: str) -> None:
    seen = evidence(row("console_error", ok=False, **fields), row("heartbeat", **fields))
    names = [name for name in Evidence.__dataclass_fields__ if getattr(getattr(seen, name), "score", 0)]
    assert names == [side]
    found = getattr(seen, side)
    assert (found.score, found.failing, found.console_errors) == (3, 1, 1)
    assert found.active == (2 if fields.get("server") else 1)
    assert bool(seen.errors) is not side.endswith("baseline")


def test_a_network_s_voice_is_one_and_counts_apart() -> None:
    network = uuid4()
    rows = [
        row(name, network, ok=False, trusted=False) for name in ("migration_failed", "error", "heartbeat")
    ]
    assert (new(*rows), new(*rows, unsigned=True).failed) == (Counts(), 1)
    seen = evidence(*rows)
    assert (seen.unsigned.score, seen.networks, seen.unsigned_events) == (10, 1, 3)


def test_an_unknown_client_migrates_for_nobody() -> None:
    rows = [row("migration_failed", ok=False, variant=None), row("migration_succeeded", variant=None)]
    assert (new(*rows).failed, new(*rows).succeeded) == (0, 0)


def test_a_kill_switch_counts_for_whoever_had_the_feature() -> None:
    client = uuid4()
    assert new(row("heartbeat", client), row("kill_switch_used", client, variant="legacy")).kill_switch == 1
    assert new(row("kill_switch_used", variant="legacy")).kill_switch == 0
    assert new(row("heartbeat", client), row("kill_switch_used", client, flagged=False)).kill_switch == 0


def test_losses_are_counted_by_client_and_are_no_events() -> None:
    client = uuid4()
    session = uuid4()
    rows = [
        row("telemetry_dropped", client, session=session, lost=7, variant=None),
        row("telemetry_dropped", client, session=session, lost=9, variant=None),
        row("telemetry_dropped", lost=9, variant=None, trusted=False),
        row("heartbeat"),
    ]
    seen = evidence(*rows)
    assert (seen.events, seen.lossy_clients, seen.lost, seen.clients) == (1, 1, 9, 3)


def test_sessions_count_beside_clients() -> None:
    client = uuid4()
    rows = [row("heartbeat", client), row("heartbeat", client), row("error", client, ok=False)]
    assert (new(*rows).sessions, new(*rows).error_sessions, new(*rows).treatment) == (2, 1, 1)
    assert new(row("error", ok=False, variant="legacy")).error_sessions == 0


def test_a_user_has_one_session_and_one_with_failures_in_a_check() -> None:
    user = uuid4()
    beats = [row("heartbeat", user, client=uuid4()) for _ in range(3)]
    failures = [row("error", user, client=uuid4(), ok=False) for _ in range(3)]
    counts = new(*beats, *failures)
    assert (counts.sessions, counts.error_sessions, counts.treatment) == (1, 1, 1)


def test_a_user_whose_every_session_fails_is_counted_each_time() -> None:
    user = uuid4()
    visits = [
        behaviours(
            [row("heartbeat", user, client=uuid4()), row("error", user, client=uuid4(), ok=False)], WITH
        )
        for _ in range(3)
    ]
    flags = [int(each) for visit in visits for who, each in visit.items() if who != user]
    counts, _ = count_new((0, each, 1) for each in flags)
    assert (counts.sessions, counts.error_sessions) == (3, 3)


def test_in_the_first_check_of_a_stage_nobody_counts_for_the_sample_ratio() -> None:
    flags = behaviours([row("heartbeat"), row("heartbeat", variant="legacy")], WITH, first_check=True)
    counts, _ = count_new((0, int(each), 1) for each in flags.values())
    assert (counts.treatment, counts.control, counts.assigned, counts.unassigned) == (1, 1, 0, 0)


def test_a_user_counts_for_the_sample_ratio_once_by_one_browser() -> None:
    user, low, high = uuid4(), UUID(int=1), UUID(int=2)
    legacy, feature = (
        row("heartbeat", user, client=low, variant="legacy"),
        row("heartbeat", user, client=high),
    )
    counts = new(legacy, feature)
    assert (counts.treatment, counts.assigned, counts.unassigned) == (1, 0, 1)
    assert new(feature, legacy) == counts
    before = behaviours([legacy], WITH)[user]
    after = before | behaviours([feature], WITH)[user]
    later, _ = count_new([(int(before), int(after), 1)])
    assert (later.assigned, later.unassigned) == (0, 0)
