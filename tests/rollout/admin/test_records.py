"""The operators' pages about the judge: signals, reasons, incidents, checks, alerts and telemetry."""

import html
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone

from rollout import operations, store
from rollout.admin import overview
from rollout.admin.chart_data import chart_points
from rollout.api.telemetry import as_uuid
from rollout.judge.decision import decide
from rollout.judge.evidence import Counts, Evidence, Side
from rollout.judge.policy import Policy
from rollout.judge.state import Carry, State
from rollout.models import Alert, Check, Incident, Rollout, TelemetryEvent
from rollout.presentation import charts
from rollout.presentation.criteria import evidence_words
from rollout.presentation.outlook import what_next
from rollout.presentation.wording import read
from rollout.tick import plain
from tests.canary import LIST, Canary
from tests.rollout.conftest import Sign

PAGES = ("check", "incident", "alert", "telemetryevent")


@pytest.fixture
def canary(database: None) -> Callable[..., Canary]:
    """Make a canary whose judge comes up to now."""

    def make(minutes: int, percentage: str = "10", **fields: Any) -> Canary:
        return Canary(minutes=minutes, percentage=percentage, **fields)

    return make


def roll_back(canary: Canary) -> Incident:
    """Let everything fail for three checks."""
    canary.fail()
    return Incident.objects.get(rollout=canary.pk)


def words(answer: Any) -> str:
    """Return the visible text of a page."""
    return text_of(answer.text)


def text_of(markup: str) -> str:
    shown = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", markup, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(shown))


def live_part(answer: Any, name: str) -> str:
    """Return the HTML of a named part of a live answer."""
    (found,) = re.findall(rf'data-live="{name}">(.*?)(?=\n  <div data-live|\Z)', answer.text, re.DOTALL)
    return str(found)


def part(answer: Any, name: str) -> str:
    """Return the visible text of a named part of a live answer."""
    return text_of(live_part(answer, name))


# --- The signal ---------------------------------------------------------------------------------------------------


def test_green_is_said_with_its_numbers_and_what_comes(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(5)
    for _ in range(3):
        stage.send("migration_succeeded", clients=10)
        made = stage.check()
    assert made.signal == "green"
    answer = viewer.get(stage.live)
    page = part(answer, "judge")
    for text in (
        "Green Healthy: every threshold and every test is green.",
        "Circuit breaker 0 of 3 consecutive red checks",
        "Clients with the feature 10 active in this check 30 clients in this stage (20 needed)",
        "Clock of the stage 2 min of 1 h counted Green and yellow checks count",
        "100 % of 30 clients",
        "Clients with errors 0 % of 30 clients 95 % interval 0 % to",
        "not certified at 99.5 %: evidence",
        "Lost telemetry none",
        "Thresholds Green",
        "Statistics Green",
        "no control group",
    ):
        assert text in page
    assert "Promotion to 50 % after 1 h" in part(answer, "story")
    # The first check had too few clients, so its minute did not count.
    due = stage.rollout.stage_started_at + timedelta(hours=1, minutes=1)
    assert f'<time datetime="{due.isoformat()}" data-relative>' in answer.text


def test_red_is_said_with_all_its_reasons(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(3)
    stage.send("migration_succeeded", clients=20)
    stage.check()
    stage.send("migration_failed", "console_error", clients=4)
    assert stage.check().signal == "red"
    page = part(viewer.get(stage.live), "judge")
    for text in (
        "Red Unhealthy: score 40 points, of 52 before the cap per client (green up to 5, red from 15).",
        "40 points in this check, of 52 before the cap per client, red from 15.",
        "4 of 24 clients' migrations failed in this stage.",
        "Clients with console errors: 4 (red from 2), with warnings: 0.",
        "Migration success rate 83.3 %, 4 of 24 clients failed under 40: yellow from 1 failed, red from 3",
        "Migration failures, in the whole stage or recently",
        "Circuit breaker 1 of 3 consecutive red checks",
        "4 migration, 4 other in this check",
        "console_error 4",
        "Thresholds Red",
        "Statistics Red",
        "Yellow Success rate, 95 % interval",
    ):
        assert text in page
    assert "2 more consecutive red checks roll it back." in words(viewer.get(stage.screen))


def test_the_first_button_of_a_red_rollout_rolls_back(canary: Callable[..., Canary], sign_in: Sign) -> None:
    operator = sign_in("Operator")
    stage = canary(3)

    def buttons() -> list[tuple[str, str]]:
        form = operator.get(stage.screen).text.partition('class="rollout-move"')[2].partition("</form>")[0]
        return re.findall(r'<button class="rollout-button([^"]*)"[^>]*formaction="[^"]*">([^<]*)<', form)

    stage.send("migration_succeeded", clients=30)
    assert stage.check().signal == "green"
    assert buttons() == [(" is-primary", "Promote to 50 %"), ("", "Hold"), (" is-warning", "Roll back")]
    stage.send("migration_failed", clients=5)
    assert stage.check().signal == "red"
    assert buttons() == [(" is-danger", "Roll back"), ("", "Promote to 50 %"), ("", "Hold")]


def test_a_red_rollout_has_a_banner_that_rolls_back_with_the_reason_of_the_check(
    canary: Callable[..., Canary], sign_in: Sign, viewer: Client
) -> None:
    stage, operator = canary(3), sign_in("Operator")
    stage.send("migration_succeeded", clients=30)
    stage.check()
    assert "is-red" not in live_part(operator.get(stage.live), "banners")
    stage.send("migration_failed", clients=5)
    made = stage.check()
    for page in (operator.get(stage.live).text, operator.get(stage.screen).text):
        banner = page[page.index('class="rollout-banner is-red"') :].partition("</section>")[0]
        assert (
            "Red Unhealthy: score 50 points (green up to 5, red from 15). 2 more consecutive red checks"
            in text_of(banner)
        )
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', banner))
    # No other button is as loud, but the stop.
    page = operator.get(stage.screen).text
    assert "is-primary" not in page
    assert "is-red" in live_part(viewer.get(stage.live), "banners")
    assert "<form" not in live_part(viewer.get(stage.live), "banners")
    operator.post(f"{LIST}{stage.pk}/roll-back/", fields)
    assert (int(stage.rollout.percentage), stage.rollout.on_hold) == (0, True)
    reason = stage.rollout.history.latest().history_change_reason
    assert reason == f"Red at {made.at:%H:%M} UTC: Unhealthy: score 50 points (green up to 5, red from 15)."
    assert f"Rolled back Browsers go back to legacy. Rolled back by {operator.user}" in words(
        viewer.get(stage.screen)
    )


def test_a_confirmation_of_more_says_the_signal_and_what_is_not_met(
    canary: Callable[..., Canary], sign_in: Sign
) -> None:
    stage, operator = canary(2), sign_in("Operator")

    def asked(button: str, **fields: str) -> Any:
        data = {"version": stage.rollout.version, "reason": "x", "percentage": "", **fields}
        with override_settings(ROLLOUT_CONFIRM=True):
            return operator.post(f"{LIST}{stage.pk}/{button}/", data)

    assert "Not met Not checked yet in this stage." in words(asked("promote"))
    stage.send("migration_succeeded", clients=30)
    stage.check()
    page = asked("promote")
    assert "Green Healthy" in words(page)
    assert "Not met Promotion to 50 % after 1 h, if: green" in words(page)
    assert 'is-primary" type="submit">Yes' in page.text
    stage.send("migration_failed", clients=5)
    stage.check()
    for page in (asked("promote"), asked("set", percentage="11")):
        assert "Red Unhealthy: score 50 points" in words(page)
        assert "Not met 50 points in this check, red from 15." in words(page)
        assert 'is-danger" type="submit">Yes' in page.text
    for page in (asked("roll-back"), asked("set", percentage="1")):
        assert "Red Unhealthy" in words(page)
        assert "Not met" not in words(page)
        assert 'is-primary" type="submit">Yes' in page.text


def test_a_rollback_is_a_state_until_somebody_raises_it_again(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(5)
    incident = roll_back(stage)

    def seen() -> tuple[str, str]:
        row = viewer.get(LIST, {"q": stage.feature}).text
        return text_of(row[row.index("<tbody") : row.index("</table>")]), words(viewer.get(stage.screen))

    row, page = seen()
    assert "Rolled back by the judge The incident" in row
    assert f"/incident/{incident.pk}/change/" in viewer.get(LIST, {"q": stage.feature}).text
    assert "Rolled back by the judge Browsers go back" in page
    operations.stop(stage.feature, reason="to be sure")
    operations.release(stage.feature, reason="false alarm")
    operations.resume(stage.feature, reason="fixed")
    assert "Rolled back by the judge" in seen()[0]
    operations.promote(stage.feature, reason="again")
    assert all("Rolled back" not in text for text in (seen()[0], seen()[1].partition("Over time")[0]))
    operations.roll_back(stage.feature, reason="not sure")
    row, page = seen()
    assert "Rolled back" in row
    assert "by the judge" not in row
    assert "Rolled back Browsers go back to legacy. Rolled back by the system" in page


def test_an_old_red_is_red_when_the_judge_is_away(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(10)
    stage.send("migration_failed", clients=20)
    stage.check()
    row = viewer.get(LIST, {"q": stage.feature}).text
    assert "Red judge not running" in text_of(row[row.index("<tbody") :])
    assert "is-red" in live_part(viewer.get(stage.live), "banners")


def test_no_data_is_shown_with_its_reasons(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(2)
    stage.send("telemetry_dropped", clients=4, lost=7)
    assert stage.check().signal == "hold"
    page = part(viewer.get(stage.live), "judge")
    assert page.startswith(" No data Too little telemetry to evaluate.")
    assert "Too few samples: 4 of 20 clients with the feature." in page
    assert "Lost telemetry 28 events by 4 of 4 clients" in page


def test_a_signal_is_never_shown_by_colour_alone(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(5)
    stage.send("migration_failed", "console_warning", clients=4)
    stage.check()
    text = viewer.get(stage.screen).text
    shapes = dict(re.findall(r'rollout-signal is-(\w+)[^>]*><svg.*?<(\w+ class="shape"[^>]*)/>', text))
    assert {"green", "yellow", "red"} <= shapes.keys()
    assert len(set(shapes.values())) == len(shapes)
    for signal, after in re.findall(r"rollout-signal is-(\w+)[^>]*><svg.*?</svg>([\w ]*)", text):
        assert after == ("No data" if signal == "hold" else signal.capitalize())


def test_evidence_is_said_in_words() -> None:
    assert evidence_words(0.4) == "no evidence"
    assert evidence_words(1000) == "by chance in 1 of 1,000 healthy stages"
    assert evidence_words(1e12) == "by chance in fewer than 1 of 1,000,000 healthy stages"


def test_a_certificate_is_said(canary: Callable[..., Canary]) -> None:
    stage = canary(5)
    stage.send("migration_succeeded", clients=2)
    made = stage.check()

    def certified() -> str:
        reading = read(made)
        assert reading is not None
        (success,) = [number for number in reading.numbers if number.name == "Migration success rate"]
        return success.notes[-1]

    assert certified().startswith("not certified at 99.5 %: evidence ")
    made.decision["assessment"]["certified"] = True
    assert certified() == "certified at 99.5 %"


def decided(stage: Canary, evidence: Evidence, policy: Policy | None = None, **state: Any) -> Check:
    """Return a check as the judge stores it after a window with this evidence."""
    made = stage.check()
    policy = policy or Policy()
    before = replace(msgspec.convert(made.state, State, strict=False), **state)
    decision = decide(before, evidence, made.at, policy)
    made.signal, made.score = decision.signal, evidence.feature.score
    made.state, made.evidence = plain(before), plain(evidence)
    made.policy, made.decision = plain(policy), plain(decision)
    made.save()
    return made


def judge_of(viewer: Client, stage: Canary) -> str:
    return part(viewer.get(stage.live), "judge")


def test_the_limits_that_a_check_used_are_shown_with_what_they_grew_with(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(2)
    totals = Counts(treatment=30_000, succeeded=25_000)
    feature = Side(active=5000, score=31, points=31, errors=8, failing=8, console_warnings=8)
    decided(
        stage,
        Evidence(events=5000, clients=5000, feature=feature, errors={"warning": 8}),
        carry=Carry(totals=totals),
    )
    page = judge_of(viewer, stage)
    for text in (
        "Green Healthy",
        "5,000 active in this check 30,000 clients in this stage (20 needed)",
        "Score 31 points green up to 250, red from 750 with 5,000 clients",
        "Kill-switch users 0 yellow from 30, red over 150",
        "0 clients with errors, 8 with warnings red from 50 with errors, yellow from 50 with warnings",
    ):
        assert text in page
    assert "Time since the previous check" not in page


def test_a_window_that_was_longer_than_an_interval_is_said(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(3)
    before = stage.check()
    evidence = Evidence(events=50, clients=50, feature=Side(active=50))
    checked_at = before.at - timedelta(minutes=60)
    decided(
        stage, evidence, carry=Carry(checked_at=checked_at), stage_started_at=checked_at - timedelta(hours=1)
    )
    page = judge_of(viewer, stage)
    assert (
        "Time since the previous check 1 h 1 min 61 intervals: the limits of the score grow with them" in page
    )
    assert "green up to 305, red from 915 with 61 intervals" in page


FAILING = Side(active=50, score=500, points=500, errors=50, failing=50)


@pytest.mark.parametrize(
    ("evidence", "signal", "text"),
    [
        (Evidence(events=100, feature=FAILING, baseline=FAILING), "hold", "Everybody has errors, also clients without"),
        (Evidence(events=100, feature=Side(active=50), baseline=FAILING), "yellow", "Only clients without the feature"),
        (
            Evidence(events=9, feature=Side(active=50), unsigned=Side(active=2, score=20, failing=2), networks=2),
            "yellow",
            "Fewer than 5 networks report failures without a ticket",
        ),
    ],
)  # fmt: skip
def test_a_condition_is_explained_with_what_it_means_for_the_rollout(
    canary: Callable[..., Canary], viewer: Client, evidence: Evidence, signal: str, text: str
) -> None:
    stage = canary(3)
    carry = Carry(totals=Counts(treatment=50, control=50, succeeded=30))
    made = decided(stage, evidence, carry=carry)
    assert made.signal == signal
    title = "No promotion, and no rollback for these errors"
    assert f"{title} {text}" in judge_of(viewer, stage)
    carry = msgspec.convert(made.decision["carry"], Carry, strict=False)
    decided(stage, Evidence(events=50, feature=Side(active=50)), carry=carry)
    assert title not in judge_of(viewer, stage), "the check after it is no longer so"


def test_a_condition_beside_a_red_check_does_not_promise_that_nothing_is_rolled_back(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(2)
    carry = Carry(totals=Counts(treatment=50, control=50, succeeded=30, failed=30))
    made = decided(stage, Evidence(events=100, feature=FAILING, baseline=FAILING), carry=carry)
    assert made.signal == "red"
    page = judge_of(viewer, stage)
    assert "No promotion Everybody has errors" in page
    assert "no rollback" not in page


def test_in_bad_weather_the_signal_and_the_summary_say_no_data_once(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(2)
    decided(stage, Evidence(events=100, feature=FAILING, baseline=FAILING))
    page = judge_of(viewer, stage)
    assert page.startswith(
        " No data Not the feature: everybody has errors. 500 points in this check, red from 15."
    )
    assert "No data Score 500 points; everybody has errors green up to 5, red from 15" in page


@pytest.mark.parametrize(
    ("networks", "events", "warned"), [(1, 20, True), (1, 19, False), (2, 900, False), (0, 0, False)]
)
def test_all_unsigned_telemetry_from_one_network_is_a_warning_that_names_the_setting(
    canary: Callable[..., Canary], viewer: Client, networks: int, events: int, warned: bool
) -> None:
    stage = canary(2)
    unsigned = Side(active=networks)
    evidence = Evidence(events=events, networks=networks, unsigned_events=events, unsigned=unsigned)
    decided(stage, evidence)
    page = judge_of(viewer, stage)
    assert ("All unsigned telemetry comes from one network" in page) is warned
    assert ("TRUSTED_PROXIES" in page) is warned
    many = "1 network" if networks == 1 else f"{networks} networks"
    assert (f"Unsigned telemetry {many}, {events} events" if networks else "Unsigned telemetry none") in page


@pytest.mark.parametrize(
    ("mode", "text"),
    [("full", "each client id counts as a client"), ("none", "not judged")],
)
def test_the_screen_says_what_unsigned_telemetry_counts_for(
    canary: Callable[..., Canary], viewer: Client, mode: str, text: str
) -> None:
    stage = canary(2)
    decided(stage, Evidence(), Policy(unsigned_telemetry=mode))
    assert f"Unsigned telemetry {text} (ROLLOUT_UNSIGNED_TELEMETRY={mode})" in judge_of(viewer, stage)


def test_the_cell_of_the_server_comes_first(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(2)
    server, others = Side(active=40, score=9, errors=3, failing=3), Side(active=300)
    decided(stage, Evidence(events=40, feature=Side(active=50), server=server, server_baseline=others))
    page = judge_of(viewer, stage)
    text = "Failed creates (server) creates with the feature failed for 3 of 40 users; without it 0 of 300"
    assert page.index(text) < page.index("Green Score 0 points")


def test_errors_are_shown_with_and_without_the_feature_each_with_its_interval_and_its_test(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(2)
    totals = Counts(treatment=1000, treatment_errors=11, control=9000, control_errors=90)
    decided(stage, Evidence(events=9, feature=Side(active=90)), carry=Carry(totals=totals))
    page = judge_of(viewer, stage)
    assert "Clients with errors 1.1 % of 1,000 clients 95 % interval 0.3 % to 2.8 %" in page
    assert "without the feature 1 % of 9,000 clients (0.6 % to 1.5 %)" in page
    assert (
        "Clients with errors over 1 % no evidence; without the feature: no evidence red from 1 of 180" in page
    )


@pytest.mark.parametrize(
    ("percentage", "state", "carry", "text"),
    [
        ("10", {"timeline": "conservative"}, {}, "34 min of 1 h counted Green and yellow checks count"),
        ("10", {"timeline": "accelerated"}, {}, "34 min of 30 min counted Only green checks count"),
        ("10", {"timeline": "accelerated"}, {"errors_in_stage": 1}, "34 min of 1 h counted Green and yellow"),
        ("50", {"timeline": "conservative"}, {}, "34 min of 6 h counted Green and yellow checks count A red check"),
        ("100", {"timeline": "conservative"}, {}, "3 h 1 min of 24 h counted Green and yellow checks count A high"),
        ("10", {}, {"reds_in_stage": 1}, "34 min counted A check of this stage was red: only a person promotes"),
    ],
)  # fmt: skip
def test_the_clock_of_the_stage_says_how_much_of_which_time_has_counted(
    canary: Callable[..., Canary], viewer: Client, percentage: str, state: dict, carry: dict, text: str
) -> None:
    stage = canary(3, percentage=percentage)
    before = stage.check()
    watched = Carry(
        checked_at=before.at,
        watched=timedelta(minutes=33),
        calm=timedelta(hours=3),
        totals=Counts(treatment=50, succeeded=50),
        **carry,
    )
    decided(stage, Evidence(events=50, feature=Side(active=50)), carry=watched, **state)
    assert f"Clock of the stage {text}" in judge_of(viewer, stage)


def test_events_that_were_left_out_are_counted_with_their_reasons(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(2)
    left_out = {"stale": 1200, "before_stage": 0, "capped": 3}
    decided(stage, Evidence(events=9, feature=Side(active=50), unjudged=left_out))
    page = judge_of(viewer, stage)
    assert "Events not judged 1,203 1,200 old when sent 3 of clients over their network's cap" in page


def test_events_of_nobody_knows_whom_are_shown(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(2)
    unknown = Side(active=7, score=6, points=6, errors=2, failing=2)
    decided(stage, Evidence(events=9, feature=Side(active=50), unknown=unknown))
    page = judge_of(viewer, stage)
    assert (
        "Events without a flag or a variant 7 clients, 2 failed events Yellow at most, and in no sample"
        in page
    )
    assert "Score 0 points; 6 more without a flag or a variant" in page


# --- The list ------------------------------------------------------------------------------------------------------


def test_the_list_begins_with_trouble_and_filters_by_signal_and_state(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    """Each rollout's name begins with a letter of this test, against the order of trouble."""
    prefix = f"LIST_{uuid.uuid4().hex[:8].upper()}"

    def named(name: str, made: Canary) -> Canary:
        made.feature = f"{prefix}_{name}"
        Rollout.objects.filter(pk=made.pk).update(feature=made.feature)
        return made

    red, stopped = named("Z_RED", canary(1)), named("X_STOPPED", canary(1))
    named("Y_LATE", canary(20))
    back, green, off = named("W_BACK", canary(4)), named("C_GREEN", canary(1)), named("B_OFF", canary(1))
    red.send("migration_failed", clients=30)
    assert red.check().signal == "red"
    operations.stop(stopped.feature, reason="fire")
    roll_back(back)
    green.send("migration_succeeded", clients=30)
    assert green.check().signal == "green"
    operations.set_percentage(off.feature, Decimal(0), reason="later")

    def listed(**query: str) -> list[str]:
        page = viewer.get(LIST, {"q": prefix, **query}).text
        return re.findall(rf"{prefix}_([A-Z_]+)</a>", page)

    assert listed() == ["Z_RED", "Y_LATE", "X_STOPPED", "W_BACK", "C_GREEN", "B_OFF"]
    assert listed(o="0") == ["B_OFF", "C_GREEN", "W_BACK", "X_STOPPED", "Y_LATE", "Z_RED"]
    assert listed(signal="red") == ["Z_RED"]
    assert listed(signal="new") == ["Y_LATE"]
    assert listed(signal="none") == ["X_STOPPED", "W_BACK", "B_OFF"]
    assert listed(state="stopped") == ["X_STOPPED"]
    assert listed(state="rolled-back") == ["W_BACK"]
    assert listed(state="off") == ["W_BACK", "B_OFF"]
    assert listed(state="live") == ["Z_RED", "Y_LATE", "C_GREEN"]


def test_the_start_page_has_the_open_incidents(
    canary: Callable[..., Canary], viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "SHOWN", 1000)  # other tests leave some open
    back, advised = canary(5), canary(5, auto_rollback=False)
    incidents = [roll_back(back), roll_back(advised)]

    def shown() -> list[bool]:
        page = viewer.get("/admin/").text
        opened = page[page.index("Open incidents") : page.index("Monitoring")]
        return [f"/incident/{incident.pk}/change/" in opened for incident in incidents]

    assert shown() == [True, True]
    operations.set_percentage(back.feature, Decimal(1), reason="fixed")
    operations.roll_back(advised.feature, reason="done")
    assert shown() == [False, False]


# --- What happens next --------------------------------------------------------------------------------------------


def test_after_a_rollback_the_screen_says_who_did_it_and_why(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(5)
    incident = roll_back(stage)
    answer = viewer.get(stage.live)
    page = part(answer, "judge")
    assert "The judge does not evaluate this rollout: nobody gets the feature." in page
    assert re.search(r"Last check at 10 %: Red Rolled back\. [\d-]* ?\d\d:\d\d UTC The incident", page)
    assert f"/admin/rollout/incident/{incident.pk}/" in answer.text
    banners = part(answer, "banners")
    assert "Rolled back by the judge Browsers go back to legacy." in banners
    assert "The incident" in banners
    assert "On hold The rollout" not in banners
    assert "until an operator resumes the rollout" in part(answer, "story")


def test_a_judge_that_is_away_is_missed(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(10)
    stage.send("migration_succeeded", clients=30)
    made = stage.check()
    for path in (stage.screen, f"{LIST}?q={stage.feature}"):
        page = words(viewer.get(path))
        assert f"No check since {made.at:%Y-%m-%d %H:%M} UTC: is Celery beat running?" in page
    answer = viewer.get(stage.live)
    assert "is-green is-large" not in answer.text
    assert part(answer, "judge").startswith(" No data The judge is not running. Last signal: green.")
    never = canary(10)
    page = words(viewer.get(never.screen))
    assert f"No check since {never.rollout.stage_started_at:%Y-%m-%d %H:%M} UTC: is Celery" in page


def test_a_red_check_is_not_shown_beside_the_time_of_a_promotion(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(3, percentage="50")
    stage.send("migration_succeeded", clients=30)
    stage.check()
    assert "Not before" in part(viewer.get(stage.live), "story")
    stage.send("migration_failed", clients=5)
    made = stage.check()
    assert made.decision["due_at"]
    story = part(viewer.get(stage.live), "story")
    assert "2 more consecutive red checks roll it back." in story
    assert "Not before" not in story


def test_what_an_earlier_stage_came_to_says_nothing_about_this_one(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(2)
    stage.send("migration_failed", clients=30)
    stage.check()
    operations.set_percentage(stage.feature, Decimal(20), reason="on")
    page = words(viewer.get(stage.screen))
    assert "Not checked yet. The judge checks every 1 min." in page
    assert "Not checked yet in this stage." in page
    assert "not checked yet" in words(viewer.get(LIST, {"q": stage.feature}))


def test_the_plan_of_a_check_is_not_shown_after_a_change_of_the_rollout(
    canary: Callable[..., Canary],
) -> None:
    stage = canary(2)
    stage.send("migration_succeeded", clients=30)
    made = stage.check()
    assert what_next(stage.rollout, made, now=stage.now).due_at
    operations.hold(stage.feature, reason="wait")
    held = what_next(stage.rollout, made, now=stage.now)
    assert (held.due_at, held.sentences[0][:35]) == (None, "On hold at 10 % until an operator r")
    made = stage.check()
    assert what_next(stage.rollout, made, now=stage.now).sentences == [made.decision["next"]]


def test_the_list_shows_the_signal_and_what_happens_next(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(3)
    for _ in range(2):
        stage.send("migration_succeeded", clients=10)
        stage.check()
    row = words(viewer.get(LIST, {"q": stage.feature}))
    assert re.search(rf"{stage.feature} 10 % for [\w ]+ Green Canary Promotion to 50 % after 1 h", row)


def test_a_list_of_many_rollouts_takes_no_more_queries(canary: Callable[..., Canary], viewer: Client) -> None:
    stages = [canary(2) for _ in range(3)]
    for stage in stages:
        stage.check()
    viewer.get(LIST)

    def queries(**query: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            viewer.get(LIST, query)
        return len(captured)

    assert queries(q="FEATURE_") == queries(q=stages[0].feature) <= 10


# --- Complete -----------------------------------------------------------------------------------------------------


def test_only_what_is_on_for_everybody_can_be_completed(canary: Callable[..., Canary], sign_in: Sign) -> None:
    operator = sign_in("Operator")
    stage = canary(2, percentage="50")
    url = f"{LIST}{stage.rollout.pk}/complete/"
    refused = operator.post(url, {"version": stage.rollout.version, "reason": "done"})
    assert "only a rollout at 100 % can be completed" in words(refused)
    operations.set_percentage(stage.feature, Decimal(100), reason="all")
    answer = operator.post(url, {"version": stage.rollout.version, "reason": "a quiet day"}, follow=True)
    assert (stage.rollout.stage, stage.rollout.track_migrations) == ("complete", False)
    page = words(answer)
    assert "is complete: on for everybody, no longer judged" in page
    assert "Stage full → complete" in page
    assert "Complete: every browser gets the feature." in page
    assert f'formaction="{url}"' not in answer.text


def test_a_rollout_is_completed_at_a_shell(canary: Callable[..., Canary]) -> None:
    stage = canary(2)
    with pytest.raises(CommandError, match="only a rollout at 100 %"):
        call_command("rollout", "complete", stage.feature, reason="x")
    operations.set_percentage(stage.feature, Decimal(100), reason="all")
    out = StringIO()
    call_command("rollout", "complete", stage.feature, reason="a quiet day", json=True, stdout=out)
    assert json.loads(out.getvalue())["stage"] == "complete"


# --- Live ---------------------------------------------------------------------------------------------------------


def test_an_open_screen_asks_cheaply_and_hears_of_every_change(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(2)
    stage.send("migration_succeeded", clients=30)
    stage.check()
    (tag,) = re.findall(r"data-etag=\"([^ ]*?)\"", viewer.get(stage.screen).text.replace("&quot;", ""))
    first = viewer.get(stage.live)
    assert first.headers["ETag"] == f'"{tag}"'

    live = stage.live

    def ask() -> Any:
        return viewer.get(live, headers={"If-None-Match": first.headers["ETag"]})

    assert ask().status_code == 304
    with CaptureQueriesContext(connection) as captured:
        unchanged = ask()
    ours = [query["sql"] for query in captured if "rollout_" in query["sql"]]
    assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", f'"{tag}"')
    assert len(ours) == 2, ours
    assert len(captured) <= 7  # with the session, the user, the second factor and the permissions
    stage.check()
    assert ask().status_code == 200
    first = viewer.get(stage.live)
    assert ask().status_code == 304
    operations.hold(stage.feature, reason="wait")
    second = ask()
    assert f'data-version="{stage.rollout.version}"' in second.text
    assert "On hold" in part(second, "banners")


def test_a_screen_hears_that_the_judge_is_away(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(2)
    stage.send("migration_succeeded", clients=30)
    stage.check()
    tag = viewer.get(stage.live).headers["ETag"]
    Check.objects.filter(rollout=stage.rollout).update(at=timezone.now() - timedelta(minutes=4))
    Rollout.objects.filter(feature=stage.feature).update(
        stage_started_at=timezone.now() - timedelta(minutes=9)
    )
    answer = viewer.get(stage.live, headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert "is Celery beat running?" in part(answer, "story")


def test_what_follows_by_itself_holds_no_form(canary: Callable[..., Canary], sign_in: Sign) -> None:
    """Typed text, and the version that a button acts on, must outlast every update."""
    stage = canary(2)
    text = sign_in("Administrator").get(stage.live).text
    assert not re.search(r"<(form|input|textarea|button|select)\b", text)


def test_the_live_part_is_for_those_who_may_look(canary: Callable[..., Canary], sign_in: Sign) -> None:
    stage = canary(2)
    assert Client().get(stage.live).status_code == 302
    assert sign_in("").get(stage.live).status_code == 403
    assert sign_in("Viewer").get(stage.live).status_code == 200
    assert sign_in("Viewer").get(f"{LIST}0/live/").status_code == 404


# --- Records ------------------------------------------------------------------------------------------------------


def test_an_incident_is_shown_from_the_first_red_check_to_the_changes_of_people(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(5)
    stage.send("migration_succeeded", clients=30)
    stage.check()
    incident = roll_back(stage)
    alert = Alert.objects.create(
        key=uuid.uuid4().hex,
        rollout=stage.rollout,
        kind="rolled_back",
        channel="email",
        payload={},
        attempts=2,
    )
    operations.resume(stage.feature, reason="fixed by PR 52")
    answer = viewer.get(f"/admin/rollout/incident/{incident.pk}/change/")
    page = words(answer)
    order = [
        "Red Check: score 50",
        "Red Check: score 50",
        "Red Check: score 50. Rolled back",
        "the judge: percentage 10 % → 0 %, on hold off → on",
        "Alert by e-mail: rolled back not sent after 2 attempts",
        ": on hold on → off fixed by PR 52",
    ]
    places: list[int] = []
    for text in order:
        places.append(page.index(text, places[-1] + 1 if places else 0))
    assert page.count("Red Check") == 3
    assert f"/admin/rollout/alert/{alert.pk}/" in answer.text
    row = words(viewer.get("/admin/rollout/incident/", {"rollout__id__exact": str(stage.rollout.pk)}))
    assert f"{stage.feature} 10 % rolled back" in row


def test_an_incident_whose_checks_are_purged_is_still_shown(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    incident = roll_back(canary(5))
    Check.objects.filter(rollout=incident.rollout).delete()
    page = words(viewer.get(f"/admin/rollout/incident/{incident.pk}/change/"))
    assert incident.reason[:30] in page


def test_a_check_is_shown_with_all_that_it_knew(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(5)
    stage.send("validation_error", clients=4)
    made = stage.check()
    later = stage.check()
    path = f"/admin/rollout/check/{made.pk}/change/"
    answer = viewer.get(path)
    page = words(answer)
    for text in (
        "ROLLOUT_ERROR_THRESHOLD 15",
        "ROLLOUT_CHECK_INTERVAL 1 min",
        "ROLLOUT_STEPS 10, 50, 100",
        "ROLLOUT_UNSIGNED_TELEMETRY full",
        "8 from 4 clients",
    ):
        assert text in page
    assert f"/admin/rollout/check/{later.pk}/" in answer.text
    listed = words(
        viewer.get("/admin/rollout/check/", {"rollout__id__exact": str(stage.rollout.pk), "signal": "red"})
    )
    assert made.signal == "red"
    assert "1 check" in listed
    assert viewer.post(path, {"signal": "green"}).status_code == 403
    assert Check.objects.get(pk=made.pk).signal == "red"


def test_telemetry_is_found_by_client_event_and_flag(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(2)
    client = stage.send("migration_failed", detail="QuotaExceeded")
    other = stage.send("console_error")

    def found(**query: str) -> str:
        return words(viewer.get("/admin/rollout/telemetryevent/", query))

    mine = found(q=f" {str(client).upper()} ")
    assert "QuotaExceeded" in mine
    assert str(other) not in mine
    event, name = f"event_{uuid.uuid4().hex[:8]}", "a browser's own name"
    store.arrive(
        [
            store.Arrival(
                uuid.uuid4(),
                event,
                "",
                ok=True,
                flag=stage.feature,
                client=as_uuid(name),
                session=uuid.uuid4(),
            )
        ]
    )
    assert event in found(q=name)
    assert "1 telemetry event" in found(q=f"event:{event}")
    flagged = found(q=f"flag: {stage.feature}")
    assert str(client) in flagged
    assert str(other) in flagged
    assert "5 telemetry events" in flagged
    filtered = found(flag=stage.feature, event="console_error")
    assert str(other) in filtered
    assert str(client) not in filtered


def test_telemetry_says_whose_word_each_event_is(canary: Callable[..., Canary], viewer: Client) -> None:
    stage, who = canary(2), uuid.uuid4()
    store.report(
        variants={stage.feature: "fund-store"},
        signer=who,
        event="fund_create_failure",
        category="",
        ok=False,
        detail="500",
    )
    senders: list[dict[str, Any]] = [{"signer": who}, {"network": "192.0.2.0/24"}, {}]
    for fields in senders:
        event = store.Occurrence(uuid.uuid4(), "error", "", ok=False, flag=stage.feature)
        store.arrive([event], store.Source(uuid.uuid4(), uuid.uuid4(), **fields))

    def found(**query: str) -> list[str]:
        page = viewer.get("/admin/rollout/telemetryevent/", {"flag": stage.feature} | query)
        return [text_of(cell).strip() for cell in re.findall(r"field-sender[^>]*>(.*?)</t[dh]>", page.text)]

    unsigned = ["no ticket", "no ticket, network 192.0.2.0/24"]
    assert found() == [*unsigned, "a user's ticket", "the server"]
    for sender, expected in (
        ("server", ["the server"]),
        ("ticket", ["a user's ticket"]),
        ("network", unsigned),
    ):
        assert found(q=f"from:{sender}") == expected
        assert found(**{"from": sender}) == expected
    assert viewer.get("/admin/rollout/telemetryevent/", {"from": "nobody"}).status_code == 400
    report = TelemetryEvent.objects.get(flag=stage.feature, server=True)
    assert str(who) in words(viewer.get(f"/admin/rollout/telemetryevent/{report.pk}/change/"))


def test_what_browsers_send_is_shown_as_text_and_never_run(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(2)
    evil = '<img src=x onerror=alert(1)>"><script>alert(1)</script>'
    client = stage.send("migration_failed", detail=evil)
    event = TelemetryEvent.objects.get(client=client, event="migration_failed")
    for path in (
        f"/admin/rollout/telemetryevent/?q={client}",
        f"/admin/rollout/telemetryevent/{event.pk}/change/",
    ):
        text = viewer.get(path).text
        assert "<img src=x" not in text
        assert "<script>alert" not in text
        assert "&lt;img src=x" in text
    stage.check()
    Check.objects.filter(rollout=stage.rollout).update(
        evidence={**stage.check().evidence, "names": {evil: 3}}
    )
    text = viewer.get(stage.live).text
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text


def test_lists_of_millions_are_read_by_an_index(canary: Callable[..., Canary], viewer: Client) -> None:
    client = canary(2).send("migration_failed")
    viewer.get("/admin/rollout/telemetryevent/")
    for query in ({}, {"q": str(client)}, {"event": "migration_failed"}):
        with CaptureQueriesContext(connection) as captured:
            viewer.get("/admin/rollout/telemetryevent/", query)
        ours = [sql["sql"] for sql in captured if '"rollout_telemetry"' in sql["sql"]]
        assert len(ours) == 2
        assert "LIMIT" in ours[0], "rows are counted to a limit; a list of one page needs no other"
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")
            for sql in ours:
                cursor.execute(f"EXPLAIN {sql}")
                plan = "\n".join(row[0] for row in cursor.fetchall())
                assert "Index" in plan, plan
                assert "Seq Scan" not in plan, plan
            cursor.execute("RESET enable_seqscan")


@pytest.mark.parametrize("model", PAGES)
def test_records_are_for_reading(
    canary: Callable[..., Canary], sign_in: Sign, viewer: Client, model: str
) -> None:
    stage = canary(5)
    incident = roll_back(stage)
    alert = Alert.objects.create(
        key=uuid.uuid4().hex, rollout=stage.rollout, kind="red", channel="webhook", payload={"text": "<b>"}
    )
    rows = {
        "check": incident.check_made,
        "incident": incident,
        "alert": alert,
        "telemetryevent": TelemetryEvent.objects.filter(flag=stage.feature).first(),
    }
    row = rows[model]
    assert row
    base = f"/admin/rollout/{model}/"
    for path in (base, f"{base}{row.pk}/change/"):
        assert viewer.get(path).status_code == 200
        assert Client().get(path).status_code == 302
        assert sign_in("").get(path).status_code == 403
    administrator = sign_in("Administrator")
    assert administrator.get(f"{base}add/").status_code == 403
    for method in (administrator.get, administrator.post):
        assert method(f"{base}{row.pk}/delete/").status_code == 403
    assert administrator.post(f"{base}{row.pk}/change/", {}).status_code == 403
    assert (
        viewer.get(f"{base}{uuid.UUID(int=0) if model == 'telemetryevent' else 0}/change/").status_code == 302
    )
    assert f'href="{base}"' in viewer.get("/admin/").text
    assert f'href="{base}"' not in sign_in("").get("/admin/").text


def test_alerts_are_found_by_what_became_of_them(canary: Callable[..., Canary], viewer: Client) -> None:
    rollout = canary(2).rollout
    states: dict[str, dict[str, Any]] = {
        "sent": {"sent_at": timezone.now(), "attempts": 1},
        "failed": {"attempts": 3, "error": "connection refused"},
        "waiting": {},
    }
    for fields in states.values():
        Alert.objects.create(
            key=uuid.uuid4().hex, rollout=rollout, kind="red", channel="email", payload={}, **fields
        )
    said = {
        "sent": "sent 20",
        "failed": "after 3 attempts: connection refused",
        "waiting": "waiting to be sent",
    }
    for state, text in said.items():
        page = words(
            viewer.get("/admin/rollout/alert/", {"delivery": state, "rollout__id__exact": str(rollout.pk)})
        )
        assert text in page
        assert "1 alert" in page


# --- The charts ---------------------------------------------------------------------------------------------------


def test_the_charts_of_long_times_sum_checks_up(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(600)
    stage.rollout.history.update(history_date=stage.now)
    rows = [
        Check(
            rollout=stage.rollout,
            stage=1,
            at=stage.now + timedelta(minutes=minute),
            after_seq=0,
            upto_seq=0,
            signal="red" if minute == 300 else "green",
            action="none",
            percentage=10,
            score=minute == 300 and 50,
            state={},
            evidence={},
            policy={},
            decision={},
        )
        for minute in range(1, 599)
    ]
    Check.objects.bulk_create(rows)
    stage.send("migration_succeeded", clients=30)
    stage.now = timezone.now() - timedelta(seconds=5)
    stage.check(0)
    text = viewer.get(stage.screen, {"days": "1"}).text
    assert "599 checks: worst signal red, highest score 50" in text
    strip = re.findall(
        r'<g class="cell is-(\w+)"><title>[^<]*</title><rect class="whole" [^>]*/><rect class="bar"', text
    )
    assert len(strip) <= charts.CELLS + 2
    assert strip.count("red") == 1


def test_the_charts_draw_the_limits_and_the_rates_that_the_checks_stored(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(5)
    totals = Counts(
        treatment=900, treatment_errors=9, control=8100, control_errors=81, succeeded=599, failed=1
    )
    for active in (50, 5000):
        decided(stage, Evidence(events=9, feature=Side(active=active)), carry=Carry(totals=totals))
    before = decided(stage, Evidence())
    del before.decision["thresholds"], before.decision["assessment"]["error_interval"]
    before.save()
    answer = viewer.get(stage.live)
    page = part(answer, "charts")
    assert "Red from 15 to 1,500" in page
    assert "with the feature: 99.8 % of 600 clients (98.4 % to over 99.9 %)" in page
    assert "with the feature: 1 % of 900 clients (0.2 % to 2.7 %)" in page
    assert "without it: 1 % of 8,100 clients (0.6 % to 1.5 %)" in page
    assert [note.count("red from 1,500") for note in re.findall(r"<title>(.*?)</title>", answer.text)].count(
        1
    ) == 2


def test_the_charts_say_in_a_table_what_they_draw(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(5)
    assert "No checks in this time." in part(viewer.get(stage.live), "charts")
    failures = Evidence(
        events=9, feature=Side(active=50, score=20, points=26), errors={"migration": 2, "default": 2}
    )
    decided(stage, failures)
    charted = part(viewer.get(stage.live), "charts")
    assert "One check in this time: a chart needs two." in charted
    assert "No rates in this time" in charted
    made = decided(stage, failures)
    charted = live_part(viewer.get(stage.live), "charts")
    heads = (
        "Time (UTC) Signal Percentage Red from (points) Score (points) Migration failures (10 points each)"
    )
    assert heads in text_of(charted)
    assert f"{made.at:%Y-%m-%d %H:%M} red 10 % 15 20 20 0 6 0" in text_of(charted)
    assert re.findall(r'type="checkbox" id="line_(\w+)"', charted) == list(charts.LINES)
    [promotion] = re.findall(r'<g class="is-promotion"><title>(.*?)</title>', charted)
    assert promotion.endswith("UTC: promoted from 0 % to 10 %, by the system")


def test_the_limit_of_a_stretch_of_checks_is_that_of_its_highest_score(
    canary: Callable[..., Canary],
) -> None:
    stage = canary(3)
    for active, score in ((50, 20), (5000, 7)):
        side = Side(active=active, score=score, points=score)
        made = decided(stage, Evidence(events=9, feature=side))
    year = timedelta(days=365)
    (point,), (rates,) = chart_points(stage.rollout, made.at - year, made.at)
    assert (point.checks, point.score, point.limit, point.signal) == (2, 20, 15, "red")
    assert rates.at == made.at


def test_months_of_checks_are_charted_without_reading_their_json(canary: Callable[..., Canary]) -> None:
    stage = canary(3)
    made = [stage.check() for _ in range(2)][-1]
    with CaptureQueriesContext(connection) as captured:
        chart_points(stage.rollout, made.at - timedelta(days=30), made.at)
    groups, stored = [query["sql"] for query in captured if '"rollout_check"' in query["sql"]]
    assert not re.search(r"decision|evidence|policy|state", groups)
    assert len(re.findall(r"'[\d-]+ [\d:.+]+'::timestamptz", stored)) <= 2 * (charts.CELLS + 1)


def test_a_check_that_another_version_stored_is_listed_and_shown_as_it_is(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(10)
    stage.send("migration_succeeded", clients=3)
    made = stage.check()
    Check.objects.filter(pk=made.pk).update(decision={"from": "another version"})
    listed = viewer.get("/admin/rollout/check/")
    assert (listed.status_code, "Another version stored this check" in listed.text) == (200, True)
    shown = viewer.get(f"/admin/rollout/check/{made.pk}/change/")
    assert (shown.status_code, "another version" in shown.text) == (200, True)


@pytest.mark.parametrize("field", ["decision", "state"])
def test_a_rollout_whose_last_check_another_version_stored_has_its_screen(
    canary: Callable[..., Canary], viewer: Client, field: str
) -> None:
    """Which is where the emergency stop is."""
    stage = canary(2)
    stage.send("migration_succeeded", clients=3)
    made = stage.check()
    Check.objects.filter(pk=made.pk).update(**{field: {"from": "another version"}})
    for address in (stage.screen, stage.live, f"{LIST}?q={stage.feature}"):
        answer = viewer.get(address)
        assert answer.status_code == 200
        assert "Another version stored the last check. The next check says what happens next." in words(
            answer
        )
    shown = words(viewer.get(stage.screen))
    assert ("Another version stored this check." in shown) is (field == "decision")
    assert ("Clients with the feature" in shown) is (field != "decision")
    operations.stop(stage.feature, reason="to be sure")
    stopped = viewer.get(stage.screen)
    assert stopped.status_code == 200
    assert ("Another version stored this check." in words(stopped)) is (field == "decision")


def test_an_incident_whose_checks_another_version_stored_is_still_shown(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    incident = roll_back(canary(5))
    Check.objects.filter(rollout=incident.rollout).update(decision={"from": "another version"})
    answer = viewer.get(f"/admin/rollout/incident/{incident.pk}/change/")
    assert answer.status_code == 200
    assert incident.reason in words(answer)
    # In the timeline, and again in its Markdown.
    assert words(answer).count("Another version stored this check.") == 6


def test_a_rollout_leads_to_its_records_that_the_viewer_may_see(
    canary: Callable[..., Canary], viewer: Client
) -> None:
    stage = canary(1)
    text = viewer.get(stage.screen).content.decode()
    for model, query in (
        ("check", f"?rollout__id__exact={stage.pk}"),
        ("telemetryevent", f"?flag={stage.feature}"),
        ("incident", f"?rollout__id__exact={stage.pk}"),
        ("alert", f"?rollout__id__exact={stage.pk}"),
        ("deployment", ""),
    ):
        address = f"/admin/rollout/{model}/{query}"
        assert f'href="{address}"' in text
        assert viewer.get(address).status_code == 200


def test_a_breadcrumb_does_not_name_the_app(canary: Callable[..., Canary], viewer: Client) -> None:
    stage = canary(1)
    heading = re.search(r"<h1.*?</h1>", viewer.get(stage.screen).content.decode(), re.DOTALL)
    assert heading
    assert re.findall(r"tracking-tight\">\s*(\S+)", heading[0]) == ["Rollouts", stage.feature]
