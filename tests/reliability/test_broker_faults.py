"""Celery's way to Valkey: what hangs ends by itself, and environments that share a Valkey share no task."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import redis
from celery import Celery

from chaos.proxy import Proxy
from fundapi.addresses import broker, broker_sentinels
from rollout.models import Check
from tests.canary import Judged
from tests.eventually import eventually
from tests.reliability.valkey import Valkey, private_valkey
from tests.servers import celery, database_url

WORKER = (
    *("worker", "--queues", "checks", "--concurrency", "1"),
    *("--without-gossip", "--without-mingle", "--hostname", "broken@%h"),
)
BOUND = 45  # s: time-outs of 2 s, several one after another, and pauses before a connection is made again


@dataclass(frozen=True)
class Broker:
    """A Valkey whose worker and beat make checks every second, through a proxy."""

    proxy: Proxy
    admin: redis.Redis


@pytest.fixture(scope="module")
def used(database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    logs = tmp_path_factory.mktemp("celery")
    with private_valkey() as valkey, Proxy(str(valkey.socket)) as proxy, ExitStack() as stack:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        env = {"DATABASE_URL": database_url(), "REDIS_URL": url, "ROLLOUT_CHECK_INTERVAL": "1"}
        schedule = str(logs / "schedule")
        stack.enter_context(celery(env, logs / "worker.log", *WORKER))
        stack.enter_context(celery(env, logs / "beat.log", "beat", "--schedule", schedule))
        yield Broker(proxy, stack.enter_context(redis.Redis.from_url(valkey.url)))


FAULTS: dict[str, tuple[Callable[[Broker], object], Callable[[Broker], object]]] = {
    "silent": (lambda broker: broker.proxy.stall(), lambda broker: broker.proxy.resume()),
    # Only a new connection works again.
    "stranded": (lambda broker: broker.proxy.stall(), lambda broker: broker.proxy.strand()),
    "full": (
        lambda broker: broker.admin.config_set("maxmemory", 1),
        lambda broker: broker.admin.config_set("maxmemory", 0),
    ),
    "read-only": (
        lambda broker: broker.admin.replicaof("127.0.0.1", 1),
        lambda broker: broker.admin.replicaof("NO", "ONE"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_checks_go_on_after_a_fault_of_the_broker(traffic: Judged, used: Broker, fault: str) -> None:
    begin, end = FAULTS[fault]
    canary = traffic()
    canary.send(clients=5)
    checks = Check.objects.filter(rollout=canary.pk)
    eventually(lambda: checks.count() >= 2, timeout=60)
    begin(used)
    time.sleep(3)
    made = checks.count()
    end(used)
    eventually(lambda: checks.count() >= made + 2, timeout=BOUND)


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
        ("sentinel://a,b:1?service=s", ("sentinel://a:26379/0;sentinel://b:1/0", None)),
        (
            "sentinel+tls://u:p%2F%3B@[::1],b/2?service=s&sentinel_password=q&ssl_ca_certs=/ca.pem",
            (
                "sentinel://u:p%2F%3B@[::1]:26379/2;sentinel://u:p%2F%3B@b:26379/2",
                {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"},
            ),
        ),
    ],
)
def test_celery_gets_the_same_address_and_verifies_certificates(
    url: str, found: tuple[str, dict[str, str] | None]
) -> None:
    assert broker(url) == found


def test_celery_gives_sentinels_their_own_password_and_the_tls_of_the_servers() -> None:
    url = "sentinel+tls://u:p@a/0?service=s&sentinel_username=v&sentinel_password=q%2F&ssl_ca_certs=/ca.pem"
    tls = {"ssl": True, "ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}
    own = {"socket_timeout": 2, "username": "v", "password": "q/"}
    found = broker_sentinels(url, {"socket_timeout": 2})
    assert found == {"master_name": "s", "sentinel_kwargs": own | tls}
    assert broker_sentinels("redis://a", {"socket_timeout": 2}) == {}
