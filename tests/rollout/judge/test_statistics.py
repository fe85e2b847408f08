"""The statistical tests: against figures computed by hand, by properties for any data, and by simulated rollouts."""

import json
from dataclasses import asdict, fields, replace
from decimal import Decimal
from fractions import Fraction
from math import exp, isfinite, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom, hypergeom

from docs.tools import judge_statistics as simulation
from docs.tools.judge_statistics import Bets, Break, traffic
from rollout.judge.scoring import Signal
from rollout.judge.statistics import (
    E_MAX,
    RED_TESTS,
    Assessment,
    Limits,
    Memory,
    Totals,
    Window,
    advance,
    assess,
    log_certificate_e,
    log_ratio_e,
    success_interval,
    without_errors,
)

LIMITS = Limits()
NO_NEWS = Window(treatment=40, control=360)
COUNT = st.integers(0, 10**7)
FEW = st.integers(0, 40)
WINDOWS = st.builds(
    Window,
    succeeded=FEW,
    failed=FEW,
    treatment=FEW,
    control=FEW,
    treatment_errors=FEW,
    control_errors=FEW,
    treatment_sessions=FEW,
    control_new=FEW,
)
ANY_WINDOWS = st.builds(
    Window,
    succeeded=COUNT,
    failed=COUNT,
    treatment=COUNT,
    control=COUNT,
    treatment_errors=st.integers(-3, 10**7),
    control_errors=st.integers(-3, 10**7),
)
ANY_TOTALS = st.builds(
    Totals,
    succeeded=COUNT,
    failed=COUNT,
    treatment=COUNT,
    treatment_errors=COUNT,
    control=COUNT,
    control_errors=COUNT,
)
SHARES = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0001, 0.9999))


def remember(*windows: Window, limits: Limits = LIMITS) -> Memory:
    memory = Memory()
    for window in windows:
        memory = advance(memory, window, limits)
    return memory


def judge(
    *windows: Window,
    totals: Totals | None = None,
    share: Decimal | float = 0.1,
    limits: Limits = LIMITS,
) -> Assessment:
    """Assess a stage of these windows. By default its totals are those of the migrations."""
    if totals is None:
        totals = Totals(
            succeeded=sum(window.succeeded for window in windows),
            failed=sum(window.failed for window in windows),
        )
    return assess(remember(*windows, limits=limits), totals, share, limits)


# Migration failures


def test_a_stage_without_data_is_green_and_claims_nothing() -> None:
    assert assess(Memory(), Totals(), Decimal("0.1"), LIMITS) == Assessment(
        signal=Signal.GREEN,
        reasons=(),
        failures_e=1.0,
        comparison_e=1.0,
        clients_e=1.0,
        baseline_e=1.0,
        ratio_e=1.0,
        red_at=180.0,
        rate=None,
        interval=None,
        certified=False,
        certificate_e=1.0,
        compared=False,
        everybody=False,
    )


def test_alpha_is_shared_by_three_tests_in_each_stage() -> None:
    assert LIMITS.red_at == pytest.approx(3 * 3 / 0.05)
    assert Limits(alpha=0.01, stages=5).red_at == pytest.approx(3 * 5 / 0.01)


def test_failures_by_hand() -> None:
    """With p0 = 1/100 and p1 = 1/10, a failure pays 10 and a success (9/10)/(99/100) = 10/11.

    Of the starting 1, 1/2 is bet on the first window, 1/6 from the second on, 1/12 from the third on.
    """
    limits = Limits(p0=0.01, p1=0.1)
    failure, success = Window(failed=1), Window(succeeded=1)
    assert judge(failure, limits=limits).failures_e == pytest.approx(1 / 2 * 10 + 1 / 2)
    assert judge(success, limits=limits).failures_e == pytest.approx(1 / 2 * 10 / 11 + 1 / 2)
    first = Fraction(1, 2) * Fraction(10, 11)
    second = (first + Fraction(1, 6)) * 10
    third = (second + Fraction(1, 12)) * Fraction(10, 11) ** 2 * 10
    windows = (success, failure, Window(succeeded=2, failed=1))
    assert judge(*windows, limits=limits).failures_e == pytest.approx(float(third + Fraction(1, 4)))


def test_five_failures_of_twenty_are_red_and_say_so() -> None:
    said = judge(Window(succeeded=15, failed=5))
    assert said.signal is Signal.RED
    assert said.failures_e == pytest.approx((0.95 / 0.995) ** 15 * 10**5 / 2 + 1 / 2)
    assert said.reasons[0] == (
        "Migration failures, in the whole stage or recently: 5 of 20 clients failed. "
        "If at most 0.5 % of migrations fail, chance alone does this in at most 1 of 24,974 stages."
    )


def test_two_failures_alone_are_not_red_yet_and_three_are() -> None:
    """They are worth 10 * 10 / 2 + 1/2 and 10 * 10 * 10 / 2 + 1/2, where 180 is red."""
    assert judge(Window(failed=2), totals=Totals(succeeded=400)).signal is Signal.GREEN
    assert judge(Window(failed=3), totals=Totals(succeeded=400)).signal is Signal.RED


@pytest.mark.parametrize(("above", "signal"), [(-1e-6, Signal.RED), (1e-6, Signal.YELLOW)])
def test_evidence_at_the_threshold_is_red_and_just_below_is_not(above: float, signal: Signal) -> None:
    evidence = judge(Window(failed=2)).failures_e
    limits = Limits(stages=1, alpha=3 / (evidence + above))
    assert limits.red_at == pytest.approx(evidence + above)
    assert judge(Window(failed=2), limits=limits).signal is signal


def test_a_break_after_a_long_healthy_time_is_found() -> None:
    """Healthy hours do not delay the red: the money kept back is bet on the break."""
    healthy = [Window(succeeded=20)] * 600
    broken = [Window(succeeded=9, failed=3)] * 5
    assert judge(*healthy).signal is Signal.GREEN
    assert judge(*healthy, *broken).signal is Signal.RED
    without_later_bets = 12_045 * log(0.95 / 0.995) + 15 * log(10)
    assert without_later_bets < -500


def test_red_ends_when_much_that_succeeds_outweighs_it() -> None:
    assert judge(Window(failed=3), totals=Totals(3000, 3)).signal is Signal.RED
    assert (
        judge(Window(failed=3), *[Window(succeeded=10)] * 300, totals=Totals(3000, 3)).signal is Signal.GREEN
    )


# Treatment against control


def test_the_comparison_by_hand() -> None:
    """Half of the clients are in treatment, so with a rate ratio of 3 its share of the errors would be 3/4.

    An error in treatment pays (3/4)/(1/2) = 3/2, one in control (1/4)/(1/2) = 1/2.
    """
    limits = Limits(rate_ratios=(3,))
    totals = Totals(assigned=20, unassigned=20)

    def evidence(*windows: Window) -> float:
        return judge(*windows, totals=totals, share=0.5, limits=limits).comparison_e

    ours = Window(treatment=10, control=10, treatment_errors=1)
    theirs = Window(treatment=10, control=10, control_errors=1)
    assert evidence(ours) == pytest.approx(1 / 2 * 3 / 2 + 1 / 2)
    assert evidence(theirs) == pytest.approx(1 / 2 * 1 / 2 + 1 / 2)
    assert evidence(ours, theirs) == pytest.approx((3 / 4 + 1 / 6) * 1 / 2 + 1 / 3)


def test_several_rate_ratios_are_averaged() -> None:
    windows = [Window(treatment=10, control=90, treatment_errors=2, control_errors=1)] * 4
    totals = Totals(assigned=10, unassigned=90)

    def evidence(*ratios: float) -> float:
        return judge(*windows, totals=totals, limits=Limits(rate_ratios=ratios)).comparison_e

    assert evidence(2, 5) == pytest.approx((evidence(2) + evidence(5)) / 2)


def test_more_errors_with_the_feature_are_red_and_as_many_are_not() -> None:
    totals = Totals(assigned=100, unassigned=900)
    # So many that only the comparison asks about the few with errors.
    new = {"treatment_sessions": 1000, "control_new": 9000}
    more = judge(*[Window(treatment=30, control=270, treatment_errors=1, **new)] * 8, totals=totals)
    assert more.signal is Signal.RED
    assert more.reasons[0].startswith("Error rate with vs. without the feature: higher with it.")
    alike = [Window(treatment=30, control=270, treatment_errors=1, control_errors=9, **new)] * 100
    assert judge(*alike, totals=totals).signal is Signal.GREEN
    assert (
        judge(*[Window(treatment=30, control=270, control_errors=5)] * 100, totals=totals).signal
        is Signal.GREEN
    )


@pytest.mark.parametrize(
    ("totals", "share"),
    [
        (Totals(assigned=5000), 0.5),  # nobody in control has reported
        (Totals(assigned=5000, unassigned=20), 1),  # those without the feature opted out: no control group
        (Totals(assigned=20, unassigned=5000), 0),
    ],
)
def test_without_a_control_group_nothing_is_compared(totals: Totals, share: float) -> None:
    window = Window(
        treatment=100,
        control=totals.unassigned,
        treatment_errors=20,
        treatment_sessions=9000,
        control_new=9000,
    )
    windows = [window] * 100
    said = judge(*windows, totals=totals, share=share)
    assert (said.signal, said.reasons, said.compared) == (Signal.GREEN, (), False)
    assert (said.comparison_e, said.ratio_e) == (1.0, 1.0)


def test_errors_of_clients_whose_heartbeat_is_missing_are_no_surprise() -> None:
    """Clients with errors are there: five of them are at least five clients."""
    missing = Window(treatment=0, control=20, treatment_errors=5)
    assert remember(missing) == remember(replace(missing, treatment=5))


def test_a_window_without_control_clients_or_errors_leaves_the_comparison_alone() -> None:
    memory = remember(Window(treatment=10, control=10, treatment_errors=3))
    for window in (NO_NEWS, Window(treatment=10, treatment_errors=3), Window(control=5, control_errors=-1)):
        after = advance(memory, window, LIMITS)
        assert (after.error_rounds, after.comparison) == (memory.error_rounds, memory.comparison)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 20),
    st.sampled_from([1.5, 2, 10]),
)
def test_one_fair_window_pays_at_most_what_is_bet(
    treatment: int, control: int, errors: int, ratio: float
) -> None:
    """The exact mean over which clients have the errors, drawn without replacement: Hoeffding's inequality holds."""
    errors = min(errors, treatment + control)
    limits = Limits(rate_ratios=(ratio,))
    with_feature = np.arange(max(0, errors - control), min(errors, treatment) + 1)
    chances = hypergeom.pmf(with_feature, treatment + control, treatment, errors)
    mean = sum(
        chance
        * judge(
            Window(treatment=treatment, control=control, treatment_errors=ours, control_errors=errors - ours),
            totals=Totals(assigned=treatment, unassigned=control),
            limits=limits,
        ).comparison_e
        for ours, chance in zip(with_feature.tolist(), chances.tolist(), strict=True)
    )
    assert sum(chances) == pytest.approx(1)
    assert mean <= 1 + 1e-9


# Clients with errors


def test_clients_with_errors_by_hand() -> None:
    """With 1 % and 10 %, an error pays 10 and a client without one 10/11; half of the starting 1 is bet at first."""
    seen = judge(Window(treatment_sessions=3, treatment_errors=2))
    assert seen.clients_e == pytest.approx(100 * 10 / 11 / 2 + 1 / 2)
    assert seen.baseline_e == 1.0
    assert judge(Window(control_new=1, control_errors=1)).baseline_e == pytest.approx(10 / 2 + 1 / 2)


def test_a_late_error_corrects_its_client_and_a_late_bet_counts_who_is_there() -> None:
    """Of the starting 1, 1/2 is bet on the first window and 1/6 from the second on. All 21 are there in the second."""
    joined, erred = Window(treatment=20, treatment_sessions=20), Window(treatment=21, treatment_sessions=1)
    without = (10 / 11) ** 20
    seen = judge(joined, replace(erred, treatment_errors=1))
    assert seen.clients_e == pytest.approx((1 / 2 + 1 / 6) * without * 10 + 1 / 3)


def test_three_clients_that_all_fail_are_red_without_anybody_to_compare_them_with() -> None:
    one = Window(treatment=1, treatment_sessions=1, treatment_errors=1)
    totals = Totals(treatment=3, treatment_errors=3)
    assert judge(one, one, totals=totals, share=1).signal is Signal.GREEN
    said = judge(one, one, one, totals=totals, share=1)
    assert said.signal is Signal.RED
    assert said.reasons[0].startswith("Clients with errors: 3 of 3 clients with the feature. If at most 1 %")


def test_one_in_a_hundred_with_errors_is_green() -> None:
    said = judge(*[Window(treatment_sessions=100, treatment_errors=1)] * 500, totals=Totals(treatment=50_000))
    assert said.signal is Signal.GREEN


EVERYBODY = Window(
    treatment=20, control=20, treatment_sessions=20, control_new=20, treatment_errors=20, control_errors=20
)
MANY = Totals(treatment=20, control=20, treatment_errors=20, assigned=20, unassigned=20)


def test_errors_of_everybody_are_no_data_and_of_too_few_others_red() -> None:
    said = judge(EVERYBODY, totals=MANY, share=0.5)
    assert (said.signal, said.everybody) == (Signal.NO_DATA, True)
    assert said.reasons == ("Not the feature: everybody has errors; with the feature 20 of 20 clients.",)
    assert judge(EVERYBODY, totals=replace(MANY, control=19), share=0.5).signal is Signal.RED


def test_errors_of_everybody_are_red_once_the_feature_has_more() -> None:
    worse = replace(EVERYBODY, control_errors=4)
    said = judge(worse, worse, totals=MANY, share=0.5)
    assert (said.everybody, said.signal) == (False, Signal.RED)


def test_a_window_without_its_errors_is_no_round_of_their_tests() -> None:
    memory = remember(EVERYBODY)
    after = advance(memory, without_errors(EVERYBODY), LIMITS)
    assert (after.client_rounds, after.clients) == (memory.client_rounds, memory.clients)
    assert (after.baseline_rounds, after.baseline) == (memory.baseline_rounds, memory.baseline)


# Sample ratio


def test_the_ratio_by_hand() -> None:
    """Beta(15, 15) before, for 30 clients at 50 %. One client with the feature: B(16, 15)/B(15, 15) / (1/2) = 1."""
    assert log_ratio_e(1, 0, 0.5) == pytest.approx(0)
    assert exp(log_ratio_e(2, 0, 0.5)) == pytest.approx(15 * 16 / (30 * 31) * 4)
    assert exp(log_ratio_e(1, 1, 0.1)) == pytest.approx(3 * 27 / (30 * 31) / (0.1 * 0.9))


def test_a_wrong_share_is_no_data_and_says_so() -> None:
    said = judge(totals=Totals(assigned=250, unassigned=750), share=Decimal("0.1"))
    assert said.signal is Signal.NO_DATA
    assert said.reasons == (
        (
            "Sample ratio mismatch: 250 of 1,000 clients have the feature (10 % expected). "
            "Assignment or telemetry is broken."
        ),
    )


def test_nobody_with_the_feature_is_no_data() -> None:
    assert judge(totals=Totals(unassigned=300), share=0.1).signal is Signal.NO_DATA


def test_the_right_share_is_green() -> None:
    said = judge(totals=Totals(assigned=104, unassigned=896), share=Decimal("0.1"))
    assert (said.signal, said.compared) == (Signal.GREEN, True)
    assert said.ratio_e < 1


def test_red_is_worse_than_no_data_and_both_are_said() -> None:
    said = judge(Window(failed=9, succeeded=1), totals=Totals(1, 9, assigned=250, unassigned=750))
    assert said.signal is Signal.RED
    assert len(said.reasons) == 3


# Success rate


def test_the_certificate_is_the_mean_over_all_better_rates() -> None:
    goal, succeeded, failed = 0.995, 1500, 3

    def weighted(rate: float) -> float:
        ratio = succeeded * log(rate / goal) + failed * log((1 - rate) / (1 - goal))
        return float(beta.pdf(rate, 0.5, 0.5) / beta.sf(goal, 0.5, 0.5) * exp(ratio))

    # All but the last millionth, where the prior's density grows without limit.
    assert exp(log_certificate_e(succeeded, failed, goal)) == pytest.approx(
        quad(weighted, goal, 1 - 1e-6, points=[0.998, 0.9995])[0], rel=1e-3
    )


def test_the_certificate_takes_hundreds_of_clients_without_a_failure() -> None:
    assert not judge(Window(succeeded=755)).certified
    certified = judge(Window(succeeded=756))
    assert certified.certified
    assert certified.certificate_e == pytest.approx(20, rel=0.01)


def test_a_certificate_is_no_colour_and_its_absence_neither() -> None:
    for count in (0, 10, 5000):
        assert judge(Window(succeeded=count)).signal is Signal.GREEN


def test_yellow_when_the_whole_interval_lies_below_the_goal() -> None:
    said = judge(totals=Totals(succeeded=980, failed=20))
    assert said.signal is Signal.YELLOW
    assert said.rate == 0.98
    assert said.interval is not None
    low, high = said.interval
    assert low < 0.98 < high < 0.995
    assert said.reasons == ("Migration success rate: 95.9 % to 99.2 % (goal 99.5 %).",)
    assert judge(totals=Totals(succeeded=990, failed=10)).signal is Signal.GREEN


@pytest.mark.parametrize(
    ("succeeded", "failed"), [(1, 0), (0, 1), (3, 2), (980, 20), (10**7, 3), (10**7, 10**7)]
)
def test_the_ends_of_the_interval_are_where_the_mixture_is_1_over_alpha(succeeded: int, failed: int) -> None:
    low, high = success_interval(succeeded, failed, 0.05)
    assert 0 <= low <= succeeded / (succeeded + failed) <= high <= 1
    counts = np.array([succeeded]), np.array([failed])
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            assert simulation.log_rate_e(*counts, end)[0] == pytest.approx(log(20), abs=1e-3)


def test_the_share_of_clients_with_errors_has_an_interval_with_and_without_the_feature() -> None:
    said = judge(totals=Totals(treatment=1000, treatment_errors=20, control=9000, control_errors=90))
    assert said.error_interval
    assert said.error_interval == pytest.approx(
        tuple(1 - end for end in success_interval(980, 20, 0.05)[::-1])
    )
    assert said.baseline_error_interval
    low, high = said.baseline_error_interval
    assert low < 0.01 < high < said.error_interval[1]


def test_without_clients_there_is_no_interval_and_an_error_without_a_heartbeat_is_a_client() -> None:
    said = judge(totals=Totals(treatment_errors=3, control=0))
    assert said.baseline_error_interval is None
    assert said.error_interval
    assert said.error_interval[1] == 1


# Any data


@settings(deadline=None)
@given(st.lists(ANY_WINDOWS, max_size=6), ANY_TOTALS, SHARES)
def test_any_counts_are_judged_and_stored(windows: list[Window], totals: Totals, share: float) -> None:
    memory = remember(*windows)
    said = assess(memory, totals, share, LIMITS)
    for e_value in (said.failures_e, said.comparison_e, said.ratio_e, said.certificate_e):
        assert 0 <= e_value <= E_MAX
    stored = json.loads(json.dumps(memory.as_dict(), allow_nan=False))
    assert Memory.from_dict(stored) == memory
    json.dumps(asdict(said), allow_nan=False)
    for interval in (said.interval, said.error_interval, said.baseline_error_interval):
        assert interval is None or 0 <= interval[0] <= interval[1] <= 1
    assert (said.signal is Signal.GREEN) == (not said.reasons)


@given(st.lists(ANY_WINDOWS, max_size=6))
def test_a_replay_through_json_remembers_exactly_the_same(windows: list[Window]) -> None:
    memory = Memory.from_dict({})
    for window in windows:
        memory = advance(Memory.from_dict(json.loads(json.dumps(memory.as_dict()))), window, LIMITS)
    assert memory == remember(*windows)


@settings(deadline=None)
@given(st.lists(WINDOWS, min_size=1, max_size=8), st.data())
def test_another_failure_never_makes_anything_look_better(windows: list[Window], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(windows) - 1))
    window = windows[index]
    worse = windows.copy()
    worse[index] = replace(window, succeeded=max(window.succeeded - 1, 0), failed=window.failed + 1)
    before, after = judge(*windows), judge(*worse)
    assert after.failures_e >= before.failures_e
    assert after.certificate_e <= before.certificate_e * (1 + 1e-9)


def test_another_failure_never_looks_better_where_floats_lose_digits() -> None:
    evidence = [log_certificate_e(322 - failed, failed, 0.995) for failed in range(170, 190)]
    assert evidence == sorted(evidence, reverse=True)


@settings(deadline=None)
@given(st.lists(WINDOWS, min_size=1, max_size=8), st.data())
def test_an_error_that_moves_to_treatment_never_makes_it_look_better(
    windows: list[Window], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(windows) - 1))
    window = replace(
        windows[index], treatment=100, control=100, control_errors=windows[index].control_errors + 1
    )
    moved = replace(
        window, treatment_errors=window.treatment_errors + 1, control_errors=window.control_errors - 1
    )
    before, after = ([*windows[:index], either, *windows[index + 1 :]] for either in (window, moved))
    totals = Totals(assigned=200, unassigned=200)
    assert judge(*after, totals=totals).comparison_e >= judge(*before, totals=totals).comparison_e


@given(st.lists(WINDOWS, max_size=8), st.integers(0, 8))
def test_a_check_without_news_changes_nothing(windows: list[Window], index: int) -> None:
    assert remember(*windows[:index], NO_NEWS, *windows[index:]) == remember(*windows)


def test_other_rate_ratios_in_the_middle_of_a_stage_begin_small() -> None:
    """Another number of them drops the old bets; the new ones get what was held back for later, and no more."""
    window = Window(treatment=10, control=90, treatment_errors=3)
    totals = Totals(assigned=10, unassigned=90)
    memory = remember(window, window)
    fewer = Limits(rate_ratios=(2, 4))
    assert assess(memory, totals, 0.1, fewer).comparison_e == pytest.approx(1 / 12 + 1 / 4)
    assert len(advance(memory, window, fewer).comparison) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"p0": 0.0},
        {"p0": 0.05},
        {"p1": 1.0},
        {"goal": 1.0},
        {"alpha": 0.0},
        {"ratio_alpha": 1e-9},
        {"stages": 0},
        {"rate_ratios": ()},
        {"rate_ratios": (0.5, 2)},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not"):
        replace(LIMITS, **wrong)


# Simulated rollouts


@pytest.fixture(scope="module")
def results() -> simulation.Results:
    return simulation.simulate()


def test_the_simulation_bets_as_the_judge_does() -> None:
    """A stage of three rollouts that breaks in both ways, window by window, through both codes."""
    runs = 3
    rng = np.random.default_rng(7)
    broken = Break(at=60, failures=0.04, ratio=2.5, errors=0.02)
    bets = Bets(runs)
    memories = [Memory()] * runs
    totals = np.zeros((2, runs), np.int64)
    for minute in traffic(rng, runs, 0.1, 120, broken=broken):
        bets.advance(minute)
        totals += np.stack([minute.succeeded, minute.failed])
        together = bets.failures_e(), bets.comparison_e(), bets.clients_e()
        for run in range(runs):
            window = Window(*(int(getattr(minute, field.name)[run]) for field in fields(Window)))
            memories[run] = advance(memories[run], window, LIMITS)
            said = assess(memories[run], Totals(assigned=1, unassigned=9), 0.1, LIMITS)
            assert (said.failures_e, said.comparison_e, said.clients_e) == pytest.approx(
                [min(e_values[run], E_MAX) for e_values in together], rel=1e-9
            )
    assert isfinite(bets.failures.sum())
    for succeeded, failed in totals.T.tolist():
        counts = np.array([succeeded]), np.array([failed])
        assert simulation.log_ratio_e(*counts, 0.9)[0] == pytest.approx(log_ratio_e(succeeded, failed, 0.9))
        assert simulation.log_certificate_e(*counts, 0.9)[0] == pytest.approx(
            log_certificate_e(succeeded, failed, 0.9)
        )


def surely_below(count: int, runs: int, promised: float) -> bool:
    """Return whether the runs prove, with 99.9 % confidence, that the chance is below the promised one."""
    return bool(binom.cdf(count, runs, promised) < 0.001)


def not_above(count: int, runs: int, promised: float) -> bool:
    """Return whether the count is at most what 99.9 % of simulations reach when the promise just holds."""
    return count <= int(binom.ppf(0.999, runs, promised))


def test_healthy_rollouts_are_rarely_red(results: simulation.Results) -> None:
    alarms = results.alarms
    assert surely_below(alarms.red, simulation.ROLLOUTS, LIMITS.alpha)
    for red in (alarms.red_failures, alarms.red_clients, alarms.red_comparison):
        assert surely_below(red, simulation.ROLLOUTS, LIMITS.alpha / RED_TESTS)


def test_few_clients_of_whom_many_err_are_no_false_alarm(results: simulation.Results) -> None:
    """Far fewer clients than the active ones can still have a first error."""
    assert not_above(results.cohort, simulation.ROLLOUTS, 1 / LIMITS.red_at)


def test_errors_that_come_late_are_no_false_alarm(results: simulation.Results) -> None:
    """All clients came first, and as many err as may. A late bet must not win from each of their errors."""
    for red in results.late:
        assert surely_below(red, simulation.ROLLOUTS, 1 / LIMITS.red_at)


def test_healthy_rollouts_are_rarely_held(results: simulation.Results) -> None:
    assert surely_below(results.holds, simulation.HOLDS, 2 * LIMITS.ratio_alpha)


def test_the_interval_has_the_true_rate_all_day(results: simulation.Results) -> None:
    assert surely_below(results.alarms.uncovered, simulation.ROLLOUTS, LIMITS.alpha)


def test_a_rate_at_the_goal_is_rarely_certified_as_above(results: simulation.Results) -> None:
    """It comes close to its promise, so that few runs cannot prove it to be below: they may only not contradict it."""
    assert not_above(results.alarms.certified, simulation.CERTIFIED, LIMITS.alpha)


@pytest.mark.parametrize(
    ("rate", "clients", "clients_late"), [(0.02, 600, 2200), (0.05, 100, 250), (0.1, 50, 110), (0.2, 25, 60)]
)
def test_failing_migrations_are_found(
    results: simulation.Results, rate: float, clients: int, clients_late: int
) -> None:
    early, late = (results.failures[rate, at] for at in (0, simulation.LATE))
    assert early.clients is not None
    assert late.clients is not None
    assert early.clients <= clients
    assert late.clients <= clients_late
    assert min(early.power, late.power) >= (0.85 if rate < LIMITS.p1 else 1)


@pytest.mark.parametrize(
    ("rate", "clients", "clients_late"), [(0.05, 180, 650), (0.1, 65, 220), (0.2, 32, 95), (1.0, 16, 20)]
)
def test_clients_with_errors_are_found(
    results: simulation.Results, rate: float, clients: int, clients_late: int
) -> None:
    early, late = (results.erring[rate, at] for at in (0, simulation.LATE))
    assert early.clients is not None
    assert late.clients is not None
    assert early.clients <= clients
    assert late.clients <= clients_late
    assert early.power == late.power == 1


@pytest.mark.parametrize(
    ("ratio", "clients", "clients_late", "power"),
    [(2, 3200, 5000, 0.6), (3, 1200, 2000, 0.98), (5, 520, 850, 1)],
)
def test_more_errors_in_treatment_are_found(
    results: simulation.Results, ratio: int, clients: int, clients_late: int, power: float
) -> None:
    early, late = (results.ratios[ratio, at] for at in (0, simulation.LATE))
    assert early.clients is not None
    assert late.clients is not None
    assert early.clients <= clients
    assert late.clients <= clients_late
    assert min(early.power, late.power) >= power


def test_the_tables_of_the_page_are_what_the_code_does(results: simulation.Results) -> None:
    """Otherwise: ``.venv/bin/python -m docs.tools.judge_statistics``."""
    written = simulation.PAGE.read_text().partition(simulation.BEGIN)[2].partition(simulation.END)[0]
    assert written.strip() == simulation.tables(results)
