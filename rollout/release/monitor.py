"""Watches a deployment for a while, by what the judge sees, and takes it back when the breaker trips.

The judge's stored checks are followed; where Celery beat seems to be away, this process ticks. Two monitors of the
same deployment see the same, and what one of them does the other finds done.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec

from rollout import store
from rollout.conf import conf
from rollout.judge.decision import decide
from rollout.judge.evidence import Evidence
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal
from rollout.judge.state import Action, State
from rollout.models import Check, Deployment, DeploymentState, Rollout, Watch
from rollout.release import records
from rollout.release.decisions import (
    Outcome,
    Sighting,
    Verdict,
    by_issues,
    is_overdue,
    verdict,
    without_issues,
)
from rollout.release.errors import ReleaseError, Unavailable
from rollout.release.git import Git
from rollout.release.github import GitHub
from rollout.release.revert import take_back
from rollout.release.terminal import Result, Terminal
from rollout.tick import tick

NOT_CONFIGURED = "GITHUB_TOKEN or GITHUB_REPOSITORY is not set"
STATES = {
    Outcome.HEALTHY: DeploymentState.HEALTHY,
    Outcome.UNHEALTHY: DeploymentState.UNHEALTHY,
    Outcome.UNKNOWN: DeploymentState.DEPLOYED,
}


@dataclass(frozen=True, slots=True)
class Watching:
    """What to watch, and for how long."""

    duration: timedelta
    error_threshold: int  # points
    auto_revert: bool
    features: tuple[str, ...] = ()  # none named: every rollout that is under way
    restart: bool = False  # forget a monitoring that was interrupted


@dataclass
class Monitor:
    """One monitoring. ``github`` is ``None`` where it is not configured."""

    watching: Watching
    deployment: Deployment | None
    github: GitHub | None
    git: Git
    terminal: Terminal
    sightings: list[Sighting] = field(default_factory=list)
    seen: int = 0  # id of the latest check among them

    def run(self) -> Result:
        """Watch to the end, or until the breaker trips; then do what follows."""
        self._warn_of_what_could_not_be_reverted()
        features = self._under_way()
        if features:
            return self._conclude(self._watch(features))
        if back := self._already_back():
            return self._conclude(back)
        named = ", ".join(self.watching.features)
        return Result(
            Outcome.UNKNOWN,
            f"{named or 'No rollout'} is {'not ' if named else ''}under way, so nothing is judged. Give it to somebody "
            f"(manage.py rollout set FEATURE 10 --reason …), then run monitor_deployment.",
            self._details(),
        )

    def _warn_of_what_could_not_be_reverted(self) -> None:
        """Better now than at night."""
        if not self.watching.auto_revert:
            return
        if self.deployment is None:
            self.terminal.warn(
                "No deployment is recorded: the flag can be rolled back, and no commit be reverted."
            )
            return
        try:
            self.git.remote_branch(self.deployment.branch)
            if self.github is None:
                raise Unavailable(f"{NOT_CONFIGURED}.")
        except ReleaseError as error:
            self.terminal.warn(f"The flag can be rolled back, but no revert be opened. {error}")

    # --- Looking ----------------------------------------------------------------------------------------------

    def _under_way(self) -> list[str]:
        """Return what to watch: of the rollouts named, or else of all, those that are judged."""
        named = self.watching.features
        rollouts = Rollout.objects.filter(feature__in=named) if named else Rollout.objects.all()
        return [rollout.feature for rollout in rollouts if rollout.is_judged]

    def _already_back(self) -> Verdict | None:
        """Tell whether it was taken back before this monitoring began."""
        deployment = self.deployment
        if deployment is None:
            return None
        if deployment.state in {DeploymentState.ROLLED_BACK, DeploymentState.UNHEALTHY}:
            back = deployment.state == DeploymentState.ROLLED_BACK
            return Verdict(Outcome.UNHEALTHY, deployment.says, rolled_back=back)
        if incident := records.rolled_back_since(deployment, self.watching.features):
            says = f"The judge rolled {incident.rollout.feature} back: {incident.reason}"
            return Verdict(Outcome.UNHEALTHY, says, rolled_back=True)
        return None

    def _watch(self, features: Sequence[str]) -> Verdict:
        policy = replace(conf.policy, error_threshold=self.watching.error_threshold)
        since = self._since()
        until = since + self.watching.duration
        began = store.clock()
        poll = min(policy.check_interval / 4, timedelta(seconds=15))
        with self.terminal.progress("Monitoring", self.watching.duration.total_seconds()) as show:
            while True:
                now = store.clock()
                if now < until:  # never in a dry run, which only looks back
                    self._tick_if_overdue(features, began, now, policy)
                # Looked at first: where a check of the judge did it, that is there by then.
                taken_back = self._taken_back(features)
                for sighting in self._new_sightings(features, since, until, policy):
                    show((sighting.at - since).total_seconds(), _line(sighting))
                reached = verdict(
                    self.sightings,
                    breaker=policy.breaker_checks,
                    until=until,
                    now=now,
                    interval=policy.check_interval,
                )
                if ended := reached or taken_back:
                    return ended
                time.sleep(max(min(poll, until - store.clock()).total_seconds(), 0.05))

    def _since(self) -> datetime:
        """Return when this monitoring began: by an earlier run, if that was interrupted."""
        now = store.clock()
        if self.terminal.dry_run:  # looks back once, and waits for nothing
            return now - self.watching.duration
        if self.deployment is None:
            return now
        since = records.monitor_since(self.deployment, now, restart=self.watching.restart)
        if since < now:
            self.terminal.say(f"Goes on with the monitoring that began at {since:%Y-%m-%d %H:%M} UTC.")
        return since

    def _tick_if_overdue(
        self, features: Sequence[str], began: datetime, now: datetime, policy: Policy
    ) -> None:
        """Judge in Celery beat's stead. Should it be there after all, nothing is judged twice."""
        watches = Watch.objects.filter(rollout__feature__in=features).select_related("rollout")
        for watch in watches:
            judged_at = max(
                watch.checked_at or watch.rollout.stage_started_at, watch.rollout.stage_started_at
            )
            if watch.rollout.is_judged and is_overdue(now, judged_at, policy.check_interval):
                tick()
                return
        if not watches and is_overdue(now, began, policy.check_interval):
            tick()

    def _new_sightings(
        self, features: Sequence[str], since: datetime, until: datetime, policy: Policy
    ) -> list[Sighting]:
        checks = Check.objects.filter(
            rollout__feature__in=features, at__gte=since, at__lte=until, id__gt=self.seen
        ).select_related("rollout")
        new: list[Sighting] = []
        for check in checks.order_by("id"):
            new.append(sight(check, policy))
            self.seen = check.pk
        if any(sighting.silent for sighting in new):
            new = self._ask_github(new, since, policy)
        self.sightings += new
        return new

    def _ask_github(self, sightings: Sequence[Sighting], since: datetime, policy: Policy) -> list[Sighting]:
        """Let issues speak where browsers do not."""
        if self.github is None:
            return [without_issues(each, NOT_CONFIGURED) for each in sightings]
        try:
            opened = self.github.production_issues(self.deployment.deployed_at if self.deployment else since)
        except ReleaseError as error:
            return [without_issues(each, str(error)) for each in sightings]
        return [by_issues(each, sum(at <= each.at for at in opened), policy) for each in sightings]

    def _taken_back(self, features: Sequence[str]) -> Verdict | None:
        """Tell whether a person ended what is being watched: nobody gets any of it any more."""
        rollouts = list(Rollout.objects.filter(feature__in=features))
        if any(rollout.store_type == "fund-store" for rollout in rollouts):
            return None
        names = ", ".join(rollout.feature for rollout in rollouts)
        return Verdict(Outcome.UNHEALTHY, f"Somebody took {names} back to legacy meanwhile.")

    # --- Acting -----------------------------------------------------------------------------------------------

    def _conclude(self, reached: Verdict) -> Result:
        says, back = reached.says, reached.rolled_back
        if (reached.tripped or back) and self.watching.auto_revert:
            _, became = take_back(
                self.deployment,
                reached.features,
                reached.says,
                github=self.github,
                git=self.git,
                terminal=self.terminal,
            )
            says, back = f"{says} {became}", True
        elif reached.tripped:
            says = f"{says} Nothing was rolled back, for --auto-revert was not given."
        if self.deployment and not self.terminal.dry_run:
            state = DeploymentState.ROLLED_BACK if back else STATES[reached.outcome]
            records.conclude(self.deployment, state, reached.says)
        details = {**self._details(), "rolled_back": back and not self.terminal.dry_run}
        return Result(reached.outcome, says, details)

    def _details(self) -> dict[str, object]:
        return {
            "deployment": records.as_dict(self.deployment),
            "sightings": [_plain(each) for each in self.sightings],
        }


def sight(check: Check, policy: Policy) -> Sighting:
    """Return what a stored check says by the given error threshold: the judge's own decision, made again."""
    stored = msgspec.convert(check.policy, Policy, strict=False)
    decision = decide(
        msgspec.convert(check.state, State, strict=False),
        msgspec.convert(check.evidence, Evidence, strict=False),
        check.at,
        replace(stored, error_threshold=policy.error_threshold),
    )
    return Sighting(
        feature=check.rollout.feature,
        stage=check.stage,
        at=check.at,
        signal=decision.signal,
        score=check.score,
        says=decision.reason,
        silent=decision.signal is Signal.NO_DATA and not check.evidence["heartbeats"],
        action=Action(check.action),
    )


def _line(sighting: Sighting) -> str:
    return f"{sighting.at:%H:%M:%S} {sighting.feature}: {sighting.says}"


def _plain(sighting: Sighting) -> dict[str, object]:
    document: dict[str, object] = msgspec.to_builtins(sighting)
    return document
