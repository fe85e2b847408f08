"""Celery's way to Valkey: what hangs ends by itself, and environments that share a Valkey share no task."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from celery import Celery

from chaos.proxy import Proxy
from fundapi.addresses import broker
from rollout.models import Check
from tests.canary import Judged, judged_rollouts
from tests.eventually import eventually
from tests.reliability.test_purge_by_celery import celery
from tests.reliability.valkey import Valkey, private_valkey
from tests.servers import Server, database_url

BOUND = 45  # s: a time-out of 5 s at each step, and a pause before the connection is made again


@pytest.fixture
def traffic(server: Server) -> Iterator[Judged]:
    with judged_rollouts(server) as make:
        yield make


@pytest.fixture
def valkey(database: None) -> Iterator[Valkey]:
    with private_valkey() as running:
        yield running


@contextmanager
def checks_every_second(url: str, logs: Path) -> Iterator[None]:
    """A worker and a beat at a broker, each with a log."""
    env = {"DATABASE_URL": database_url(), "REDIS_URL": url, "ROLLOUT_CHECK_INTERVAL": "1"}
    with ExitStack() as stack:
        worker = (
            "worker",
            "--queues",
            "checks",
            "--concurrency",
            "1",
            "--without-gossip",
            "--without-mingle",
        )
        stack.enter_context(celery(env, logs / "worker.log", *worker))
        stack.enter_context(celery(env, logs / "beat.log", "beat", "--schedule", str(logs / "schedule")))
        yield


@pytest.mark.parametrize("back", [Proxy.resume, Proxy.strand])
def test_a_broker_connection_that_goes_silent_stops_the_checks_only_for_a_while(
    traffic: Judged, valkey: Valkey, tmp_path: Path, back: Callable[[Proxy], None]
) -> None:
    """After the silence its packets arrive again (``resume``), or only a new connection works (``strand``)."""
    canary = traffic()
    canary.send(clients=5)
    checks = Check.objects.filter(rollout=canary.pk)
    with (
        Proxy(str(valkey.socket)) as proxy,
        checks_every_second(f"redis://127.0.0.1:{proxy.port}/0", tmp_path),
    ):
        eventually(lambda: checks.count() >= 2, timeout=60)
        proxy.stall()
        made = checks.count()
        eventually(lambda: "beat" in (tmp_path / "beat.log").read_text(), timeout=60)
        back(proxy)
        eventually(lambda: checks.count() >= made + 3, timeout=BOUND)


def test_a_database_number_in_the_address_of_a_socket_reaches_celery(valkey: Valkey) -> None:
    url, _ = broker(f"{valkey.url}?db=3")
    Celery(broker=url).send_task("rollout.check")
    with redis.Redis.from_url(f"{valkey.url}?db=3") as three, redis.Redis.from_url(valkey.url) as zero:
        assert (three.llen("celery"), zero.keys()) == (1, [])
