"""Celery's way to Valkey: what hangs ends by itself, and environments that share a Valkey share no task."""

import time
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

BOUND = 45  # s: time-outs of 2 s, several one after another, and pauses before a connection is made again


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
        time.sleep(3)
        back(proxy)
        eventually(lambda: checks.count() >= made + 3, timeout=BOUND)


@pytest.mark.parametrize("user", ["", "one%40two:p%3A%2Fw@", ":p%3A%2Fw@"])
def test_celery_uses_the_database_and_the_password_in_the_address_of_a_socket(
    valkey: Valkey, user: str
) -> None:
    with redis.Redis.from_url(valkey.url) as admin:
        if user:
            admin.execute_command("ACL", "SETUSER", "one@two", "on", ">p:/w", "~*", "&*", "+@all")
            admin.execute_command("CONFIG", "SET", "requirepass", "p:/w")
        url = f"unix://{user}{valkey.socket}?db=3"
        Celery(broker=broker(url)[0]).send_task("rollout.check")
        with redis.Redis.from_url(url) as three:
            assert three.llen("celery") == 1
        admin.auth("p:/w") if user else None
        assert admin.keys() == []


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://h", ("redis://h:6379/0", None)),
        ("redis://h:1/2?db=3", ("redis://h:1/3", None)),
        ("redis://u%40v:p%2F@[::1]:1/2", ("redis://u%40v:p%2F@[::1]:1/2", None)),
        ("rediss://h/1", ("rediss://h:6379/1", {"ssl_cert_reqs": "required"})),
        (
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none",
            ("rediss://h:6379/0", {"ssl_cert_reqs": "none", "ssl_ca_certs": "/ca.pem"}),
        ),
    ],
)
def test_celery_gets_the_same_address_and_verifies_certificates(
    url: str, found: tuple[str, dict[str, str] | None]
) -> None:
    assert broker(url) == found


FAULTS = {
    "full": (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
    "read-only": (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_checks_go_on_when_a_broker_takes_writes_again(
    traffic: Judged, valkey: Valkey, tmp_path: Path, fault: str
) -> None:
    canary = traffic()
    canary.send(clients=5)
    checks = Check.objects.filter(rollout=canary.pk)
    with redis.Redis.from_url(valkey.url) as admin, checks_every_second(valkey.url, tmp_path):
        eventually(lambda: checks.count() >= 2, timeout=60)
        admin.execute_command(*FAULTS[fault][0])
        time.sleep(3)
        made = checks.count()
        admin.execute_command(*FAULTS[fault][1])
        eventually(lambda: checks.count() >= made + 3, timeout=BOUND)
