"""``manage.py demo_rollout``: a rollout climbs, breaks and is rolled back by the real judge, and the incident stays."""

from collections.abc import Iterator
from decimal import Decimal
from io import StringIO

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


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"ROLLOUT_CONFIRM": True}, "simulate_rollout"),
        ({"ROLLOUT_UNSIGNED_TELEMETRY": "network"}, "ROLLOUT_UNSIGNED_TELEMETRY=full"),
        ({"ROLLOUT_UNSIGNED_TELEMETRY": "full"}, "does not answer: start it with `make run`"),
    ],
)
def test_where_it_cannot_run_it_says_why(
    database: None, nothing_left: None, setting: dict[str, object], words: str
) -> None:
    with override_settings(**setting), pytest.raises(CommandError, match=words) as refused:
        call_command("demo_rollout", "--fast", "--url=http://127.0.0.1:1")
    assert refused.value.returncode == 2
