"""The names of telemetry's events are one list: screens, rehearsals and the API's schema have none of their own."""

import ast

import pytest
from django.test import RequestFactory

from fundapi.schema.telemetry import EVENT
from rollout.admin.telemetry import EventFilter
from rollout.judge.events import Event, reports_failure
from rollout.rehearsal.scenario import Rates
from rollout.rehearsal.traffic import SESSION_EVENTS
from tests.servers import PROJECT


def test_the_admin_s_filter_and_the_schema_offer_every_event() -> None:
    lookups = EventFilter.lookups(EventFilter.__new__(EventFilter), RequestFactory().get("/"), None)
    assert lookups == [(event.value, event.value) for event in Event]
    field = EVENT["properties"]["event"]
    sent = [event.value for event in Event if event != "telemetry_dropped"]
    assert field["examples"] == sent
    assert all(f"`{event}`" in field["description"] for event in sent)


def test_a_rehearsal_has_a_rate_for_each_event_that_it_makes_of_rates() -> None:
    assert {event.value for event in SESSION_EVENTS} <= set(Rates.__struct_fields__)


def test_no_other_module_names_an_event() -> None:
    # These two are common words.
    names = {event.value for event in Event if event not in {Event.ERROR, Event.VALIDATION_ERROR}}
    for path in [*(PROJECT / "rollout").rglob("*.py"), PROJECT / "fundapi/schema/telemetry.py"]:
        if "migrations" in path.parts or path.name == "events.py":
            continue
        literals = {
            node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
        }
        assert not literals & names, path


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        ("migration_failed", True),
        ("fund_create_failure", True),
        ("validation_error", True),
        ("error", True),
        ("console_warning", True),
        ("heartbeat", False),
        ("fund_create_conflict", False),
        ("error_dialog_shown", False),
        ("migration_failed\n", False),
    ],
)
def test_the_name_says_whether_an_event_without_ok_is_a_failure(event: str, failure: bool) -> None:
    assert reports_failure(event) is failure
