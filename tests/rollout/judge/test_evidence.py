"""Evidence counts clients, not events."""

from uuid import UUID, uuid4

from rollout.judge.evidence import Behaviour, Counts, behaviours, count_new, gather
from rollout.judge.policy import Policy
from rollout.store import EventGroup

WITH = frozenset({"fund-store", "on"})


def row(event: str, client: UUID | None = None, *, ok: bool = True, **fields: object) -> EventGroup:
    client = client or uuid4()
    values = {"session": uuid4(), "category": "", "variant": "fund-store", "count": 1, "lost": 0}
    return EventGroup(client=client, event=event, ok=ok, **{**values, **fields})  # type: ignore[arg-type]


def new(*rows: EventGroup) -> Counts:
    """Return the counts of a stage whose first rows are these."""
    return count_new((0, int(flags), 1) for flags in behaviours(rows, WITH).values())


def test_a_flood_of_one_client_counts_once_for_each_class() -> None:
    client = uuid4()
    rows = [row("migration_failed", client, ok=False, count=5000), row("error", client, ok=False, count=900)]
    evidence = gather(rows, behaviours(rows, WITH), (), Policy())
    assert (evidence.score, evidence.points, evidence.clients) == (10, 52_700, 1)
    assert evidence.errors == {"migration": 5000, "default": 900}
    assert (new(*rows).failed, new(*rows).treatment_errors) == (1, 1)


def test_a_client_that_fails_after_a_success_is_a_failure() -> None:
    before, after = int(Behaviour.MIGRATED), int(Behaviour.MIGRATED | Behaviour.MIGRATION_FAILED)
    assert count_new([(before, after, 3)]) == Counts(succeeded=-3, failed=3)


def test_a_client_that_gets_the_feature_leaves_the_control_group_and_its_errors_stay_behind() -> None:
    client = uuid4()
    first = [row("heartbeat", client, variant="legacy"), row("error", client, ok=False, variant="legacy")]
    second = [row("heartbeat", client)]
    before = behaviours(first, WITH)[client]
    after = before | behaviours(second, WITH)[client]
    counted = count_new([(int(before), int(after), 1)])
    assert (counted.treatment, counted.control, counted.sample) == (1, -1, 1)
    assert (counted.treatment_errors, counted.control_errors) == (0, 0)


def test_the_sample_is_who_shows_a_heartbeat_and_may_have_the_feature() -> None:
    assert new(row("heartbeat")).sample == 1
    assert new(row("heartbeat", variant=None)).sample == 1  # it does not say
    assert new(row("heartbeat", variant="legacy")).sample == 0
    assert new(row("migration_succeeded")).sample == 0  # a bot, perhaps


def test_migration_failures_are_no_errors_to_compare() -> None:
    assert new(row("migration_failed", ok=False)).treatment_errors == 0


def test_losses_are_counted_by_client_and_are_no_events() -> None:
    client = uuid4()
    session = uuid4()
    rows = [
        row("telemetry_dropped", client, session=session, lost=7, variant=None),
        row("telemetry_dropped", client, session=session, lost=9, variant=None),
        row("heartbeat"),
    ]
    evidence = gather(rows, behaviours(rows, WITH), (), Policy())
    assert (evidence.events, evidence.lossy_clients, evidence.lost, evidence.clients) == (1, 1, 9, 2)


def test_sessions_count_beside_clients() -> None:
    client = uuid4()
    rows = [row("heartbeat", client), row("heartbeat", client), row("error", client, ok=False)]
    assert (new(*rows).sessions, new(*rows).error_sessions, new(*rows).sample) == (2, 1, 1)
