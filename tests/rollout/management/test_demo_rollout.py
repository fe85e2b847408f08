"""``manage.py demo_rollout``: a rollout climbs, breaks and is rolled back by the real judge, and the incident stays."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from threading import Thread

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from rollout.models import Incident, Rollout
from rollout.rehearsal.demo import FEATURE
from tests.servers import Server


@pytest.fixture
def nothing_left(database: None) -> Iterator[None]:
    yield
    Rollout.objects.filter(feature=FEATURE).delete()


def demo(url: str) -> str:
    output = StringIO()
    with override_settings(ROLLOUT_UNSIGNED_TELEMETRY="full"):
        call_command("demo_rollout", "--fast", f"--url={url}", stdout=output)
    return output.getvalue()


def test_it_climbs_breaks_and_is_rolled_back_each_time(server: Server, nothing_left: None) -> None:
    for _ in range(2):
        printed = demo(server.url)
        incident = Incident.objects.filter(rollout__feature=FEATURE).latest("tripped_at")
        assert f"{server.url}/admin/rollout/incident/{incident.pk}/change/" in printed
        assert incident.rolled_back
        assert incident.percentage == 50
        signals = [*incident.rollout.checks.order_by("id").values_list("percentage", "signal")]
        assert (Decimal(10), "green") in signals
        assert [signal for _, signal in signals[-3:]] == ["red"] * 3
        rollout = Rollout.objects.get(feature=FEATURE)
        assert (rollout.percentage, rollout.on_hold) == (Decimal(0), True)
        assert "10 %" in printed
        assert "50 %" in printed
    assert Incident.objects.filter(rollout__feature=FEATURE).count() == 2


@contextmanager
def program(body: bytes) -> Iterator[str]:
    """A program that answers every GET with ``body``. Yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_beside_no_server_of_ours_it_makes_nothing(database: None, nothing_left: None) -> None:
    with program(b"<!doctype html>") as another:
        answers = {
            "http://127.0.0.1:1": "does not answer: start it with `make run`",
            "127.0.0.1:8000": "is no address",
            "http://127.0.0.1:port": "is no address",
            another: "is another program's",
        }
        for url, words in answers.items():
            with pytest.raises(CommandError, match=words) as refused:
                demo(url)
            assert refused.value.returncode == 2
    assert not Rollout.objects.filter(feature=FEATURE).exists()


def test_a_demo_that_fails_takes_the_feature_from_everybody(
    database: None, nothing_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollout.rehearsal.demo.STALE_MAX", 1)
    with program(b'{"rollouts": []}') as server, pytest.raises(CommandError, match="another database"):
        demo(server)
    rollout = Rollout.objects.get(feature=FEATURE)
    assert (rollout.percentage, rollout.on_hold) == (Decimal(0), True)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"ROLLOUT_CONFIRM": True}, "simulate_rollout"),
        ({"ROLLOUT_UNSIGNED_TELEMETRY": "network"}, "ROLLOUT_UNSIGNED_TELEMETRY=full"),
    ],
)
def test_where_it_cannot_run_it_says_why(
    server: Server, nothing_left: None, setting: dict[str, object], words: str
) -> None:
    with override_settings(**setting), pytest.raises(CommandError, match=words) as refused:
        call_command("demo_rollout", "--fast", f"--url={server.url}")
    assert refused.value.returncode == 2
