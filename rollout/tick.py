"""Check every rollout: a thin shell around :func:`rollout.judge.decision.decide`.

Re-entrant. A check locks the rollout's row and stores, in one transaction, the sequence number up to which it has read,
the check with its evidence, the flag and the new stage. :func:`settle` then records the incident and the alerts; if
that is interrupted, the next tick finishes it, once.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID

import msgspec
from django.db import connection, transaction

from rollout import metrics, operations, store
from rollout.alerts import outbox
from rollout.conf import conf
from rollout.judge.decision import AlertKind, Decision, decide, windows_of
from rollout.judge.events import BY_CATEGORY, BY_NAME
from rollout.judge.evidence import Behaviour, Evidence, behaviours, gather
from rollout.judge.policy import Policy
from rollout.judge.state import Action, Carry, State
from rollout.models import Check, Incident, Rollout, Watch
from rollout.store import EventGroup

logger = logging.getLogger(__name__)

EARLY = 0.75  # of the interval: two beats at once must check once; a beat that is a little early must check


OnFailure = Callable[[str, str, Exception], None]  # takes the event of the log, the feature and the error


def log_failure(event: str, feature: str, error: Exception) -> None:
    """Log an error with its traceback."""
    logger.error(event, exc_info=error, extra={"feature": feature})


def tick(
    *, at: datetime | None = None, only_due: bool = True, on_failure: OnFailure = log_failure
) -> list[Check]:
    """Check every rollout that is judged, and return the checks.

    An error in one rollout's check is counted and given to ``on_failure``; the others are still checked.

    Args:
        at: time of the checks, for rehearsals; else the database's.
        only_due: skip rollouts that were checked less than 3/4 of an interval ago, as the beat must. ``False`` is for a
            person who asks for a check, and gets one if telemetry has arrived.
        on_failure: called with each error, in place of the log.
    """
    upto, now = store.fence()
    made: list[Check] = []
    for feature in Rollout.objects.values_list("feature", flat=True):
        try:
            with metrics.check_duration.time():
                checked = check(feature, upto=upto, now=at or now, only_due=only_due)
        except Exception as error:  # one rollout's fault must not stop the checks of the others
            connection.close_if_unusable_or_obsolete()  # it may have been cut off inside a COMMIT
            if interrupt := _interrupt_behind(error):
                raise interrupt from error
            metrics.check_failures.labels(feature).inc()
            on_failure("rollout_check_failed", feature, error)
            continue
        if checked:
            _report(feature, checked)
            made.append(checked)
    settle_all(on_failure)  # last: alerts must not delay rollbacks
    return made


def check(
    feature: str, *, upto: int, now: datetime, only_due: bool = True, policy: Policy | None = None
) -> Check | None:
    """Check one rollout by its telemetry up to a sequence number, and act. ``None``: no check is due or needed.

    :func:`tick` does the metrics and the log, because a rehearsal must not appear in them. A rehearsal may have a
    policy of its own.
    """
    policy = policy or conf.policy
    with transaction.atomic():
        rollout = Rollout.objects.select_for_update().get(feature=feature)
        watch, _ = Watch.objects.get_or_create(rollout=rollout, defaults={"watermark": upto})
        watch.rollout = rollout  # the locked row, without another query
        if not rollout.is_judged:
            Watch.objects.filter(pk=watch.pk, watermark__lt=upto).update(watermark=upto)
            return None
        since = _since_latest(watch, upto, now, policy)
        early = since is not None and since < EARLY * policy.check_interval
        overtaken = upto < watch.watermark or (since is not None and since < timedelta(0))
        if overtaken or (early and only_due):
            return None
        rows, unjudged = _window(watch, upto, policy)
        if early and not rows:
            return None
        state = state_of(rollout, watch)
        evidence = _evidence(watch, rows, unjudged, policy, windows=windows_of(state, now, policy))
        decision = decide(state, evidence, now, policy)
        made = _record(rollout, watch, upto, now, (state, evidence, policy, decision))
        watch.watermark, watch.checked_at, watch.carry = upto, now, plain(decision.carry)
        watch.save()
        act(rollout, decision, now)  # a new stage begins with an empty watch
    settle(made)
    return made


def _since_latest(watch: Watch, upto: int, now: datetime, policy: Policy) -> timedelta | None:
    """Return the time since the stage's latest check; ``None`` if none counts."""
    if watch.checked_at is None:
        return None
    since = now - watch.checked_at
    if since < -policy.check_interval and upto > watch.watermark:
        # The clock was set back: a late beat would not know of later events. The earlier times mean nothing now,
        # and a red check must not wait until the clock reaches them.
        logger.warning("rollout_clock_set_back", extra={"feature": watch.rollout.feature})
        return None
    return since


def _window(watch: Watch, upto: int, policy: Policy) -> tuple[list[EventGroup], Counter[str]]:
    """Return the telemetry since the latest check, and the number of events that are not judged, by reason."""
    return store.window(
        watch.rollout.feature,
        after=watch.watermark,
        upto=upto,
        began_at=watch.began_at,
        age_max=policy.event_age_max,
        unsigned=policy.unsigned_telemetry,
        known=store.Known(tuple(conf.variants_with), tuple(BY_NAME), tuple(BY_CATEGORY)),
    )


def _evidence(
    watch: Watch, rows: list[EventGroup], unjudged: Counter[str], policy: Policy, *, windows: int
) -> Evidence:
    """Return the evidence of a check, and remember whom it saw in the stage."""
    first_check = watch.checked_at is None
    flags = behaviours(rows, conf.variants_with, first_check=first_check)
    if capped := _over_cap(rows, flags, watch, policy):
        unjudged = unjudged + Counter(capped=sum(row.count for row in rows if row.voice in capped))
        rows = [row for row in rows if row.voice not in capped]
        flags = behaviours(rows, conf.variants_with, first_check=first_check)
    changes = store.remember(watch.rollout_id, watch.stage, flags)
    return gather(rows, changes, policy, variants_with=conf.variants_with, windows=windows, unjudged=unjudged)


def _over_cap(
    rows: list[EventGroup], flags: Mapping[UUID, Behaviour], watch: Watch, policy: Policy
) -> set[UUID]:
    """Return the clients by which networks pass their cap, where each client id is a voice."""
    if policy.unsigned_telemetry != "full" or not policy.network_clients_max:
        return set()
    # Without flags a client is not remembered, and would be new again.
    clients = {row.voice: row.network for row in rows if row.network and flags[row.voice]}
    return store.over_cap(watch.rollout_id, watch.stage, clients, most=policy.network_clients_max)


def _interrupt_behind(error: BaseException | None) -> BaseException | None:
    """Return the Ctrl-C behind an error: Django's clean-up after a COMMIT fails because of it, and hides it."""
    while isinstance(error, Exception):
        error = error.__context__
    return error


def _report(feature: str, check: Check) -> None:
    """Count a check, and log it."""
    metrics.checks.labels(feature, check.signal).inc()
    if check.action != Action.NONE:
        metrics.actions.labels(feature, check.action).inc()
    for unjudged, events in check.evidence["unjudged"].items():
        metrics.unjudged.labels(feature, unjudged).inc(events)
    reason = check.decision["reason"]
    logger.info("rollout_check", extra={"feature": feature, "signal": check.signal, "reason": reason})


def state_of(rollout: Rollout, watch: Watch) -> State:
    """Return the state of a rollout for :func:`~rollout.judge.decision.decide`."""
    return State(
        feature=rollout.feature,
        percentage=rollout.percentage,
        stage_started_at=rollout.stage_started_at,
        timeline=rollout.timeline,
        on_hold=rollout.on_hold,
        auto_rollback=rollout.auto_rollback,
        carry=msgspec.convert(watch.carry, Carry, strict=False),
        track_migrations=rollout.track_migrations,
    )


def act(rollout: Rollout, decision: Decision, now: datetime) -> None:
    """Carry out a decision, by the same functions as the admin's buttons."""
    reason = f"judge: {decision.reason}"
    match decision.action:
        case Action.ROLL_BACK:
            operations.roll_back(rollout.feature, reason=reason, at=now, logged=False)  # settle() does
        case Action.PROMOTE if decision.target is not None:
            operations.set_percentage(rollout.feature, decision.target, reason=reason, at=now)
        case Action.COMPLETE:
            operations.complete(rollout.feature, reason=reason, at=now)


def _record(
    rollout: Rollout,
    watch: Watch,
    upto: int,
    now: datetime,
    judged: tuple[State, Evidence, Policy, Decision],
) -> Check:
    state, evidence, policy, decision = judged
    return Check.objects.create(
        rollout=rollout,
        stage=watch.stage,
        at=now,
        after_seq=watch.watermark,
        upto_seq=upto,
        signal=decision.signal,
        action=decision.action,
        percentage=rollout.percentage,
        score=evidence.feature.score,
        state=plain(state),
        evidence=plain(evidence),
        policy=plain(policy),
        decision=plain(decision),
        settled=not decision.alerts,
    )


def plain(value: State | Evidence | Policy | Decision | Carry) -> dict[str, object]:
    """Return data of the judge as JSON has it; ``msgspec.convert(…, strict=False)`` restores it."""
    document: dict[str, object] = msgspec.to_builtins(value)
    return document


class EarlierRules(Exception):
    """The check was decided by the rules of an earlier version, which this one does not have."""


def replay(check: Check, *, policy: Policy | None = None) -> Decision:
    """Decide a past check again, from the data stored with it, or with another policy.

    Raises:
        EarlierRules: read its stored decision instead.
    """
    if check.decision.get("thresholds") is None:
        raise EarlierRules
    return decide(
        msgspec.convert(check.state, State, strict=False),
        msgspec.convert(check.evidence, Evidence, strict=False),
        check.at,
        policy or msgspec.convert(check.policy, Policy, strict=False),
    )


# --- Incidents and alerts ------------------------------------------------------------------------------------------


def settle_all(on_failure: OnFailure = log_failure) -> None:
    """Settle each check that is not settled yet; one check's fault must not stop the others."""
    for unsettled in Check.objects.filter(settled=False).order_by("id"):
        try:
            settle(unsettled)
        except Exception as error:  # noqa: BLE001 - one check's fault must not stop the others
            metrics.check_failures.labels(unsettled.rollout.feature).inc()
            on_failure("rollout_settle_failed", unsettled.rollout.feature, error)
    outbox.resend()


def settle(check: Check) -> None:
    """Record the incident and the alerts of a check, once."""
    if check.settled:
        return
    with transaction.atomic():
        check = Check.objects.select_for_update(of=("self",)).select_related("rollout").get(pk=check.pk)
        if check.settled:
            return
        decision = msgspec.convert(check.decision, Decision, strict=False)
        if {AlertKind.ROLLED_BACK, AlertKind.TRIPPED} & set(decision.alerts):
            incident, new = Incident.objects.get_or_create(
                check_made=check,
                defaults={
                    "rollout": check.rollout,
                    "stage": check.stage,
                    "began_at": _first_red(check),
                    "tripped_at": check.at,
                    "percentage": check.percentage,
                    "rolled_back": decision.action is Action.ROLL_BACK,
                    "reason": decision.reason,
                },
            )
            if new and incident.rolled_back:
                transaction.on_commit(partial(_log_rollback, incident))
        outbox.create(check, decision)
        check.settled = True
        check.save(update_fields=["settled"])


def _log_rollback(incident: Incident) -> None:
    operations.log_way_back(
        "rollout_rolled_back",
        incident.rollout.feature,
        incident.percentage,
        Decimal(0),
        reason=incident.reason,
        incident=incident.pk,
    )


def _first_red(check: Check) -> datetime:
    """Return the time of the first of the consecutive red checks; checks without data do not end the row."""
    earlier = Check.objects.filter(rollout=check.rollout, stage=check.stage, id__lte=check.pk)
    calm = earlier.filter(signal__in=["green", "yellow"]).order_by("-id").first()
    red = earlier.filter(signal="red", id__gt=calm.pk if calm else 0).order_by("id").first()
    return red.at if red else check.at
