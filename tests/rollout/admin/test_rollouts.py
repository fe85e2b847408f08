"""Operators move rollouts by buttons, see what others did, and are never refused an emergency stop."""

import importlib
import json
import logging
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, transaction
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from rollout import configuration, operations
from rollout.admin import buttons, rollouts
from rollout.admin.forms import REASON_MAX, NewRolloutForm
from rollout.models import Rollout
from rollout.presentation import charts, history
from tests.rollout.conftest import MakeRollout, Person, Sign

LIST = "/admin/rollout/rollout/"
MOVES = ("set", "promote", "hold", "resume", "roll-back", "complete")
BUTTONS = (*MOVES, "release", "configure", "stop")


@pytest.fixture
def operator(sign_in: Sign) -> Person:
    return sign_in("Operator")


def screen(rollout: Rollout) -> str:
    return f"{LIST}{rollout.pk}/change/"


def read(answer: Any) -> str:
    """Return the visible text of a page."""
    return re.sub(r"\s+", " ", strip_tags(answer.text).replace("\xa0", " "))


def press(client: Client, rollout: Rollout, button: str, **fields: Any) -> Any:
    """Press a button of the screen as it was when ``rollout`` was read."""
    given = {"version": rollout.version, "reason": "because", "percentage": "", **fields}
    sent = {name: value for name, value in given.items() if value is not None}
    return client.post(f"{LIST}{rollout.pk}/{button}/", sent, follow=True)


def now(rollout: Rollout) -> Rollout:
    return Rollout.objects.get(pk=rollout.pk)


def configured(rollout: Rollout, **changed: Any) -> dict[str, Any]:
    """The configuration form as the page has it, with changes; ``None`` is an empty checkbox."""
    shown = {"enabled": "on", "auto_rollback": "on", "track_migrations": "on", "timeline": rollout.timeline}
    return {**shown, "description": rollout.description, **changed}


# --- What the buttons do ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("button", "before", "fields", "after", "said"),
    [
        ("set", {}, {"percentage": "12.5"}, {"percentage": Decimal("12.5")}, "is at 12.5 %"),
        ("set", {}, {"percentage": "7 %"}, {"percentage": 7}, "is at 7 %"),
        ("set", {}, {"percentage": "7", "preset": "50"}, {"percentage": 50, "stage": "partial"}, "is at 50 %"),
        ("set", {"percentage": 50}, {"preset": "0"}, {"percentage": 0, "stage": "off"}, "is at 0 %"),
        ("promote", {"percentage": 10}, {}, {"percentage": 50}, "is at 50 %"),
        ("promote", {"percentage": 10}, {"percentage": "rubbish"}, {"percentage": 50}, "is at 50 %"),
        ("hold", {"percentage": 10}, {}, {"on_hold": True, "percentage": 10}, "On hold The rollout is not promoted"),
        ("resume", {"on_hold": True}, {}, {"on_hold": False}, "no longer on hold"),
        ("roll-back", {"percentage": 50}, {}, {"percentage": 0, "on_hold": True}, "legacy. Rolled back by"),
        ("release", {"emergency_stop": True, "percentage": 10}, {}, {"emergency_stop": False}, "released, at 10 %"),
        ("complete", {"percentage": 100}, {}, {"stage": "complete", "track_migrations": False}, "is complete"),
    ],
)  # fmt: skip
def test_a_button_does_one_thing_and_the_history_says_who_and_why(
    operator: Person,
    make_rollout: MakeRollout,
    button: str,
    before: dict,
    fields: dict,
    after: dict,
    said: str,
) -> None:
    rollout = make_rollout(**before)
    answer = press(operator, rollout, button, reason=f"{button} it", **fields)
    assert answer.redirect_chain == [(screen(rollout), 302)]
    changed = now(rollout)
    assert {name: getattr(changed, name) for name in after} == after
    assert changed.version == rollout.version + 1
    record = rollout.history.latest()
    assert (record.history_user, record.history_change_reason) == (operator.user, f"{button} it")
    page = read(answer)
    assert said in page
    assert f"{button} it {operator.user}" in page


def test_an_administrator_configures_what_is_no_action(sign_in: Sign, make_rollout: MakeRollout) -> None:
    rollout = make_rollout(percentage=10)
    fields = configured(rollout, enabled=None, timeline="manual", track_migrations=None, description="Funds")
    answer = press(sign_in("Administrator"), rollout, "configure", **fields)
    changed = now(rollout)
    assert (changed.enabled, changed.timeline, changed.description) == (False, "manual", "Funds")
    assert (changed.auto_rollback, changed.track_migrations, int(changed.percentage)) == (True, False, 10)
    page = read(answer)
    assert "Enabled on → off" in page
    assert "Timeline conservative → manual" in page
    assert "Migration tracking on → off" in page
    assert "Description empty → “Funds”" in page


def test_saving_an_unchanged_configuration_changes_nothing(sign_in: Sign, make_rollout: MakeRollout) -> None:
    rollout = make_rollout()
    answer = press(sign_in("Administrator"), rollout, "configure", **configured(rollout))
    assert "Nothing was changed: these values are set already" in read(answer)
    assert now(rollout).version == rollout.version


def test_a_configuration_that_makes_no_sense_is_refused_and_kept(
    sign_in: Sign, make_rollout: MakeRollout
) -> None:
    rollout = make_rollout()
    fields = configured(rollout, timeline="tomorrow", description="Half typed")
    answer = press(sign_in("Administrator"), rollout, "configure", **fields)
    assert "tomorrow is not one of the available choices" in read(answer)
    assert 'value="Half typed"' in answer.text
    assert now(rollout).version == rollout.version


@pytest.mark.parametrize(
    ("percentage", "said"),
    [
        ("", "The percentage is missing"),
        ("half", "'half' is not a percentage"),
        ("nan", "'nan' is not a percentage"),
        ("1e999", "between 0 and 100"),
        ("101", "between 0 and 100"),
        ("-1", "between 0 and 100"),
        ("0.001", "has steps of 0.01"),
    ],
)
def test_a_wrong_percentage_is_explained_and_the_form_stays_filled_in(
    operator: Person, make_rollout: MakeRollout, percentage: str, said: str
) -> None:
    rollout = make_rollout(percentage=10)
    answer = press(operator, rollout, "set", percentage=percentage, reason="Because it is time")
    assert said in read(answer).replace("&#x27;", "'")
    assert "Because it is time</textarea>" in answer.text
    assert f'value="{percentage}"' in answer.text
    assert (int(now(rollout).percentage), now(rollout).version) == (10, rollout.version)


def test_an_administrator_names_people_who_always_or_never_get_it(
    sign_in: Sign, make_rollout: MakeRollout, user: User
) -> None:
    rollout, group = make_rollout(), Group.objects.create(name=f"Beta {uuid.uuid4().hex[:8]}")
    administrator = sign_in("Administrator")
    people = f" staff,\r\nuser:{user.username} , group:{group.name}"
    press(administrator, rollout, "configure", **configured(rollout, always=people, never=""))
    assert now(rollout).always == f"group:{group.pk} staff user:{user.pk}"
    page = administrator.get(screen(rollout)).text
    shown = f"group:{group.name}, staff, user:{user.username}"
    assert re.search(rf'<textarea id="configure_always"[^>]*>{shown}</textarea>', page)
    assert f"Always for nobody → {shown}" in read(administrator.get(screen(rollout)))


def test_another_product_has_words_of_its_own(operator: Person, make_rollout: MakeRollout) -> None:
    rollout = make_rollout(percentage=10)
    words = {
        "ROLLOUT_WITHOUT": "the old pages",
        "ROLLOUT_LIVE_LABEL": "On air",
        "ROLLOUT_LIVE_WORDS": ("a", "b"),
    }
    with override_settings(**words):
        assert "On air: a" in read(operator.get(screen(rollout)))
        page = read(press(operator, rollout, "stop"))
    assert "On air: b" in page
    assert "Stopped Everybody gets the old pages. Stopped by" in page
    with override_settings():
        for name in words:
            delattr(settings, name)
        page = read(operator.get(screen(rollout)))
    assert "Live: no" in page
    assert "Everybody gets the previous version" in page
    words_of_funds = r"(?i)\b(legacy|store type|fund-store)\b"
    assert not re.search(words_of_funds, re.sub(r"USE_FUND_STORE", "", page))


def test_a_page_of_the_version_before_keeps_the_people(sign_in: Sign, make_rollout: MakeRollout) -> None:
    rollout = make_rollout(always="staff", never="authenticated")
    press(sign_in("Administrator"), rollout, "configure", **configured(rollout, description="new"))
    assert (now(rollout).description, now(rollout).always, now(rollout).never) == (
        "new",
        "staff",
        "authenticated",
    )


@pytest.mark.parametrize("field", ["always", "never"])
def test_a_name_that_nobody_has_is_refused_and_stays_typed(
    sign_in: Sign, make_rollout: MakeRollout, field: str
) -> None:
    rollout = make_rollout(**{field: "staff"})
    typed = {"always": "", "never": "", field: "staff, user:nobody-here"}
    answer = press(sign_in("Administrator"), rollout, "configure", **configured(rollout, **typed))
    assert "There is no user:nobody-here. Write user:NAME" in read(answer)
    assert re.search(rf'id="configure_{field}"[^>]*>staff, user:nobody-here</textarea>', answer.text)
    assert getattr(now(rollout), field) == "staff"


def test_the_same_people_in_other_words_are_no_change(sign_in: Sign, make_rollout: MakeRollout) -> None:
    rollout = make_rollout(always="authenticated staff")
    same = configured(rollout, always="staff,authenticated,staff", never=" ")
    assert "Nothing was changed" in read(press(sign_in("Administrator"), rollout, "configure", **same))


def test_people_who_are_gone_are_shown_by_id(
    sign_in: Sign, make_rollout: MakeRollout, make_user: Callable[..., User]
) -> None:
    user = make_user()
    rollout, pk = make_rollout(always=f"user:{user.pk}"), user.pk
    user.delete()
    administrator = sign_in("Administrator")
    assert f">user:#{pk}</textarea>" in administrator.get(screen(rollout)).text
    answer = press(administrator, rollout, "configure", **configured(rollout, always="", never=""))
    assert f"Always for user:#{pk} → nobody" in read(answer)


@pytest.mark.parametrize("button", [*MOVES, "release", "configure"])
@pytest.mark.parametrize("reason", ["", "  \n "])
def test_every_button_but_the_stop_asks_why(
    sign_in: Sign, make_rollout: MakeRollout, button: str, reason: str
) -> None:
    rollout = make_rollout(emergency_stop=button == "release")
    fields = configured(rollout, timeline="manual", percentage="10", reason=reason)
    answer = press(sign_in("Administrator"), rollout, button, **fields)
    assert "Give a reason" in read(answer)
    assert now(rollout).version == rollout.version


def test_what_an_operation_refuses_is_said_in_its_words(operator: Person, make_rollout: MakeRollout) -> None:
    held = make_rollout(percentage=10, on_hold=True)
    assert "is on hold: resume it first" in read(press(operator, held, "promote"))
    full = make_rollout(percentage=100)
    assert "there is no higher step" in read(press(operator, full, "promote"))
    assert "is not stopped" in read(press(operator, full, "release"))
    assert now(full).version == now(held).version == 1


def test_browsers_hear_of_a_change_at_once(operator: Person, make_rollout: MakeRollout) -> None:
    rollout = make_rollout()

    def configured() -> dict[str, Any]:
        document = json.loads(configuration.current().body)
        return next(entry for entry in document["rollouts"] if entry["feature"] == rollout.feature)

    configuration.forget()
    assert configured()["percentage"] == 0
    press(operator, rollout, "set", percentage="10")
    assert configured()["percentage"] == 10
    operator.post(f"{LIST}{rollout.pk}/stop/")
    assert configured()["emergencyStop"] is True


@pytest.mark.parametrize("button", ["hold", "roll-back", "stop"])
def test_a_long_reason_does_not_push_the_buttons_out_of_sight(
    operator: Person, make_rollout: MakeRollout, button: str
) -> None:
    """On a phone, a thousand characters are a screen of their own. The history has all of them."""
    shown = press(operator, make_rollout(percentage=10), button, reason="r" * REASON_MAX).text
    banner = shown[shown.index('class="rollout-banner ') :].partition("</section>")[0]
    assert "r" * 299 + "…" in banner
    assert "r" * 300 not in banner
    assert "r" * REASON_MAX in shown


# --- Two people at once -----------------------------------------------------------------------------------------


def test_a_stale_form_is_refused_with_what_changed_meanwhile_and_stays_filled_in(
    operator: Person, make_rollout: MakeRollout, user: User
) -> None:
    seen = make_rollout(percentage=10)
    operations.set_percentage(seen.feature, Decimal(25), reason="a bit faster", actor=user)
    operations.hold(seen.feature, reason="support is out")
    answer = press(operator, seen, "set", percentage="50", reason="All is green")
    page = read(answer)
    assert f"Not done: {seen.feature} was changed meanwhile" in page
    assert re.search(rf"{user}, [\d-]+ [\d:]+ UTC: percentage 10 % → 25 % *\. “a bit faster”", page)
    assert re.search(r"the system, [\d-]+ [\d:]+ UTC: on hold off → on *\. “support is out”", page)
    assert "All is green</textarea>" in answer.text
    assert 'value="50"' in answer.text
    assert now(seen).percentage == 25


def test_an_operator_who_has_seen_the_change_may_press_again(
    operator: Person, make_rollout: MakeRollout
) -> None:
    seen = make_rollout(percentage=10)
    operations.hold(seen.feature, reason="wait")
    refused = press(operator, seen, "set", percentage="50")
    (version,) = set(re.findall(r'name="version" value="(\d+)"', refused.text))
    assert int(version) == now(seen).version
    press(operator, seen, "set", percentage="50", version=version)
    assert now(seen).percentage == 50


@pytest.mark.parametrize("button", [*MOVES, "release", "configure"])
def test_no_button_acts_on_a_stale_form(sign_in: Sign, make_rollout: MakeRollout, button: str) -> None:
    seen = make_rollout(percentage=10, emergency_stop=button == "release", on_hold=button == "resume")
    operations.configure(seen.feature, {"description": "meanwhile"}, reason="x")
    fields = configured(seen, timeline="manual", percentage="50")
    answer = press(sign_in("Administrator"), seen, button, **fields)
    assert "was changed meanwhile" in read(answer)
    assert now(seen).version == seen.version + 1


def test_a_stale_form_that_also_lacks_a_reason_does_not_pass_the_second_time(
    operator: Person, make_rollout: MakeRollout
) -> None:
    seen = make_rollout(percentage=10)
    operations.set_percentage(seen.feature, Decimal(100), reason="all of it")
    answer = press(operator, seen, "hold", reason="")
    assert "percentage 10 % → 100 %" in read(answer)


@pytest.mark.parametrize("version", [None, "", "one", "1.5", "9" * 5000])
def test_a_form_that_does_not_say_what_its_reader_saw_does_nothing(
    operator: Person, make_rollout: MakeRollout, version: Any
) -> None:
    rollout = make_rollout(percentage=10)
    assert "Not done" in read(press(operator, rollout, "set", percentage="50", version=version))
    assert now(rollout).percentage == 10


@pytest.mark.parametrize(
    ("button", "before"),
    [("set", {}), ("promote", {}), ("hold", {}), ("resume", {"on_hold": True}), ("roll-back", {"percentage": 10}),
     ("release", {"emergency_stop": True}), ("configure", {})],
)  # fmt: skip
def test_a_form_that_is_sent_twice_is_done_once_and_no_error(
    sign_in: Sign, make_rollout: MakeRollout, button: str, before: dict[str, Any]
) -> None:
    administrator = sign_in("Administrator")
    rollout = make_rollout(**before)
    fields = configured(rollout, timeline="manual", percentage="10")
    press(administrator, rollout, button, **fields)
    again = press(administrator, rollout, button, **fields)
    assert "The form was sent twice, and the change was made once." in read(again)
    assert "Not done" not in read(again)
    assert now(rollout).version == rollout.version + 1


def test_another_button_with_the_same_reason_is_not_taken_for_a_double_click(
    operator: Person, make_rollout: MakeRollout
) -> None:
    seen = make_rollout(percentage=10)
    press(operator, seen, "promote", reason="clean")
    assert "was changed meanwhile" in read(press(operator, seen, "hold", reason="clean"))
    assert "was changed meanwhile" in read(press(operator, seen, "set", percentage="20", reason="clean"))
    assert (int(now(seen).percentage), now(seen).on_hold) == (50, False)


def test_the_same_change_by_somebody_else_is_not_taken_for_a_double_click(
    operator: Person, sign_in: Sign, make_rollout: MakeRollout
) -> None:
    seen = make_rollout(percentage=10)
    press(sign_in("Operator"), seen, "promote", reason="clean")
    assert "was changed meanwhile" in read(press(operator, seen, "promote", reason="clean"))


# --- The emergency stop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"reason": ""},
        {"version": "1"},
        {"version": "stale", "percentage": "rubbish", "reason": "   ", "timeline": "?"},
        {"reason": "errors \0 everywhere"},
        {"reason": "x" * 100_000},
        {"action": "delete_selected", "index": "0"},
    ],
)
def test_nothing_in_a_form_can_refuse_an_emergency_stop(
    operator: Person, make_rollout: MakeRollout, fields: dict[str, str]
) -> None:
    rollout = make_rollout(percentage=50)
    operations.set_percentage(rollout.feature, Decimal(60), reason="meanwhile")
    with override_settings(ROLLOUT_CONFIRM=True):  # nor can production
        answer = operator.post(f"{LIST}{rollout.pk}/stop/", fields, follow=True)
    assert "Stopped Everybody gets legacy." in read(answer)
    assert now(rollout).emergency_stop
    assert rollout.history.latest().history_user == operator.user


def test_a_stop_keeps_the_reason_that_was_given(operator: Person, make_rollout: MakeRollout) -> None:
    rollout = make_rollout(percentage=50)
    answer = operator.post(f"{LIST}{rollout.pk}/stop/", {"reason": "drafts get lost"}, follow=True)
    assert re.search(
        rf"Stopped Everybody gets legacy\. Stopped by {operator.user} [\d-]+ [\d:]+ UTC: “drafts get lost”",
        read(answer),
    )


@pytest.mark.parametrize("button", ["stop", "hold", "roll-back"])
def test_one_click_shows_one_banner(operator: Person, make_rollout: MakeRollout, button: str) -> None:
    answer = press(operator, make_rollout(percentage=50), button)
    assert answer.text.count('class="rollout-banner ') == 1
    assert not list(answer.context["messages"])


def test_a_stop_of_what_is_stopped_is_no_error(operator: Person, make_rollout: MakeRollout) -> None:
    rollout = make_rollout(emergency_stop=True)
    assert "Stop again" in operator.get(screen(rollout)).text
    assert "is stopped" in read(operator.post(f"{LIST}{rollout.pk}/stop/", follow=True))
    assert now(rollout).emergency_stop


@pytest.mark.parametrize("page", ["list", "screen"])
def test_the_stop_is_one_click_away_and_needs_nothing_filled_in(
    operator: Person, make_rollout: MakeRollout, page: str
) -> None:
    rollout = make_rollout(percentage=50)
    text = operator.get(LIST if page == "list" else screen(rollout), {"q": rollout.feature}).text
    url = f"{LIST}{rollout.pk}/stop/"
    if page == "list":
        (form,) = re.findall(r'<form id="changelist-form".*?</form>', text, re.DOTALL)
        assert f'formaction="{url}"' in form
    else:
        (form,) = re.findall(rf'<form[^>]*action="{url}".*?</form>', text, re.DOTALL)
        assert "required" not in form
    assert "csrfmiddlewaretoken" in form
    assert "<details" not in form


@pytest.mark.parametrize(
    ("state", "look"),
    [
        ({"percentage": 50}, "is-danger"),
        ({"percentage": 100, "stage": "complete"}, "is-danger"),
        ({"percentage": 0}, "is-warning"),
        ({"percentage": 50, "enabled": False}, "is-warning"),
        ({"percentage": 50, "emergency_stop": True}, ""),
    ],
)
def test_the_list_has_a_loud_stop_only_where_browsers_get_the_feature(
    operator: Person, make_rollout: MakeRollout, state: dict[str, Any], look: str
) -> None:
    rollout = make_rollout(**state)
    page = operator.get(LIST, {"q": rollout.feature}).text
    assert re.findall(r'<button class="rollout-button ([\w-]+)" formaction', page) == ([look] if look else [])


@contextmanager
def changed_by_another(rollout: Rollout) -> Iterator[Callable[[], None]]:
    """Somebody else changes the row, and holds it until told to let go, or until the end."""
    held, enough = threading.Event(), threading.Event()

    def change() -> None:
        with transaction.atomic():
            operations.set_percentage(rollout.feature, Decimal(77), reason="in a hurry")
            held.set()
            enough.wait(60)
        connection.close()

    other = threading.Thread(target=change)

    def let_go() -> None:
        enough.set()
        other.join()

    other.start()
    try:
        assert held.wait(30)
        yield let_go
    finally:
        let_go()


def waiting_for_a_row() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query LIKE '%rollout_rollout%FOR UPDATE%'"
        )
        return cursor.fetchone() is not None


def test_a_stop_that_loses_a_race_still_stops(operator: Person, make_rollout: MakeRollout) -> None:
    seen = make_rollout(percentage=50)
    answers: list[Any] = []

    def stop() -> None:
        answers.append(operator.post(f"{LIST}{seen.pk}/stop/", {"version": seen.version}))
        connection.close()

    with changed_by_another(seen) as let_go:
        stopping = threading.Thread(target=stop)
        stopping.start()
        while stopping.is_alive() and not waiting_for_a_row():
            pass
        let_go()
        stopping.join()
    assert answers[0].status_code == 302
    assert (int(now(seen).percentage), now(seen).emergency_stop) == (77, True)


def test_a_stop_outlasts_somebody_who_holds_the_row_for_too_long(
    operator: Person, make_rollout: MakeRollout, caplog: pytest.LogCaptureFixture
) -> None:
    rollout = make_rollout(percentage=50)
    with changed_by_another(rollout) as let_go, impatient(), on_log("rollout_stop_failed", let_go):
        answer = operator.post(f"{LIST}{rollout.pk}/stop/", follow=True)
    assert "rollout_stop_failed" in caplog.text  # it had to try again
    assert "is stopped" in read(answer)
    assert now(rollout).emergency_stop


def test_a_stop_that_cannot_be_is_never_said_to_be(operator: Person, make_rollout: MakeRollout) -> None:
    rollout = make_rollout(percentage=50)
    with changed_by_another(rollout), impatient():
        answer = operator.post(f"{LIST}{rollout.pk}/stop/")
        page = read(answer)
        moved = read(press(operator, rollout, "hold"))
    assert answer.status_code == 503
    assert "THE STOP DID NOT GO THROUGH" in page
    assert f'action="{LIST}{rollout.pk}/stop/"' in answer.text
    assert "Nothing was changed: try again." in moved
    assert not now(rollout).emergency_stop


@contextmanager
def on_log(event: str, act: Callable[[], None]) -> Iterator[None]:
    """Act as soon as the admin logs an event, and before it goes on: no time passes that a machine can stretch."""

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == event:
                act()

    watch, logger = Watch(), logging.getLogger(buttons.__name__)
    logger.addHandler(watch)
    try:
        yield
    finally:
        logger.removeHandler(watch)


@contextmanager
def impatient() -> Iterator[None]:
    """This connection waits 0.2 s for a row, not 5."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        usual = (cursor.fetchone() or ["0"])[0]
        cursor.execute("SET lock_timeout = '200ms'")
        try:
            yield
        finally:
            cursor.execute(f"SET lock_timeout = '{usual}'")


def test_a_move_that_meets_a_stop_does_not_undo_it(operator: Person, make_rollout: MakeRollout) -> None:
    seen = make_rollout(percentage=50)
    operations.stop(seen.feature, reason="fire")
    page = read(press(operator, seen, "promote"))
    assert "emergency stop off → on" in page
    assert now(seen).emergency_stop


# --- Confirmation in production -----------------------------------------------------------------------------------


@pytest.fixture
def production() -> Iterator[None]:
    with override_settings(ROLLOUT_ENVIRONMENT="prod-eu"):
        yield


def confirmation(answer: Any) -> dict[str, str]:
    """Return the form data of the confirmation page."""
    assert "confirmed" in answer.text
    form = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', answer.text)
    return {name: value for name, value in form if name != "csrfmiddlewaretoken"}


@pytest.mark.parametrize(
    ("button", "before", "fields", "asked"),
    [
        ("set", {"percentage": 10}, {"percentage": "50"}, "10 % → 50 %"),
        ("set", {"percentage": 10}, {"percentage": "1", "preset": "100"}, "10 % → 100 %"),
        ("promote", {"percentage": 10}, {}, "10 % → 50 %"),
        ("roll-back", {"percentage": 10}, {}, "On hold: off → on"),
        ("hold", {}, {}, "On hold: off → on"),
        ("resume", {"on_hold": True}, {}, "On hold: on → off"),
        ("release", {"emergency_stop": True}, {}, "Emergency stop: on → off"),
        ("configure", {}, {"timeline": "manual"}, "Timeline: conservative → manual"),
        ("configure", {}, {"always": "staff,\nsuperusers"}, "Always for: nobody → staff, superusers"),
    ],
)
def test_production_asks_before_it_acts(
    production: None,
    sign_in: Sign,
    make_rollout: MakeRollout,
    button: str,
    before: dict,
    fields: dict,
    asked: str,
) -> None:
    administrator = sign_in("Administrator")
    rollout = make_rollout(**before)
    fields = {**(configured(rollout) if button == "configure" else {}), **fields}
    answer = press(administrator, rollout, button, **fields)
    page = read(answer)
    assert f"{rollout.feature} in prod-eu?" in page
    assert asked in page
    assert "Reason: “because”" in page
    assert now(rollout).version == rollout.version
    assert rollout.history.count() == 1
    administrator.post(answer.request["PATH_INFO"], confirmation(answer))
    changed = now(rollout)
    assert changed.version == rollout.version + 1
    assert rollout.history.latest().history_change_reason == "because"
    done = [f"{change.before} → {change.after}" for change in history.Difference.between(rollout, changed)]
    assert done
    assert all(change in page for change in done)


def test_a_confirmation_of_what_changed_meanwhile_is_refused(
    production: None, operator: Person, make_rollout: MakeRollout
) -> None:
    rollout = make_rollout(percentage=10)
    asked = press(operator, rollout, "promote", reason="All is green")
    operations.stop(rollout.feature, reason="fire")
    answer = operator.post(asked.request["PATH_INFO"], confirmation(asked))
    assert "was changed meanwhile" in read(answer)
    assert "All is green</textarea>" in answer.text
    assert now(rollout).percentage == 10


def test_what_would_be_refused_is_refused_before_anything_is_asked(
    production: None, operator: Person, make_rollout: MakeRollout
) -> None:
    rollout = make_rollout(percentage=10)
    answer = press(operator, rollout, "set", percentage="101")
    assert "between 0 and 100" in read(answer)
    assert "confirmed" not in answer.text
    operations.hold(rollout.feature, reason="wait")
    assert "was changed meanwhile" in read(press(operator, rollout, "set", percentage="50"))


def test_elsewhere_nothing_is_asked(operator: Person, make_rollout: MakeRollout) -> None:
    rollout = make_rollout()
    press(operator, rollout, "set", percentage="10")
    assert now(rollout).percentage == 10


def test_in_production_the_stop_takes_a_second_click_on_the_same_page(
    production: None, operator: Person, make_rollout: MakeRollout
) -> None:
    rollout = make_rollout(percentage=10)
    for page in (operator.get(screen(rollout)).text, operator.get(LIST, {"q": rollout.feature}).text):
        (armed,) = re.findall(r'<details class="rollout-arm">.*?</details>', page, re.DOTALL)
        assert "Emergency stop</summary>" in armed
        assert f"Yes, stop {rollout.feature} in prod-eu</button>" in armed


# --- Who may what -------------------------------------------------------------------------------------------------

MAY = {
    "": set(),
    "Viewer": {"look"},
    "Operator": {"look", *MOVES, "release", "stop"},
    "Administrator": {"look", *MOVES, "release", "stop", "configure", "add"},
}


@pytest.mark.parametrize("role", MAY)
def test_a_role_may_do_what_it_may_and_nothing_else(
    sign_in: Sign, make_rollout: MakeRollout, role: str
) -> None:
    client = sign_in(role)
    for button in BUTTONS:
        rollout = make_rollout(
            percentage=100 if button == "complete" else 10,
            emergency_stop=button == "release",
            on_hold=button in {"release", "resume"},
        )
        fields = configured(rollout, percentage="50", timeline="manual", version=1, reason="x")
        status = client.post(f"{LIST}{rollout.pk}/{button}/", fields).status_code
        assert status == (302 if button in MAY[role] else 403), button
        assert now(rollout).version == (2 if button in MAY[role] else 1), button
    looks = 200 if "look" in MAY[role] else 403
    for page in (LIST, screen(rollout), f"{LIST}{rollout.pk}/history/"):
        assert client.get(page).status_code == looks
    assert client.get(f"{LIST}add/").status_code == (200 if "add" in MAY[role] else 403)
    for method in (client.get, client.post):
        assert method(f"{LIST}{rollout.pk}/delete/").status_code == 403
    assert (f'href="{LIST}"' in client.get("/admin/").text) is ("look" in MAY[role])


@pytest.mark.parametrize("role", ["Viewer", "Operator", "Administrator"])
def test_buttons_that_a_person_may_not_press_are_not_shown(
    sign_in: Sign, make_rollout: MakeRollout, role: str
) -> None:
    client = sign_in(role)
    shown = set()
    for state in ({"percentage": 10}, {"percentage": 100}, {"emergency_stop": True, "on_hold": True}):
        rollout = make_rollout(**state)
        text = client.get(screen(rollout)).text + client.get(LIST, {"q": rollout.feature}).text
        shown |= {button for button in BUTTONS if f"{LIST}{rollout.pk}/{button}/" in text}
    assert shown == MAY[role] - {"look", "add"}


def test_buttons_that_would_be_refused_now_are_not_shown(operator: Person, make_rollout: MakeRollout) -> None:
    def shown(**state: Any) -> set[str]:
        rollout = make_rollout(**state)
        text = operator.get(screen(rollout)).text
        moves = ("promote", "hold", "resume", "release", "complete")
        return {button for button in moves if f"/{button}/" in text}

    assert shown(percentage=10) == {"promote", "hold"}
    assert shown(percentage=100) == {"hold", "complete"}
    assert shown(percentage=100, stage="complete") == {"hold"}
    assert shown(percentage=100, enabled=False) == {"hold"}
    assert shown(percentage=100, emergency_stop=True) == {"hold", "release"}
    assert shown(percentage=10, on_hold=True) == {"resume"}
    assert shown(percentage=10, on_hold=True, emergency_stop=True) == {"resume", "release"}


@pytest.mark.parametrize("button", BUTTONS)
def test_looking_at_a_button_s_address_changes_nothing_and_is_no_dead_end(
    sign_in: Sign, make_rollout: MakeRollout, button: str
) -> None:
    rollout = make_rollout(percentage=10)
    answer = sign_in("Administrator").get(f"{LIST}{rollout.pk}/{button}/")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert "Nothing was changed: press the button on this page." in read(answer)
    assert f'action="{LIST}{rollout.pk}/stop/"' in answer.text
    assert now(rollout).version == 1


@pytest.mark.parametrize("button", BUTTONS)
def test_another_site_cannot_press_a_button(operator: Person, make_rollout: MakeRollout, button: str) -> None:
    rollout = make_rollout(percentage=10)
    browser = Person(operator.user, enforce_csrf_checks=True)
    answer = browser.post(f"{LIST}{rollout.pk}/{button}/", {"version": 1, "reason": "x", "percentage": "50"})
    assert answer.status_code == 403
    assert now(rollout).version == 1


def test_a_visitor_who_is_not_signed_in_is_asked_to_sign_in(make_rollout: MakeRollout) -> None:
    rollout = make_rollout(percentage=10)
    for button in BUTTONS:
        answer = Client().post(f"{LIST}{rollout.pk}/{button}/")
        assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (302, "/admin/login/")
    assert now(rollout).version == 1


def test_what_is_not_there_is_a_404(sign_in: Sign, make_rollout: MakeRollout) -> None:
    client = sign_in("Administrator")
    for pk in ("0", "x", "99999999999999999999"):
        assert client.get(f"{LIST}{pk}/change/").status_code == 404
        assert client.post(f"{LIST}{pk}/stop/").status_code == 404


# --- Roles --------------------------------------------------------------------------------------------------------

VIEWER = {
    "fundapi.view_fund",
    "idempotency.view_idempotencykey",
    "rollout.view_rollout",
    "rollout.view_historicalrollout",
    *(f"rollout.view_{model}" for model in ("check", "incident", "telemetryevent", "alert", "deployment")),
}
OPERATOR = VIEWER | {"rollout.operate_rollout", "rollout.stop_rollout"}
ADMINISTRATOR = OPERATOR | {
    *(f"rollout.{verb}_rollout" for verb in ("add", "change", "delete")),
    *(f"fundapi.{verb}_fund" for verb in ("add", "change", "delete")),
    *(f"knox.{verb}_authtoken" for verb in ("add", "change", "delete", "view")),
    *(f"auth.{verb}_{model}" for verb in ("add", "change", "delete", "view") for model in ("user", "group")),
    *(f"axes.view_{model}" for model in ("accessattempt", "accessfailurelog", "accesslog")),
    *("axes.delete_accessattempt", "otp_totp.view_totpdevice", "otp_totp.delete_totpdevice"),
}


@pytest.mark.parametrize(
    ("role", "permissions"), [("Viewer", VIEWER), ("Operator", OPERATOR), ("Administrator", ADMINISTRATOR)]
)
def test_the_migration_makes_the_roles(database: None, role: str, permissions: set[str]) -> None:
    granted = Group.objects.get(name=role).permissions.select_related("content_type")
    assert {f"{found.content_type.app_label}.{found.codename}" for found in granted} == permissions


def test_a_role_that_is_there_already_keeps_what_it_has(database: None) -> None:
    roles = importlib.import_module("fundapi.migrations.0002_roles")
    later = ("0003_judge_roles", "0004_deployment_roles")
    views = [importlib.import_module(f"fundapi.migrations.{name}") for name in later]
    group, extra = Group.objects.get(name="Viewer"), Permission.objects.get(codename="view_logentry")
    permissions = Permission.objects.count()
    with transaction.atomic():
        group.permissions.set([extra])
        with connection.schema_editor(atomic=False) as editor:
            roles.make_roles(apps, editor)
            for view in views:
                view.let_see(apps, editor)
        kept = set(group.permissions.values_list("codename", flat=True))
        assert kept == {name.partition(".")[2] for name in VIEWER} | {"view_logentry"}
        assert Permission.objects.count() == permissions
        assert Group.objects.filter(name="Viewer").count() == 1
        transaction.set_rollback(True)


# --- A new rollout ------------------------------------------------------------------------------------------------


def add(client: Client, feature: str, **fields: str) -> Any:
    form = {"feature": feature, "timeline": "conservative", "auto_rollback": "on", "hash_version": "2"}
    return client.post(f"{LIST}add/", {**form, "reason": "A new waterfall", **fields}, follow=True)


def test_a_new_rollout_starts_at_0_with_a_first_line_of_history(sign_in: Sign) -> None:
    administrator = sign_in("Administrator")
    assert re.search(r'<option value="2"[^>]*selected', administrator.get(f"{LIST}add/").text)
    feature = f"WATERFALL_{uuid.uuid4().hex[:8].upper()}"
    configuration.forget()
    configuration.current()
    answer = add(administrator, feature)
    rollout = Rollout.objects.get(feature=feature)
    assert answer.redirect_chain == [(screen(rollout), 302)]
    assert (int(rollout.percentage), rollout.stage, rollout.hash_version, rollout.version) == (0, "off", 2, 1)
    record = rollout.history.get()
    assert (record.history_user, record.history_change_reason) == (administrator.user, "A new waterfall")
    assert "Created, at 0 % A new waterfall" in read(answer)
    assert feature.encode() in configuration.current().body


@pytest.mark.parametrize("feature", ["lower_case", "2FAST", "WITH SPACE", "WITH-DASH", "ÜBER", ""])
def test_a_feature_s_name_is_checked_with_a_clear_message(sign_in: Sign, feature: str) -> None:
    answer = add(sign_in("Administrator"), feature)
    expected = (
        "Upper case letters, digits and _, such as NEW_CHECKOUT." if feature else "This field is required."
    )
    (errors,) = re.findall(r"errorlist.*?</ul>|<div class=\"[^\"]*text-red.*?</div>", answer.text, re.DOTALL)[
        :1
    ]
    assert expected in errors
    assert not Rollout.objects.filter(feature=feature).exists()


def test_a_feature_has_one_rollout_and_a_new_one_needs_a_reason(
    sign_in: Sign, make_rollout: MakeRollout
) -> None:
    rollout = make_rollout()
    assert "already exists" in read(add(sign_in("Administrator"), rollout.feature))
    feature = f"F{uuid.uuid4().hex[:8].upper()}"
    for blank in (" ", "\u200b", "\u3164"):
        assert "Give a reason" in read(add(sign_in("Administrator"), feature, reason=blank))
    assert not Rollout.objects.filter(feature=feature).exists()


def test_a_feature_that_somebody_else_creates_at_the_same_time_is_refused(
    sign_in: Sign, make_rollout: MakeRollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = make_rollout()
    # As if the form had looked a moment earlier.
    monkeypatch.setattr(NewRolloutForm, "validate_unique", lambda _: None)
    answer = add(sign_in("Administrator"), rollout.feature)
    assert "already: configure it." in read(answer)
    assert rollout.history.count() == 1


# --- What the screen says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({}, "Nobody gets the feature yet. Promote starts it at 10 %."),
        ({"on_hold": True}, "until an operator resumes the rollout. Then Promote starts it at 10 %."),
        ({"percentage": 10}, "Not checked yet. The judge checks every 1 min."),
        ({"percentage": 100, "stage": "complete"}, "Complete: every browser gets the feature."),
        ({"percentage": 10, "enabled": False}, "Nobody gets the feature until it is enabled. Then 10 %"),
        ({"percentage": 10, "emergency_stop": True}, "Release brings it back at 10 %."),
        (
            {"percentage": 10, "emergency_stop": True, "on_hold": True},
            "Release brings it back at 10 %, on hold.",
        ),
        ({"percentage": 10, "emergency_stop": True, "enabled": False}, "It is disabled too"),
    ],
)
def test_the_screen_says_what_happens_next(
    operator: Person, make_rollout: MakeRollout, state: dict[str, Any], said: str
) -> None:
    assert said in read(operator.get(screen(make_rollout(**state))))


def test_a_state_out_of_the_ordinary_says_who_and_why(
    operator: Person, make_rollout: MakeRollout, user: User
) -> None:
    rollout = make_rollout(percentage=10)
    page = read(operator.get(screen(rollout)))
    assert "Store type: fund-store" in page
    assert not any(word in page for word in ("Stopped", "Disabled", "On hold"))
    operations.hold(rollout.feature, reason="support is out", actor=user)
    operations.configure(rollout.feature, {"enabled": False}, reason="replaced", actor=user)
    operations.stop(rollout.feature, reason="fire")
    operations.set_percentage(rollout.feature, Decimal(50), reason="later")
    page = read(operator.get(screen(rollout)))
    assert re.search(
        rf"On hold The rollout is not promoted until an operator resumes it. Put on hold by {user} [^“]*"
        "“support is out”",
        page,
    )
    assert re.search(rf"Disabled Nobody gets .* Disabled by {user} [^“]*“replaced”", page)
    assert re.search(r"Stopped Everybody gets legacy\. Stopped by the system [^“]*“fire”", page)
    assert "Store type: legacy" in page
    assert "50 % is set, but nobody gets" in page
    row = read(operator.get(LIST, {"q": rollout.feature}))
    assert "Stopped Disabled On hold" in row


def test_the_history_is_whole_and_comes_in_pages(operator: Person, make_rollout: MakeRollout) -> None:
    rollout = make_rollout()
    for number in range(60):
        operations.set_percentage(rollout.feature, Decimal(number + 1), reason=f"step {number + 1}.")
    assert f'href="{LIST}{rollout.pk}/history/"' in operator.get(screen(rollout)).text
    first = read(operator.get(f"{LIST}{rollout.pk}/history/"))
    assert "Percentage 59 % → 60 % step 60." in first
    assert "Percentage 10 % → 11 % step 11." in first
    assert "step 10." not in first
    second = read(operator.get(f"{LIST}{rollout.pk}/history/", {"p": 2}))
    assert "Percentage 9 % → 10 % step 10." in second
    assert "Created, at 0 %" in second


def test_a_reason_is_shown_as_text_and_never_run(operator: Person, make_rollout: MakeRollout) -> None:
    rollout = make_rollout(percentage=10)
    press(operator, rollout, "hold", reason="<script>alert(1)</script>")
    pages = [screen(rollout), f"{LIST}{rollout.pk}/history/"]
    texts = [operator.get(page).text for page in pages]
    texts.append(press(operator, rollout, "resume", reason='"><script>alert(1)</script>').text)
    for text in texts:
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text


def test_pages_of_this_app_have_no_inline_script_or_style(database: None) -> None:
    for template in Path(rollouts.__file__).parents[1].glob("templates/**/*.html"):
        text = template.read_text()
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", text), template


def test_a_longer_history_and_list_take_no_more_queries(
    operator: Person, make_rollout: MakeRollout, user: User
) -> None:
    few, many = make_rollout(), make_rollout()
    for number in range(30):
        operations.set_percentage(many.feature, Decimal(number), reason="x", actor=user)
    operator.get(screen(few))

    def queries(path: str, **query: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert operator.get(path, query).status_code == 200
        return len(captured)

    assert queries(screen(few)) <= queries(screen(many)) <= 11
    assert queries(f"{LIST}{many.pk}/history/") <= 9
    assert queries(LIST, q=few.feature) == queries(LIST, q="FEATURE") <= 10


# --- The chart ----------------------------------------------------------------------------------------------------

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def moment(minutes: int, percentage: float, **state: Any) -> charts.Moment:
    states: dict[str, Any] = {"enabled": True, "on_hold": False, "emergency_stop": False, **state}
    return charts.Moment(NOON + timedelta(minutes=minutes), percentage, **states)


def test_the_chart_steps_where_the_percentage_did() -> None:
    drawn = charts.draw([moment(0, 0), moment(50, 10), moment(75, 50)], now=NOON + timedelta(minutes=100))
    assert [(step.x, step.end, step.y, step.next_y) for step in drawn.steps] == [
        ("0.000%", "50.000%", "100.000%", "90.000%"),
        ("50.000%", "75.000%", "90.000%", "50.000%"),
        ("75.000%", "100.000%", "50.000%", "50.000%"),
    ]
    assert [label for _, label, _ in drawn.times] == ["12:00", "12:33", "13:06", "13:40"]
    assert drawn.states == []


def test_the_chart_shows_when_browsers_got_legacy_whatever_was_set() -> None:
    moments = [moment(0, 50), moment(30, 50, on_hold=True, emergency_stop=True), moment(60, 50, on_hold=True)]
    drawn = charts.draw([*moments, moment(90, 50, enabled=False)], now=NOON + timedelta(minutes=120))
    assert [step.state for step in drawn.steps] == ["open", "stopped", "hold", "disabled"]
    assert [step.reaches_browsers for step in drawn.steps] == [True, False, True, False]
    assert drawn.states == ["disabled", "hold", "stopped"]


def test_the_chart_of_a_day_begins_with_what_held_then() -> None:
    now = NOON + timedelta(days=3)
    moments = [moment(0, 5), moment(60, 10), moment(3 * 1440 - 720, 50)]
    drawn = charts.draw(moments, now=now, since=now - timedelta(days=1))
    assert [(step.x, step.y) for step in drawn.steps] == [("0.000%", "90.000%"), ("50.000%", "50.000%")]


def test_the_chart_in_words() -> None:
    assert charts.summary([moment(0, 0), moment(1, 10), moment(2, 10), moment(3, 0.5)]).endswith(
        "0 %, 10 %, 0.5 %"
    )
    assert charts.summary([moment(n, n) for n in range(50)]).endswith(
        "0 %, …, 44 %, 45 %, 46 %, 47 %, 48 %, 49 %"
    )


@pytest.mark.parametrize("days", ["6h", "1", "7", "all", "x", ""])
def test_the_chart_s_stretch_of_time_can_be_chosen(
    operator: Person, make_rollout: MakeRollout, days: str
) -> None:
    rollout = make_rollout()
    answer = operator.get(screen(rollout), {"days": days})
    chosen = days if days in {"6h", "1", "7", "all"} else "7"
    assert f'href="{screen(rollout)}?days={chosen}" aria-current="true"' in answer.text
