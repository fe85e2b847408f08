"""An incident: what it leads to, people's notes on it, and its Markdown."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from rollout.admin import postmortem
from rollout.models import Check, Deployment, Incident
from tests.canary import Canary
from tests.rollout.admin.test_records import words
from tests.rollout.conftest import Sign

EVENTS = "/admin/rollout/telemetryevent/"


@pytest.fixture
def incident(database: None) -> Incident:
    canary = Canary(minutes=30)
    canary.fail()
    return Incident.objects.select_related("rollout", "check_made").get(rollout=canary.pk)


def page(incident: Incident) -> str:
    return f"/admin/rollout/incident/{incident.pk}/change/"


def note(client: Client, incident: Incident, text: str) -> Any:
    return client.post(f"/admin/rollout/incident/{incident.pk}/note/", {"text": text})


def markdown_of(client: Client, incident: Incident) -> str:
    (found,) = re.findall(
        r'<textarea id="postmortem"[^>]*>(.*?)</textarea>', client.get(page(incident)).text, re.DOTALL
    )
    return html.unescape(found)


# --- Notes --------------------------------------------------------------------------------------------------------


def test_an_operator_adds_notes_which_stay_in_the_timeline(sign_in: Sign, incident: Incident) -> None:
    operator = sign_in("Operator")
    for text in ("The CDN served an old bundle.", "<b>Purged</b> it.\n\nWatching."):
        answer = note(operator, incident, text)
        assert (answer.status_code, answer["Location"]) == (302, page(incident))
    shown = operator.get(page(incident))
    assert "The CDN served an old bundle." in words(shown)
    assert f"Note by {operator.user.username}" in words(shown)
    assert "&lt;b&gt;Purged&lt;/b&gt;" in shown.text
    notes = Incident.objects.get(pk=incident.pk).notes or []
    assert [entry["by"] for entry in notes] == [operator.user.username] * 2


@pytest.mark.parametrize("text", ["", "  \n ", "\u200b", "x" * (postmortem.NOTE_MAX + 1)])
def test_a_note_that_nobody_could_read_is_refused_and_kept_in_its_field(
    sign_in: Sign, incident: Incident, text: str
) -> None:
    answer = note(sign_in("Operator"), incident, text)
    assert answer.status_code == 200
    assert 'aria-invalid="true"' in answer.text
    assert ("Write the note first." if len(text) < 10 else text) in answer.text
    assert Incident.objects.get(pk=incident.pk).notes is None


def test_no_browser_cuts_a_long_note(sign_in: Sign, incident: Incident) -> None:
    """With ``maxlength``, the end of a pasted text is lost without a word."""
    (field,) = re.findall(r'<textarea id="note_text"[^>]*>', sign_in("Operator").get(page(incident)).text)
    assert "maxlength" not in field


def test_signing_in_again_adds_no_note_and_says_so(sign_in: Sign, incident: Incident) -> None:
    answer = sign_in("Operator").get(f"/admin/rollout/incident/{incident.pk}/note/")
    assert "No note was added: write it on this page." in words(answer)


def test_a_double_click_adds_one_note(sign_in: Sign, incident: Incident) -> None:
    operator = sign_in("Operator")
    for _ in range(2):
        note(operator, incident, "Once.")
    assert len(Incident.objects.get(pk=incident.pk).notes or []) == 1


def test_the_notes_of_an_incident_are_bounded(
    sign_in: Sign, incident: Incident, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postmortem, "NOTES_MAX", 1)
    operator = sign_in("Operator")
    note(operator, incident, "One.")
    assert "An incident has at most 1 notes" in words(note(operator, incident, "Two."))


def test_a_viewer_reads_notes_and_adds_none(sign_in: Sign, viewer: Client, incident: Incident) -> None:
    note(sign_in("Operator"), incident, "Seen by all.")
    assert note(viewer, incident, "Not by me.").status_code == 403
    shown = viewer.get(page(incident))
    assert "Seen by all." in words(shown)
    assert "New note" not in words(shown)
    assert note(sign_in("Operator"), Incident(pk=2**40), "Nowhere.").status_code == 404


# --- Markdown -----------------------------------------------------------------------------------------------------


def test_all_of_an_incident_is_copied_as_markdown(sign_in: Sign, incident: Incident) -> None:
    operator = sign_in("Operator")
    note(operator, incident, "The CDN served an old bundle.")
    text = markdown_of(operator, incident)
    assert text.startswith(f"# {incident.rollout.feature}: rolled back\n")
    assert "- Percentage: 10 %\n" in text
    assert text.count(" red: Check: score ") == 3
    assert f"Note by {operator.user.username}\n  - The CDN served an old bundle." in text
    assert "the judge: percentage 10 % → 0 %" in text
    assert text.index("## Why") < text.index("## Timeline (UTC)") < text.index("## What we learned")


def test_no_text_of_an_incident_is_hidden_as_html_in_markdown(sign_in: Sign, incident: Incident) -> None:
    operator = sign_in("Operator")
    note(operator, incident, "TypeError in <lambda>\n<!-- all that follows -->")
    text = markdown_of(operator, incident)
    assert "  - TypeError in \\<lambda>\n  - \\<!-- all" in text
    assert "<" not in text.replace("\\<", "")


# --- Links --------------------------------------------------------------------------------------------------------


def test_an_incident_leads_to_its_check_and_that_to_its_events(viewer: Client, incident: Incident) -> None:
    check = incident.check_made
    assert check is not None
    shown = viewer.get(page(incident)).text
    assert f'href="/admin/rollout/check/{check.pk}/change/">Last red check</a>' in shown
    events = f"{EVENTS}?q=check:{check.pk}"
    for at in (page(incident), f"/admin/rollout/check/{check.pk}/change/"):
        assert f'href="{events}">Its telemetry</a>' in viewer.get(at).text
    assert (
        f'href="{page(incident)}">Incident</a>' in viewer.get(f"/admin/rollout/check/{check.pk}/change/").text
    )
    listed = words(viewer.get(events))
    assert "migration_failed" in listed
    assert incident.rollout.feature in listed


@pytest.mark.parametrize("number", ["0", "x", "", "٣", "9" * 40])
def test_events_of_no_check_are_none(viewer: Client, number: str) -> None:
    assert "Nothing matches" in words(viewer.get(EVENTS, {"q": f"check:{number}"}))


def test_the_events_of_a_check_are_those_that_arrived_for_it(viewer: Client, incident: Incident) -> None:
    checks = Check.objects.filter(rollout=incident.rollout_id).order_by("id")
    counts = []
    for check in checks:
        shown = words(viewer.get(f"{EVENTS}?q=check:{check.pk}"))
        counts.append(int(re.findall(r"(\d+) telemetry events", shown)[0]))
    assert counts[0] > 0
    assert len(counts) == 3


def test_an_incident_and_the_deployment_before_it_lead_to_each_other(
    viewer: Client, incident: Incident
) -> None:
    deployment = Deployment.objects.create(
        pull_request=incident.pk + 10_000,
        title="Move the fund set-up",
        branch="main",
        commit=f"{incident.pk:040x}",
        environment="test",
        deployed_by="ada",
        deployed_at=incident.tripped_at - timedelta(seconds=1),
    )
    at = f"/admin/rollout/deployment/{deployment.pk}/change/"
    assert f'href="{at}">#{deployment.pull_request}</a>' in viewer.get(page(incident)).text
    assert f'href="{page(incident)}">' in viewer.get(at).text
    Deployment.objects.filter(pk=deployment.pk).update(deployed_at=timezone.now() + timedelta(days=1))
    assert f'href="{at}"' not in viewer.get(page(incident)).text
    deployment.delete()


def test_a_person_sees_links_only_to_pages_that_they_may_see(sign_in: Sign, incident: Incident) -> None:
    person = sign_in("")
    person.user.user_permissions.add(Permission.objects.get(codename="view_incident"))
    shown = person.get(page(incident)).text
    assert "Its telemetry" not in shown
    assert "Last red check" not in shown
