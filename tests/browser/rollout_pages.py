"""Rollouts in every state, with the longest names and many rows, for tests of the rollout's pages."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Group, User
from django.utils import timezone

from rollout import configuration, operations
from rollout.admin.postmortem import add_note
from rollout.models import Alert, Deployment, DeploymentState, Incident, Rollout, TelemetryEvent
from tests.canary import LIST, Canary

ONE_WORD = "x" * 300
REASON = f"Support hears of lost drafts since the last deployment: {ONE_WORD}, and more. " * 2
ADMIN = "/admin/rollout"


def long_name(what: str) -> str:
    """Return a feature's name of the maximum length."""
    return f"A_FEATURE_WITH_THE_LONGEST_NAME_{uuid.uuid4().hex.upper()}_{what}_".ljust(100, "X")


def canary(what: str, minutes: int, percentage: str = "10", **fields: Any) -> Canary:
    made = Canary(minutes=minutes, percentage=percentage, description="d" * 200, **fields)
    made.feature = long_name(what)
    Rollout.objects.filter(pk=made.pk).update(feature=made.feature)
    configuration.forget()
    return made


@dataclass(frozen=True, slots=True)
class Pages:
    """Addresses of the pages, by a name for messages, and the rollouts behind them."""

    paths: dict[str, str]
    canaries: dict[str, Canary]


def operator() -> User:
    """An administrator with the longest name."""
    user = User.objects.create_superuser("operator-" + uuid.uuid4().hex.ljust(141, "o"))
    user.groups.add(Group.objects.get(name="Administrator"))
    return user


def fill(actor: User) -> Pages:
    """Make rollouts in every state, and records of every kind."""
    canaries = {state.__name__: state(actor) for state in STATES}
    incident = Incident.objects.get(rollout=canaries["rolled_back"].pk)
    advised = Incident.objects.get(rollout=canaries["advised"].pk)
    for number in range(3):
        add_note(incident, by=actor.username, text=f"{number}: {ONE_WORD} " + "a b c " * 200)
    deployments = [each for each in deploy(actor) if each.revert_branch or each.monitored_since]
    alerts = list(Alert.objects.filter(rollout=incident.rollout_id).order_by("pk"))
    for alert, outcome in zip(alerts, OUTCOMES, strict=False):
        Alert.objects.filter(pk=alert.pk).update(**outcome)
    event = TelemetryEvent.objects.filter(flag=canaries["red"].feature).exclude(detail=None).latest("seq")
    red = canaries["red"].rollout.checks.latest("id")
    paths = {
        "start": "/admin/",
        "rollouts": LIST,
        "rollouts that are red": f"{LIST}?signal=red&state=live",
        "no rollout": f"{LIST}?q=nothing-like-it",
        "new rollout": f"{LIST}add/",
        **{f"rollout {state}": made.screen for state, made in canaries.items()},
        "history": f"{LIST}{canaries['changed'].pk}/history/",
        "incidents": f"{ADMIN}/incident/",
        "incident": f"{ADMIN}/incident/{incident.pk}/change/",
        "advised incident": f"{ADMIN}/incident/{advised.pk}/change/",
        "checks": f"{ADMIN}/check/",
        "check": f"{ADMIN}/check/{red.pk}/change/",
        "telemetry": f"{ADMIN}/telemetryevent/",
        "telemetry of a check": f"{ADMIN}/telemetryevent/?q=check:{red.pk}",
        "event": f"{ADMIN}/telemetryevent/{event.pk}/change/",
        "alerts": f"{ADMIN}/alert/",
        **{f"alert {number}": f"{ADMIN}/alert/{alert.pk}/change/" for number, alert in enumerate(alerts[:2])},
        "deployments": f"{ADMIN}/deployment/",
        **{f"deployment {each.state}": f"{ADMIN}/deployment/{each.pk}/change/" for each in deployments},
        **{f"no {name}": f"{ADMIN}/{name}/?until=2001-01-01" for name in EMPTY},
    }
    return Pages(paths, canaries)


EMPTY = ("incident", "check", "telemetryevent", "alert", "deployment")
OUTCOMES: list[dict[str, Any]] = [
    {"sent_at": timezone.now(), "attempts": 3},
    {"attempts": 5, "error": f"https://hooks.example.com answers 500: {ONE_WORD}"},
    {"skipped": True},
    {"attempts": 0},
]


# --- The states ---------------------------------------------------------------------------------------------------


def off(actor: User) -> Canary:
    return canary("OFF", 0, "0")


def green(actor: User) -> Canary:
    made = canary("GREEN", 12, "12.25")
    for _ in range(12):
        made.send("migration_succeeded", clients=15)
        made.send(clients=30, variant="legacy")
        made.check()
    return made


def yellow(actor: User) -> Canary:
    made = canary("YELLOW", 3, timeline="accelerated")
    made.send("migration_succeeded", clients=240)
    made.send("validation_error", clients=2)
    made.send("kill_switch_used", clients=1)
    made.check()
    made.send("migration_succeeded", "console_warning", clients=9)
    made.send(clients=7, variant=None)
    made.check()
    made.send("migration_failed", clients=1)
    made.check()
    return made


def red(actor: User) -> Canary:
    made = canary("RED", 4, "50", track_migrations=True)
    made.send("migration_succeeded", clients=30)
    made.send(clients=30, variant="legacy")
    made.check()
    made.send("migration_failed", "console_error", "made_up_event", clients=7, detail=ONE_WORD * 3)
    made.send("telemetry_dropped", clients=9, lost=1234)
    made.check()
    made.send("migration_failed", "console_error", "kill_switch_used", clients=25, age=900)
    made.send("migration_failed", "console_error", "kill_switch_used", clients=25)
    made.check()
    return made


def advised(actor: User) -> Canary:
    """Twice as many red checks as trip the breaker, and no automatic rollback."""
    made = canary("ADVISED", 6, "50", auto_rollback=False)
    made.send("migration_succeeded", clients=30)
    made.fail(6)
    return made


def weather(actor: User) -> Canary:
    """Everybody has errors."""
    made = canary("WEATHER", 3, "50")
    made.send("migration_succeeded", clients=30)
    made.send(clients=30, variant="legacy")
    made.check()
    for variant in ("fund-store", "legacy"):
        made.send("console_error", "error", clients=30, variant=variant)
    made.check()
    return made


def no_data(actor: User) -> Canary:
    made = canary("NO_DATA", 2)
    made.send(clients=3)
    made.check()
    made.check()
    return made


def late(actor: User) -> Canary:
    """Its judge is away."""
    made = canary("LATE", 4000)
    made.send("migration_succeeded", clients=30)
    made.check()
    return made


def unchecked(actor: User) -> Canary:
    return canary("UNCHECKED", 0)


def rolled_back(actor: User) -> Canary:
    made = canary("ROLLED_BACK", 6, "50")
    for _ in range(3):
        made.send("migration_succeeded", clients=30)
        made.check()
    made.fail()
    return made


def rolled_back_by_hand(actor: User) -> Canary:
    made = canary("BY_HAND", 2)
    operations.roll_back(made.feature, reason=REASON, actor=actor)
    return made


def held(actor: User) -> Canary:
    made = canary("HELD", 3)
    made.send("migration_succeeded", clients=30)
    made.check()
    operations.hold(made.feature, reason=REASON, actor=actor)
    made.check()
    return made


def stopped(actor: User) -> Canary:
    made = canary("STOPPED", 3)
    made.check()
    operations.stop(made.feature, reason=REASON, actor=actor)
    operations.configure(made.feature, {"enabled": False}, reason=REASON, actor=actor)
    return made


def full(actor: User) -> Canary:
    made = canary("FULL", 5, "100")
    for _ in range(4):
        made.send("migration_succeeded", clients=25)
        made.check()
    made.send("kill_switch_used", clients=6)
    made.check()
    return made


def complete(actor: User) -> Canary:
    made = canary("COMPLETE", 5, "100")
    operations.complete(made.feature, reason=REASON, actor=actor)
    return made


def changed(actor: User) -> Canary:
    """Two pages of changes, by a person and by the shell."""
    made = canary("CHANGED", 3, hash_version=1)
    for number in range(26):
        operations.set_percentage(made.feature, Decimal(number), reason=REASON, actor=actor)
        operations.configure(made.feature, {"description": ONE_WORD[: number + 1]}, reason=f"{number}")
    everybody = " ".join(sorted({f"user:{actor.pk}", "staff", "authenticated"}))
    operations.configure(
        made.feature, {"always": everybody, "never": "superusers"}, reason=REASON, actor=actor
    )
    return made


STATES: list[Callable[[User], Canary]] = [
    *(off, green, yellow, red, advised, weather, no_data, late, unchecked, rolled_back, rolled_back_by_hand),
    *(held, stopped, full, complete, changed),
]


def deploy(actor: User) -> list[Deployment]:
    """Record a deployment in each state."""
    now = timezone.now()
    return [
        Deployment.objects.create(
            pull_request=2_000_000_000 + int(uuid.uuid4()) % 100_000_000,
            title=f"Move {state.label}: {ONE_WORD}",
            branch="release/" + "b" * 247,
            commit=uuid.uuid4().hex + "0" * 8,
            commits=3,
            environment="e" * 100,
            deployed_by=actor.username,
            deployed_at=now - timedelta(minutes=8 + place),
            state=state,
            says="" if state == DeploymentState.DEPLOYED else f"Score 31 (red from 15): {ONE_WORD}",
            monitored_since=now if state == DeploymentState.DEPLOYED else None,
            revert_pull_request=2_147_483_647 if state == DeploymentState.ROLLED_BACK else None,
            revert_branch="revert-" + "b" * 240 if state == DeploymentState.ROLLED_BACK else "",
            revert_says=f"Conflicts in {ONE_WORD}." if state == DeploymentState.ROLLED_BACK else "",
        )
        for place, state in enumerate(DeploymentState)
    ]
