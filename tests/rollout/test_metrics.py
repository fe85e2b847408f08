"""The metrics of rollouts say whether the judge makes its checks."""

from datetime import timedelta
from decimal import Decimal

import pytest
from prometheus_client import CollectorRegistry

from rollout import operations, store
from rollout.evaluation import is_live
from rollout.metrics import RolloutCollector
from rollout.models import Rollout
from tests.canary import Judged
from tests.rollout.conftest import MakeRollout


def last_check(feature: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(RolloutCollector())
    return registry.get_sample_value("rollout_last_check_timestamp_seconds", {"feature": feature})


def test_the_time_of_the_last_check_is_there_from_a_stage_s_first_second(traffic: Judged) -> None:
    """A rule for a judge that is late must also see one that has never checked the stage."""
    canary = traffic("0")
    assert last_check(canary.feature) is None
    operations.set_percentage(canary.feature, Decimal(10), reason="x")
    assert last_check(canary.feature) == pytest.approx(store.clock().timestamp(), abs=5)
    made = canary.check(minutes=5)
    assert last_check(canary.feature) == pytest.approx(made.at.timestamp())
    promoted = operations.promote(canary.feature, reason="by hand, with beat dead")
    assert last_check(canary.feature) == pytest.approx(promoted.stage_started_at.timestamp())
    operations.stop(canary.feature, reason="x")
    assert last_check(canary.feature) is None
    released = operations.release(canary.feature, reason="x")
    assert last_check(canary.feature) == pytest.approx(released.stage_started_at.timestamp())


def test_a_complete_rollout_has_no_check_to_be_late_with(traffic: Judged) -> None:
    canary = traffic("100")
    operations.complete(canary.feature, reason="x")
    Rollout.objects.filter(pk=canary.pk).update(stage_started_at=store.clock() - timedelta(days=1))
    assert last_check(canary.feature) is None


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize(
    ("percentage", "stage"), [("0", "off"), ("0.01", "canary"), ("100", "full"), ("100", "complete")]
)
def test_the_database_and_the_model_agree_on_what_is_judged(
    enabled: bool, stopped: bool, percentage: str, stage: str, make_rollout: MakeRollout
) -> None:
    rollout = make_rollout(
        enabled=enabled, emergency_stop=stopped, percentage=Decimal(percentage), stage=stage
    )
    standing = next(each for each in store.standings() if each.feature == rollout.feature)
    assert standing.live == is_live(rollout.config)
    assert (standing.judged_from is not None) == rollout.is_judged
