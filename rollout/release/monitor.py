"""Monitor a deployment by the judge's checks, and revert it when the breaker trips.

The monitor reads the judge's stored checks. When Celery beat seems not to run, this process runs the checks itself. Two
monitors of one deployment read the same checks, and do nothing twice.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import msgspec

from rollout import store
from rollout.conf import conf
from rollout.faults import first_line
from rollout.judge.decision import Decision
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal
from rollout.judge.state import Action
from rollout.models import Check, Deployment, DeploymentState, Rollout, Watch
from rollout.release import records
from rollout.release.canary import obstacle
from rollout.release.decisions import (
    Observation,
    Outcome,
    Verdict,
    by_issues,
    is_overdue,
    verdict,
    without_issues,
)
from rollout.release.errors import ReleaseError, Unavailable
from rollout.release.git import Git
from rollout.release.github import GitHub
from rollout.release.outages import is_outage, outlive
from rollout.release.revert import take_back
from rollout.release.terminal import Result, Terminal
from rollout.tick import EarlierRules, replay, tick

ISSUES_WAIT = 20  # s; a GitHub that hangs must not keep the monitor from the next check
NOT_CONFIGURED = "GITHUB_TOKEN or GITHUB_REPOSITORY is not set"
CONCLUDE_WAIT = 600  # s for the database when the flag must go back
STATES = {
    Outcome.HEALTHY: DeploymentState.HEALTHY,
    Outcome.UNHEALTHY: DeploymentState.UNHEALTHY,
    Outcome.UNKNOWN: DeploymentState.DEPLOYED,
}


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """The rollouts to monitor, for how long, and by which threshold."""

    duration: timedelta
    error_threshold: int  # points
    auto_revert: bool
    features: tuple[str, ...] = ()  # none: every rollout under way
    restart: bool = False  # begin anew after an interrupted monitoring


@dataclass
class Monitor:
    """One monitoring. ``github`` is ``None`` when it is not configured."""

    options: MonitorOptions
    deployment: Deployment | None
    github: GitHub | None
    git: Git
    terminal: Terminal
    observations: list[Observation] = field(default_factory=list)
    latest_check: int = 0  # id of the latest check among them

    def run(self) -> Result:
        """Monitor to the end or until the breaker trips, then revert or record the result."""
        self._warn_of_what_could_not_be_reverted()
        features = outlive(self._under_way, terminal=self.terminal)
        reached = self._watch(features) if features else outlive(self._already_back, terminal=self.terminal)
        if reached is None:
            return outlive(self._nothing_to_monitor, terminal=self.terminal)
        try:
            return outlive(partial(self._conclude, reached), terminal=self.terminal, seconds=CONCLUDE_WAIT)
        except Unavailable as error:
            says = (
                f"{reached.says} That could be neither acted on nor recorded. {error} Run the command again."
            )
            return Result(Outcome.UNKNOWN, says, self._details())

    def _nothing_to_monitor(self) -> Result:
        named = self.options.features
        rollouts = Rollout.objects.filter(feature__in=named) if named else Rollout.objects.all()
        states = "; ".join(f"{each.feature} {obstacle(each) or 'is at 0 %'}" for each in rollouts)
        return Result(
            Outcome.UNKNOWN,
            f"{', '.join(named) or 'No rollout'} is {'not ' if named else ''}under way: there is nothing to monitor. "
            f"{states or 'There is no rollout'}. Set a percentage (manage.py rollout set FEATURE 10 --reason …), then "
            f"run monitor_deployment.",
            self._details(),
        )

    def _warn_of_what_could_not_be_reverted(self) -> None:
        """Warn at the start of what would prevent a revert later."""
        if not self.options.auto_revert:
            return
        if self.deployment is None:
            self.terminal.warn(
                "No deployment is recorded: the flag can be rolled back, but no commit can be reverted."
            )
            return
        try:
            self.git.remote_branch(self.deployment.branch)
            if self.github is None:
                raise Unavailable(f"{NOT_CONFIGURED}.")
        except ReleaseError as error:
            self.terminal.warn(f"The flag can be rolled back, but no revert can be opened. {error}")

    # --- Looking ----------------------------------------------------------------------------------------------

    def _under_way(self) -> list[str]:
        """Return the rollouts to monitor: those under way, of the named ones or of all."""
        named = self.options.features
        rollouts = Rollout.objects.filter(feature__in=named) if named else Rollout.objects.all()
        return [rollout.feature for rollout in rollouts if rollout.is_judged]

    def _already_back(self) -> Verdict | None:
        """Return a verdict if the deployment was rolled back before this monitoring began."""
        deployment = self.deployment
        if deployment is None:
            return None
        if deployment.state in {DeploymentState.ROLLED_BACK, DeploymentState.UNHEALTHY}:
            back = deployment.state == DeploymentState.ROLLED_BACK
            return Verdict(Outcome.UNHEALTHY, deployment.says, rolled_back=back)
        if incident := records.rolled_back_since(deployment, self.options.features):
            says = f"The judge rolled {incident.rollout.feature} back: {incident.reason}"
            return Verdict(Outcome.UNHEALTHY, says, rolled_back=True)
        return None

    def _watch(self, features: Sequence[str]) -> Verdict:
        policy = replace(conf.policy, error_threshold=self.options.error_threshold)
        poll = min(policy.check_interval / 4, timedelta(seconds=15)).total_seconds()
        since, began = outlive(lambda: (self._since(), store.clock()), terminal=self.terminal)
        until, left = since + self.options.duration, self.options.duration.total_seconds()
        with self.terminal.progress("Monitoring", self.options.duration.total_seconds()) as show:

            def look() -> tuple[Verdict | None, float]:
                now = store.clock()
                if now < until:  # never in a dry run, which only reads past checks
                    self._tick_if_overdue(features, began, now, policy)
                # Read before the checks: a rollback by the judge then has its check among them.
                taken_back = self._taken_back(features)
                for observation in self._new_observations(features, since, until, policy):
                    show((observation.at - since).total_seconds(), _line(observation))
                reached = verdict(
                    self.observations,
                    breaker=policy.breaker_checks,
                    until=until,
                    now=now,
                    interval=policy.check_interval,
                )
                return reached or taken_back, (until - store.clock()).total_seconds()

            while True:
                ended, left = outlive(look, terminal=self.terminal, seconds=left)
                if ended:
                    return ended
                time.sleep(max(min(poll, left), 0.05))

    def _since(self) -> datetime:
        """Return when this monitoring began: now, or with an earlier run that was interrupted."""
        now = store.clock()
        if self.terminal.dry_run:  # it reads past checks and does not wait
            return now - self.options.duration
        if self.deployment is None:
            return now
        since = records.monitor_since(self.deployment, now, restart=self.options.restart)
        if since < now:
            self.terminal.say(f"Continuing the monitoring that began at {since:%Y-%m-%d %H:%M} UTC.")
        return since

    def _tick_if_overdue(
        self, features: Sequence[str], began: datetime, now: datetime, policy: Policy
    ) -> None:
        """Run the checks if Celery beat does not. If it does after all, no check is made twice."""
        watches = Watch.objects.filter(rollout__feature__in=features).select_related("rollout")
        for watch in watches:
            judged_at = max(
                watch.checked_at or watch.rollout.stage_started_at, watch.rollout.stage_started_at
            )
            if watch.rollout.is_judged and is_overdue(now, judged_at, policy.check_interval):
                tick(on_failure=self._check_failed)
                return
        if not watches and is_overdue(now, began, policy.check_interval):
            tick(on_failure=self._check_failed)

    def _check_failed(self, _event: str, feature: str, error: Exception) -> None:
        """Say why a check failed, once; an outage of the database ends the tick."""
        if is_outage(error):
            raise error
        self.terminal.warn_once(
            f"The check of {feature} failed: {type(error).__name__}: {first_line(error)}."
        )

    def _new_observations(
        self, features: Sequence[str], since: datetime, until: datetime, policy: Policy
    ) -> list[Observation]:
        checks = Check.objects.filter(
            rollout__feature__in=features, at__gte=since, at__lte=until, id__gt=self.latest_check
        ).select_related("rollout")
        found = list(checks.order_by("id"))
        new = [observe(check, policy) for check in found]
        if any(observation.silent for observation in new):
            new = self._ask_github(new, since, policy)
        self.observations += new
        self.latest_check = found[-1].pk if found else self.latest_check
        return new

    def _ask_github(
        self, observations: Sequence[Observation], since: datetime, policy: Policy
    ) -> list[Observation]:
        """Score GitHub's production issues where telemetry is silent."""
        if self.github is None:
            return [without_issues(each, NOT_CONFIGURED) for each in observations]
        try:
            with self.github.within(ISSUES_WAIT):
                opened = self.github.production_issues(
                    self.deployment.deployed_at if self.deployment else since
                )
        except ReleaseError as error:
            return [without_issues(each, str(error)) for each in observations]
        return [by_issues(each, sum(at <= each.at for at in opened), policy) for each in observations]

    def _taken_back(self, features: Sequence[str]) -> Verdict | None:
        """Return a verdict if a person has taken back every rollout that is monitored."""
        rollouts = list(Rollout.objects.filter(feature__in=features))
        if any(rollout.is_live for rollout in rollouts):
            return None
        names = ", ".join(rollout.feature for rollout in rollouts)
        return Verdict(Outcome.UNHEALTHY, f"A person took {names} back to {conf.without} meanwhile.")

    # --- Acting -----------------------------------------------------------------------------------------------

    def _conclude(self, reached: Verdict) -> Result:
        says, back = reached.says, reached.rolled_back
        if (reached.tripped or back) and self.options.auto_revert:
            _, revert_result = take_back(
                self.deployment,
                reached.features,
                reached.says,
                github=self.github,
                git=self.git,
                terminal=self.terminal,
            )
            says, back = f"{says} {revert_result}", True
        elif reached.tripped:
            says = f"{says} Nothing was rolled back: --auto-revert was not given."
        if self.deployment and not self.terminal.dry_run:
            state = DeploymentState.ROLLED_BACK if back else STATES[reached.outcome]
            records.conclude(self.deployment, state, reached.says)
        details = {**self._details(), "rolled_back": back and not self.terminal.dry_run}
        return Result(reached.outcome, says, details)

    def _details(self) -> dict[str, object]:
        return {
            "deployment": records.as_dict(self.deployment),
            "sightings": [_plain(each) for each in self.observations],
        }


def observe(check: Check, policy: Policy) -> Observation:
    """Return a stored check as an observation, decided again with the given error threshold.

    One that an earlier version decided stays as it was decided.
    """
    stored = msgspec.convert(check.policy, Policy, strict=False)
    try:
        decision = replay(check, policy=replace(stored, error_threshold=policy.error_threshold))
    except EarlierRules:
        decision = msgspec.convert(check.decision, Decision, strict=False)
    alive = check.evidence.get("feature", {}).get("active") or check.evidence.get("heartbeats")
    return Observation(
        feature=check.rollout.feature,
        stage=check.stage,
        at=check.at,
        signal=decision.signal,
        score=check.score,
        says=decision.reason,
        fresh=decision.carry.reds > check.state["carry"]["reds"],
        silent=decision.signal is Signal.NO_DATA and not alive,
        action=Action(check.action),
    )


def _line(observation: Observation) -> str:
    return f"{observation.at:%H:%M:%S} {observation.feature}: {observation.says}"


def _plain(observation: Observation) -> dict[str, object]:
    document: dict[str, object] = msgspec.to_builtins(observation)
    return document
