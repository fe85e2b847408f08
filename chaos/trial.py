"""One trial: clients create funds, a storm causes faults meanwhile, and the result is counted."""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from benchmarks.servers import free_port
from chaos.cluster.deployment import Cluster
from chaos.cluster.faults import BEFORE, Fault
from chaos.deployment import Crowd, Deployment
from chaos.disk import disk_full, small_disk
from chaos.failover import fail_over, replicated
from chaos.rolling import roll
from chaos.stack import Stack, running
from chaos.storms import Storm
from chaos.verdict import Journal, Verdict, judge, longest_pause

COLUMNS = (
    "storm",
    "faults",
    "requests",
    "turned away",
    "acknowledged",
    "lost",
    "doubled",
    "differing",
    "unexpected",
    "unanswered",
    "longest pause s",
)


@dataclass(frozen=True)
class Options:
    """``seconds`` of each storm, ``clients`` at once, ``seed`` of all random numbers."""

    seconds: float
    clients: int
    seed: int


@dataclass(frozen=True)
class Result:
    """The result of a trial. ``control``: the figure that must be more than 0, to show that the tool can detect it."""

    name: str
    faults: int
    journal: Journal
    verdict: Verdict
    control: str = ""
    complaints: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return True if the trial has the expected result."""
        if self.control:
            return bool(getattr(self.verdict, self.control))
        return bool(self.verdict) and not self.complaints

    def row(self) -> list[str]:
        name = f"{self.name} (control)" if self.control else self.name
        seen = self.journal
        counts = (self.faults, seen.requests, seen.turned_away, len(seen.acknowledgements))
        figures = [f"{count:,}" for count in (*counts, *asdict(self.verdict).values())]
        return [name, *figures, f"{longest_pause(seen):.1f}"]


def storm(stack: Stack, storm: Storm, options: Options) -> Result:
    """Run a storm: fault after fault until its time is over."""

    def harm() -> int:
        dice, faults = random.Random(options.seed), 0
        end = time.monotonic() + options.seconds
        while storm.harm and time.monotonic() < end:
            for wait in storm.harm(stack, dice):
                stack.look_after(wait)
            faults += 1
        stack.look_after(end - time.monotonic())
        return faults

    return _trial(stack, storm.name, options, harm)


def disk(options: Options) -> Result:
    """Run a storm on a disk that is small enough to fill."""
    with small_disk() as directory, running(directory, proxied=False) as stack:
        return storm(stack, Storm("disk", "", disk_full), options)


def failover(options: Options, *, synchronous: bool) -> Result:
    """Kill the primary of a deployment with a standby."""
    name = "failover" if synchronous else "failover-asynchronous"
    with replicated(synchronous=synchronous) as (stack, standby, between):

        def harm() -> int:
            fail_over(stack, standby, between)
            return 1

        return _trial(stack, name, options, harm, control="" if synchronous else "lost")


def rolling(options: Options, *, careless: bool) -> Result:
    """Deploy the next version."""
    name = "rolling-careless" if careless else "rolling"
    port = free_port()
    with running(proxied=False) as stack:

        def harm() -> int:
            roll(stack, port, careless=careless)
            return 1

        ports = (stack.port, port)
        return _trial(
            stack, name, options, harm, control="unexpected" if careless else "", ports=ports, strict=True
        )


def fail(cluster: Cluster, fault: Fault, options: Options, *, control: str = "") -> Result:
    """Cause a fault of a cluster's engines, and complain when writes are not back in time."""

    def harm() -> int:
        for wait in chain([BEFORE], fault.harm(cluster)):
            cluster.look_after(wait)
        return 1

    result = _trial(cluster, f"cluster-{fault.name}", options, harm, control=control)
    pause = longest_pause(result.journal)
    if fault.within is None or pause <= fault.within:
        return result
    late = f"writes were back after {pause:.1f} s (goal: {fault.within:g} s)"
    return replace(result, complaints=(*result.complaints, late))


def _trial(
    deployment: Deployment,
    name: str,
    options: Options,
    harm: Callable[[], int],
    *,
    control: str = "",
    **crowd_options: Any,
) -> Result:
    run = f"{name}-{uuid.uuid4().hex[:8]}"
    crowd = Crowd(deployment, run, clients=options.clients, seed=options.seed, **crowd_options)
    faults = harm()
    deployment.heal()
    journal = crowd.finish(deployment)
    funds = deployment.funds(run)  # before the replays, which would create lost funds again
    complaints, deployment.complaints = tuple(deployment.complaints), []
    return Result(
        name, faults, journal, judge(journal, funds, deployment.replays(journal)), control, complaints
    )
