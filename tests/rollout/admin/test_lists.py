"""The lists of records: filtered by time, exported, counted truly, and telling when there is nothing."""

import csv
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from rollout.admin import records
from rollout.models import Alert, Check, Incident
from tests.canary import Canary
from tests.rollout.admin.test_records import words

CHECKS = "/admin/rollout/check/"
LISTS = ("check", "incident", "alert", "deployment", "telemetryevent")


@pytest.fixture
def canary(database: None) -> Canary:
    stage = Canary(minutes=30)
    stage.fail()
    return stage


def body(answer: Any) -> str:
    assert answer.status_code == 200, answer
    return b"".join(answer.streaming_content).decode()


# --- Time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", LISTS)
@pytest.mark.parametrize("query", ["since=1h", "since=2026-01-01&until=2026-01-31", "since=&until="])
def test_every_list_filters_by_time(viewer: Client, page: str, query: str) -> None:
    assert viewer.get(f"/admin/rollout/{page}/?{query}").status_code == 200


@pytest.mark.parametrize("query", ["since=yesterday", "until=2026-02-30", "since=9999-12-31", "until=%27"])
def test_a_day_that_is_none_is_refused(viewer: Client, query: str) -> None:
    """Django would show every row, as if nothing had been asked for."""
    assert viewer.get(f"{CHECKS}?{query}").status_code == 400


def test_a_period_has_whole_days_in_utc(viewer: Client, canary: Canary) -> None:
    day = timezone.now().date()
    before, after = day - timedelta(days=2), day + timedelta(days=2)
    feature = f"rollout__id__exact={canary.pk}"
    shown = words(viewer.get(f"{CHECKS}?{feature}&since={before}&until={after}"))
    assert "3 checks" in shown
    assert "0 checks" in words(viewer.get(f"{CHECKS}?{feature}&until={before}"))
    assert "0 checks" in words(viewer.get(f"{CHECKS}?{feature}&since={after}"))
    page = viewer.get(f"{CHECKS}?{feature}&since={before}").text
    assert f'<input type="hidden" name="rollout__id__exact" value="{canary.pk}">' in page
    assert f'name="since" value="{before}"' in page


# --- Export -------------------------------------------------------------------------------------------------------


def test_what_is_shown_is_exported_as_csv_and_json(viewer: Client, canary: Canary) -> None:
    query = f"rollout__id__exact={canary.pk}&since=1h"
    page = viewer.get(f"{CHECKS}?{query}").text
    assert f'href="{CHECKS}export.csv?{query.replace("&", "&amp;")}"' in page
    rows = list(csv.DictReader(body(viewer.get(f"{CHECKS}export.csv?{query}")).splitlines()))
    document = json.loads(body(viewer.get(f"{CHECKS}export.json?{query}")))
    stored = list(Check.objects.filter(rollout=canary.pk).order_by("-id"))
    assert [row["id"] for row in rows] == [str(check.pk) for check in stored]
    assert [row["id"] for row in document] == [check.pk for check in stored]
    assert document[0]["decision"] == stored[0].decision
    assert json.loads(rows[0]["decision"]) == stored[0].decision
    assert rows[0]["at"].startswith(stored[0].at.strftime("%Y-%m-%dT%H:%M:%S"))
    assert (rows[0]["signal"], rows[0]["percentage"]) == ("red", "10.00")


@pytest.mark.parametrize("page", LISTS)
def test_every_list_is_exported(viewer: Client, canary: Canary, page: str) -> None:
    assert isinstance(json.loads(body(viewer.get(f"/admin/rollout/{page}/export.json"))), list)
    assert body(viewer.get(f"/admin/rollout/{page}/export.csv")).startswith(("id,", "pull_request,"))


def test_a_spreadsheet_runs_nothing_of_an_export(viewer: Client, canary: Canary) -> None:
    for reason in ('=HYPERLINK("http://evil")', "-1+1", "@SUM(A1)"):
        Incident.objects.filter(rollout=canary.pk).update(reason=reason)
        text = body(viewer.get(f"/admin/rollout/incident/export.csv?rollout__id__exact={canary.pk}"))
        (row,) = csv.DictReader(text.splitlines())
        assert row["reason"] == f"'{reason}"


def test_an_export_needs_the_permission_to_view(make_user: Callable[..., User], canary: Canary) -> None:
    client = Client()
    assert client.get(f"{CHECKS}export.csv").status_code == 302
    client.force_login(make_user(may_create=False, is_staff=True))
    assert client.get(f"{CHECKS}export.csv").status_code == 403


def test_an_export_has_two_forms_and_refuses_wrong_filters(viewer: Client) -> None:
    assert viewer.get(f"{CHECKS}export.xml").status_code == 404
    assert viewer.get(f"{CHECKS}export.csv?since=never").status_code == 400


# --- Counts and empty lists ---------------------------------------------------------------------------------------


def test_a_count_that_ends_at_its_limit_says_so(
    viewer: Client, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = f"{CHECKS}?rollout__id__exact={canary.pk}"
    monkeypatch.setattr(records, "COUNT_MAX", 3)
    assert "3 checks" in words(viewer.get(query))
    assert "more than" not in words(viewer.get(query))
    monkeypatch.setattr(records, "COUNT_MAX", 2)
    assert "more than 2 checks" in words(viewer.get(query))


@pytest.mark.parametrize("page", LISTS)
def test_an_empty_list_says_what_it_would_hold(viewer: Client, page: str) -> None:
    shown = words(viewer.get(f"/admin/rollout/{page}/?until=2001-01-01"))
    assert "Nothing matches the search and the filters." in shown
    assert "Export" not in shown


def test_alerts_without_a_channel_say_that_nobody_will_be_told(viewer: Client, settings: Any) -> None:
    settings.ROLLOUT_WEBHOOK_URL, settings.ROLLOUT_ALERT_EMAILS = "", ()
    assert "No channel is set up: nobody will be told." in words(viewer.get("/admin/rollout/alert/"))
    settings.ROLLOUT_ALERT_EMAILS = ("oncall@example.com",)
    assert "nobody will be told" not in words(viewer.get("/admin/rollout/alert/"))


def test_alerts_are_exported_with_their_content(viewer: Client, canary: Canary) -> None:
    rows = json.loads(body(viewer.get(f"/admin/rollout/alert/export.json?rollout__id__exact={canary.pk}")))
    assert {row["id"] for row in rows} == set(
        Alert.objects.filter(rollout=canary.pk).values_list("pk", flat=True)
    )
