"""Alerts, from a red check to a receiver that nobody here wrote: web servers, mail servers, Celery, Valkey."""

import json
import os
import re
import secrets
import subprocess
import sys
import threading
import uuid
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from prometheus_client import REGISTRY
from standardwebhooks import Webhook, WebhookVerificationError

from benchmarks.servers import free_port
from rollout import store, tick
from rollout.alerts import channels, messages, outbox
from rollout.alerts.outbox import NotDelivered, deliver
from rollout.judge.decision import AlertKind
from rollout.models import Alert, Check, Rollout
from tests.canary import Canary
from tests.clock import travelled
from tests.eventually import eventually
from tests.node import NODE
from tests.reliability.valkey import Valkey, private_valkey
from tests.rollout.alerts.receivers import Hook, MailServer, WebReceiver, mail_server, web_receiver
from tests.rollout.conftest import Person
from tests.servers import PROJECT, database_url

# The mail server asks for a password without TLS, for it is on this machine.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
SECRET = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
TOKEN = "T0K3N-in-the-path"
PASSWORD = "open-sesame-7"


def now_due(alert: Alert, ago: timedelta = timedelta(seconds=1)) -> None:
    """Let the time of the next attempt have come."""
    Alert.objects.filter(pk=alert.pk).update(due_at=timezone.now() - ago)


def attempts(channel: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("rollout_alerts_total", {"channel": channel, "outcome": outcome}) or 0


@pytest.fixture
def web(database: None) -> Iterator[WebReceiver]:
    """A webhook that is set up."""
    with (
        web_receiver() as receiver,
        override_settings(
            ROLLOUT_WEBHOOK_URL=f"{receiver.url}/hooks/{TOKEN}",
            ROLLOUT_WEBHOOK_SECRET=SECRET,
            ROLLOUT_ADMIN_URL="https://funds.example.com/",
        ),
    ):
        yield receiver


@pytest.fixture
def mail(database: None) -> Iterator[MailServer]:
    """E-mail that is set up."""
    with (
        mail_server(password=PASSWORD) as server,
        override_settings(
            ROLLOUT_ALERT_EMAILS=["ops@example.com", "cto@example.com"],
            EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
            EMAIL_HOST="127.0.0.1",
            EMAIL_PORT=server.port,
            EMAIL_HOST_USER=server.user,
            EMAIL_HOST_PASSWORD=PASSWORD,
            DEFAULT_FROM_EMAIL="fundapi <fundapi@example.com>",
        ),
    ):
        yield server


# --- Which alerts are sent, and how often ---------------------------------------------------------------------------


def test_a_webhook_says_what_happened_and_is_signed(web: WebReceiver) -> None:
    canary = Canary()
    canary.fail()
    for alert in canary.alerts:
        deliver(alert.pk)
    red, rolled_back = web.of(canary.feature)
    assert red["kind"] == "red"
    rollout = Rollout.objects.get(feature=canary.feature)
    text = rolled_back.pop("text")
    assert rolled_back.pop("id").startswith("msg_")
    assert rolled_back == {
        "kind": "rolled_back",
        "feature": canary.feature,
        "environment": "test",
        "percentage": 10,
        "signal": "red",
        "reason": rolled_back["reason"],
        "evidence": rolled_back["evidence"],
        "next": "Rolled back to 0 %, and on hold until somebody resumes it.",
        "at": rolled_back["at"],
        "since": None,
        "url": f"https://funds.example.com/admin/rollout/rollout/{rollout.pk}/change/",
    }
    assert rolled_back["reason"].startswith("red: 50 points in this check")
    assert rolled_back["evidence"][0] == "score: 50 points in this check, red from 15 (red)"
    assert len(rolled_back["evidence"]) == 4
    assert datetime.fromisoformat(rolled_back["at"]) == canary.now
    assert text.startswith(f"[test] Rolled back from 10 %: {canary.feature}\nred: ")

    hook = web.hooks[-1]
    assert hook.headers["content-type"] == "application/json"
    assert hook.headers["webhook-id"] == hook.json["id"]
    receiver = Webhook(SECRET)
    assert receiver.verify(hook.body, hook.headers) == hook.json
    for body, headers in [
        (hook.body.replace(b"rolled_back", b"completed"), hook.headers),
        (hook.body, hook.headers | {"webhook-id": "msg_other"}),
        (hook.body, hook.headers | {"webhook-timestamp": str(int(hook.headers["webhook-timestamp"]) - 1)}),
    ]:
        with pytest.raises(WebhookVerificationError):
            receiver.verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + b64encode(bytes(32)).decode()).verify(hook.body, hook.headers)


def test_a_webhook_is_signed_at_the_time_of_the_database(web: WebReceiver) -> None:
    """A receiver refuses a time that is minutes off, and a worker's clock may be."""
    _, alert = one_alert()
    with travelled("-2 hours"):
        now_due(alert, timedelta(days=1))
        deliver(alert.pk)
        signed = int(web.hooks[-1].headers["webhook-timestamp"])
        assert signed == pytest.approx(store.clock().timestamp(), abs=5)


def test_a_signature_is_the_one_that_the_specification_gives_as_an_example() -> None:
    assert channels.signature_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330.9, tz=UTC),
        b'{"test": 2432232314}',
    ) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_an_email_says_it_all_in_its_subject_and_has_the_rest_below(mail: MailServer) -> None:
    canary = Canary(auto_rollback=False)
    with override_settings(ROLLOUT_ADMIN_URL="https://funds.example.com"):
        canary.fail()
    for alert in canary.alerts:
        deliver(alert.pk)
    red, tripped = mail.mails
    assert red["Subject"] == f"[test] Red at 10 %: {canary.feature}"
    assert tripped["Subject"] == f"[test] Breaker tripped at 10 %: {canary.feature}"
    assert tripped["To"] == "ops@example.com, cto@example.com"
    assert tripped["From"] == "fundapi <fundapi@example.com>"
    assert tripped["Auto-Submitted"] == "auto-generated"
    assert tripped["Message-ID"] == f"<{canary.alerts[1].payload['id']}@example.com>"
    assert tripped.get_content_type() == "text/plain"
    lines = tripped.get_content().splitlines()
    assert lines[0].startswith(
        f"The breaker of {canary.feature} tripped at 10 %. Auto-rollback is off: roll it back."
    )
    assert any(line.startswith("Why: red: 50 points in this check") for line in lines)
    assert "  score: 50 points in this check, red from 15 (red)" in lines
    assert "Next: Roll it back: 3 consecutive red checks, and auto-rollback is off." in lines
    assert any(line.startswith("https://funds.example.com/admin/rollout/rollout/") for line in lines)


def test_each_channel_has_its_row_whatever_is_set_up_where_the_check_is_made(
    database: None, request: pytest.FixtureRequest
) -> None:
    """Such as ``monitor_deployment`` in a shell; the worker that sends knows its channels."""
    canary = Canary()
    canary.fail()
    one, other = Alert.objects.filter(rollout=canary.pk, kind="rolled_back")
    web, mail = request.getfixturevalue("web"), request.getfixturevalue("mail")
    for alert in (one, other):
        deliver(alert.pk)
    assert len(web.hooks) == len(mail.mails) == 1
    assert {one.channel, other.channel} == {"webhook", "email"}
    assert one.payload == other.payload  # and with it the id: the event is one
    assert one.kind == "rolled_back"


def test_a_check_that_is_settled_again_alerts_nobody_again(web: WebReceiver) -> None:
    canary = Canary()
    made = canary.fail(checks=1)
    before = canary.alert
    Check.objects.filter(pk=made.pk).update(settled=False)
    tick.settle_all()
    assert Check.objects.get(pk=made.pk).settled
    assert canary.alert.pk == before.pk


def test_a_time_without_data_is_alerted_once_however_long_and_the_next_one_again(web: WebReceiver) -> None:
    canary = Canary()
    canary.send("migration_succeeded", clients=30)
    canary.check()
    began = canary.now + timedelta(minutes=10)
    for _ in range(9):
        canary.check(minutes=10)
    hold = canary.alert
    assert hold.kind == "hold"
    deliver(hold.pk)
    (sent,) = web.of(canary.feature)
    assert (sent["signal"], datetime.fromisoformat(sent["since"])) == ("hold", began)
    assert "no heartbeat of clients with the feature for 40 min" in sent["reason"]
    canary.send("migration_succeeded", clients=30)
    canary.check()
    for _ in range(5):
        canary.check(minutes=10)
    assert [alert.kind for alert in canary.alerts] == ["hold", "hold"]
    assert len({alert.payload["id"] for alert in canary.alerts}) == 2


def test_a_stored_check_that_nobody_can_read_leaves_the_others_their_alerts(
    web: WebReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an upgrade that changes what a decision holds."""
    broken, fine = Canary(), Canary()
    unreadable, other = (each.fail(checks=1) for each in (broken, fine))
    Alert.objects.filter(rollout=other.rollout).delete()
    Check.objects.filter(pk=unreadable.pk).update(settled=False, decision={"from": "another version"})
    Check.objects.filter(pk=other.pk).update(settled=False)
    try:
        tick.settle_all()
    finally:
        Check.objects.filter(pk=unreadable.pk).delete()  # else lists of checks meet it in other tests
    assert fine.alert.kind == "red"
    assert "rollout_settle_failed" in caplog.text


def test_an_alert_whose_channel_is_not_set_up_is_skipped_once_for_good(
    web: WebReceiver, viewer: Person
) -> None:
    canary, alert = one_alert()
    (unset,) = Alert.objects.filter(rollout=canary.pk).exclude(pk=alert.pk)
    skipped = attempts("email", "skipped")
    for each in (alert, unset):
        deliver(each.pk)
    unset.refresh_from_db()
    assert (unset.channel, unset.skipped, unset.sent_at, unset.attempts) == ("email", True, None, 0)
    assert attempts("email", "skipped") == skipped + 1
    page = viewer.get("/admin/rollout/alert/", {"rollout__id__exact": canary.pk}).text
    assert "not sent: no e-mail was set up" in page
    for delivery, count in (("sent", 1), ("skipped", 1), ("failed", 0), ("waiting", 0)):
        query = {"rollout__id__exact": str(canary.pk), "delivery": delivery}
        page = viewer.get("/admin/rollout/alert/", query).text
        assert page.count("field-when") == count
    request_again = {"lease": outbox.LEASE, "attempts_max": outbox.ATTEMPTS_MAX, "age_max": outbox.AGE_MAX}
    now_due(unset, timedelta(hours=1))
    assert store.claim_alert(unset.pk, **request_again) is None  # type: ignore[arg-type]


def test_an_earlier_version_beside_this_one_does_not_send_what_was_skipped(web: WebReceiver) -> None:
    """It does not know the column: for it, the alert is due when it is too old."""
    canary, alert = one_alert()
    (unset,) = Alert.objects.filter(rollout=canary.pk).exclude(pk=alert.pk)
    deliver(unset.pk)
    unset.refresh_from_db()
    assert unset.due_at - unset.created_at == outbox.AGE_MAX


# --- One attempt --------------------------------------------------------------------------------------------------


def one_alert() -> tuple[Canary, Alert]:
    canary = Canary()
    canary.fail(checks=1)
    return canary, canary.alert


def test_a_receiver_that_fails_is_tried_again_when_it_is_time(web: WebReceiver) -> None:
    canary, alert = one_alert()
    failed, sent = attempts("webhook", "failed"), attempts("webhook", "sent")
    web.answers = [500]
    with pytest.raises(NotDelivered, match="HTTP 500") as caught:
        deliver(alert.pk)
    assert (canary.alert.error, canary.alert.attempts, canary.alert.sent_at) == ("HTTP 500", 1, None)
    assert timedelta(seconds=2) <= caught.value.pause <= timedelta(seconds=7)
    deliver(alert.pk)  # a second message to Celery: it is not time
    assert len(web.hooks) == 1
    now_due(alert)
    deliver(alert.pk)
    now_due(alert)
    deliver(alert.pk)  # whatever the time: it is sent
    assert [hook.headers["webhook-id"] for hook in web.hooks] == [alert.payload["id"]] * 2
    after = canary.alert
    assert (after.error, after.attempts) == ("", 2)
    assert after.sent_at is not None
    assert (attempts("webhook", "failed"), attempts("webhook", "sent")) == (failed + 1, sent + 1)


def test_a_slow_receiver_is_given_up_and_a_redirect_is_not_followed(
    web: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary, alert = one_alert()
    monkeypatch.setattr(channels, "TIMEOUT", 0.2)
    web.gate.clear()
    with pytest.raises(NotDelivered, match=r"\AReadTimeout"):
        deliver(alert.pk)
    web.gate.set()
    for status in (301, 302, 307, 308, 404):
        web.answers = [status]
        now_due(alert)
        with pytest.raises(NotDelivered, match=f"HTTP {status}"):
            deliver(alert.pk)
    assert {hook.path for hook in web.hooks} == {f"/hooks/{TOKEN}"}
    assert canary.alert.attempts == 6


def test_a_receiver_that_is_away_is_named_by_its_error_alone(web: WebReceiver) -> None:
    with override_settings(ROLLOUT_WEBHOOK_URL=f"http://user:{TOKEN}@127.0.0.1:{free_port()}/{TOKEN}"):
        canary, alert = one_alert()
        with pytest.raises(NotDelivered):
            deliver(alert.pk)
    assert canary.alert.error == "ConnectError: Connection refused"


def test_a_mail_server_that_refuses_is_named_by_its_code_alone(mail: MailServer) -> None:
    canary, alert = one_alert()
    mail.refuse = "451 ops@example.com is over quota, open-sesame-7"
    with pytest.raises(NotDelivered):
        deliver(alert.pk)
    assert canary.alert.error == "SMTPDataError: SMTP 451"
    now_due(alert)
    with override_settings(EMAIL_HOST_PASSWORD="wrong"), pytest.raises(NotDelivered):
        deliver(alert.pk)
    assert canary.alert.error == "SMTPAuthenticationError: SMTP 535"
    mail.refuse = ""
    now_due(alert)
    deliver(alert.pk)
    assert len(mail.mails) == 1


def test_while_one_sends_nobody_else_does(web: WebReceiver) -> None:
    _, alert = one_alert()
    web.gate.clear()

    def elsewhere() -> None:
        try:
            deliver(alert.pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=elsewhere) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: sum(thread.is_alive() for thread in threads) == 1)
    web.gate.set()
    for thread in threads:
        thread.join(30)
    assert len(web.hooks) == 1


def test_an_alert_whose_sender_died_is_sent_by_another_after_the_lease(web: WebReceiver) -> None:
    canary, alert = one_alert()

    def claim() -> store.Claim | None:
        return store.claim_alert(
            alert.pk, lease=outbox.LEASE, attempts_max=outbox.ATTEMPTS_MAX, age_max=outbox.AGE_MAX
        )

    dead = claim()
    assert dead is not None
    deliver(alert.pk)
    assert web.hooks == []
    now_due(alert)
    assert claim() is not None  # somebody else
    # Back from the dead: what it says is no longer of interest, and frees nothing.
    store.alert_failed(alert.pk, attempt=dead.attempt, error="late", pause=timedelta(0))
    assert canary.alert.error == ""
    deliver(alert.pk)
    assert web.hooks == []
    now_due(alert)
    deliver(alert.pk)
    assert len(web.hooks) == 1


def test_after_the_last_attempt_nobody_tries_again(
    web: WebReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    canary, alert = one_alert()
    Alert.objects.filter(pk=alert.pk).update(attempts=outbox.ATTEMPTS_MAX - 1)
    given_up = attempts("webhook", "given_up")
    web.answers = [500]
    deliver(alert.pk)  # raises nothing: there is no next time
    assert attempts("webhook", "given_up") == given_up + 1
    assert "rollout_alert_given_up" in caplog.text
    now_due(alert)
    deliver(alert.pk)
    assert len(web.hooks) == 1
    assert canary.alert.sent_at is None


def test_what_is_older_than_a_day_is_no_news(web: WebReceiver) -> None:
    _, alert = one_alert()
    Alert.objects.filter(pk=alert.pk).update(created_at=timezone.now() - timedelta(hours=25))
    deliver(alert.pk)
    assert web.hooks == []


def test_pauses_grow_are_spread_and_have_an_end() -> None:
    pauses = [[outbox.pause_after(attempt).total_seconds() for _ in range(300)] for attempt in range(1, 16)]
    assert all(min(row) >= 2 for row in pauses)
    assert [max(row) <= 2 + 5 * 2**index for index, row in enumerate(pauses)] == [True] * 15
    assert 1000 < max(pauses[-1]) <= 1802
    assert all(len(set(row)) > 3 for row in pauses)


# --- Celery, and everything that may fail on the way ----------------------------------------------------------------


@pytest.fixture
def valkey(database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Valkey]:
    """A broker of this test's own, which this process sends to.

    Its workers would also send the alerts that other tests have left unsent.
    """
    Alert.objects.filter(sent_at=None).delete()
    with private_valkey() as running:
        monkeypatch.setenv("CELERY_BROKER_URL", running.url.replace("unix://", "redis+socket://", 1))
        yield running


def queued(valkey: Valkey) -> int:
    """Return how many messages nobody has finished yet."""
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        return int(client.llen("test.celery")) + int(client.hlen("unacked"))


def waiting(valkey: Valkey, canary: Canary) -> list[int]:
    """Return the canary's alerts that wait in the queue. A tick also hands over what earlier tests left unsent."""
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        messages = [json.loads(message) for message in client.lrange("test.celery", 0, -1)]
    handed_over = [message["headers"]["argsrepr"] for message in messages]
    return [alert.pk for alert in canary.alerts for _ in range(handed_over.count(f"({alert.pk},)"))]


@contextmanager
def worker(valkey: Valkey, log: Path, **env: str) -> Iterator[None]:
    command = [
        *(sys.executable, "-m", "celery", "-A", "fundapi", "worker", "--concurrency", "1"),
        *("--loglevel", "DEBUG"),  # all that could ever be logged
        *("--without-gossip", "--without-mingle", "-n", f"{uuid.uuid4().hex}@test"),
    ]
    environment = os.environ | {
        "DATABASE_URL": database_url(),
        "REDIS_URL": valkey.url,
        "LOG_LEVEL": "DEBUG",
        "ROLLOUT_WEBHOOK_SECRET": SECRET,
        **env,
    }
    environment.pop("CELERY_BROKER_URL", None)
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def test_a_rollback_is_alerted_once_over_each_channel_whatever_runs_twice(
    web: WebReceiver, mail: MailServer, valkey: Valkey, tmp_path: Path
) -> None:
    """Two real workers, the check settled twice, every message sent to Celery three times; and no log has a secret."""
    web.answers = [500]
    canary = Canary()
    env = {
        "ROLLOUT_WEBHOOK_URL": f"{web.url}/hooks/{TOKEN}",
        "ROLLOUT_ALERT_EMAILS": "ops@example.com",
        "EMAIL_URL": f"smtp://{mail.user}:{PASSWORD}@127.0.0.1:{mail.port}",
    }
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    last = canary.fail()
    Check.objects.filter(pk=last.pk).update(settled=False)
    tick.settle_all()
    ids = [alert.pk for alert in canary.alerts]
    assert len(ids) == 4
    outbox._queue(ids)
    assert queued(valkey) >= 8
    with ExitStack() as stack:
        for log in logs:
            stack.enter_context(worker(valkey, log, **env))
        eventually(lambda: all(alert.sent_at for alert in canary.alerts), timeout=90)
        eventually(lambda: queued(valkey) == 0, timeout=60)
    kinds = [sent["kind"] for sent in web.of(canary.feature)]
    # The receiver answered one of them with a 500, so it came again.
    assert sorted(kinds) in (
        ["red", "red", "rolled_back"],
        ["red", "rolled_back", "rolled_back"],
    )
    assert len({sent["id"] for sent in web.of(canary.feature)}) == 2
    assert sorted(mail["Subject"] for mail in mail.mails) == [
        f"[test] Red at 10 %: {canary.feature}",
        f"[test] Rolled back from 10 %: {canary.feature}",
    ]
    written = "".join(log.read_text() for log in logs)
    assert "rollout_alert_sent" in written
    assert "rollout_alert_failed" in written
    kept = json.dumps(list(Alert.objects.filter(pk__in=ids).values()), default=str)
    for secret in (TOKEN, PASSWORD, SECRET, SECRET.removeprefix("whsec_"), "ops@example.com"):
        assert secret not in written
        assert secret not in kept


def test_with_the_broker_away_the_judge_goes_on_and_alerts_when_it_is_back(
    web: WebReceiver, valkey: Valkey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    valkey.kill()
    canary = Canary()
    last = canary.fail()
    assert last.action == "roll_back"
    assert Check.objects.get(pk=last.pk).settled
    assert "rollout_alerts_not_queued" in caplog.text
    tick.settle_all()  # still away
    valkey.start()
    tick.settle_all()
    assert waiting(valkey, canary) == []  # a message that is only slow must not be sent again
    for alert in canary.alerts:
        now_due(alert, timedelta(minutes=3))
    tick.settle_all()
    with worker(valkey, tmp_path / "worker.log", ROLLOUT_WEBHOOK_URL=f"{web.url}/hooks/{TOKEN}"):
        eventually(lambda: all(alert.sent_at for alert in canary.alerts), timeout=90)
    assert [sent["kind"] for sent in web.of(canary.feature)] == ["red", "rolled_back"]


def test_a_broker_that_hangs_holds_the_judge_for_seconds_only(web: WebReceiver, valkey: Valkey) -> None:
    canary = Canary()
    valkey.freeze()
    began = timezone.now()
    assert canary.fail(checks=1).settled is False  # as it was handed over; the row says more
    assert timezone.now() - began < timedelta(seconds=15)
    assert canary.alert.attempts == 0


@pytest.mark.parametrize("fault", [["CONFIG", "SET", "maxmemory", "1"], ["REPLICAOF", "127.0.0.1", "1"]])
def test_a_broker_that_takes_no_writes_loses_no_check_and_no_alert(
    web: WebReceiver, valkey: Valkey, fault: list[str]
) -> None:
    canary = Canary()
    with redis.Redis(unix_socket_path=str(valkey.socket)) as broker:
        broker.execute_command(*fault)
        canary.fail(checks=1)
        assert canary.alert.attempts == 0
        broker.execute_command("CONFIG", "SET", "maxmemory", "0")
        broker.execute_command("REPLICAOF", "NO", "ONE")
    for alert in canary.alerts:
        now_due(alert, timedelta(minutes=3))
    tick.settle_all()
    assert waiting(valkey, canary) == [alert.pk for alert in canary.alerts]


def test_what_was_never_handed_over_is_handed_over_by_a_later_tick(web: WebReceiver, valkey: Valkey) -> None:
    """A crash between commit and Celery, or a broker that lost its memory."""
    canary = Canary()
    canary.fail()
    sent, unsent = canary.alerts
    with redis.Redis(unix_socket_path=str(valkey.socket)) as broker:
        assert waiting(valkey, canary) == [sent.pk, unsent.pk]
        broker.flushall()
        for alert in canary.alerts:
            now_due(alert, timedelta(minutes=3))
        tick.settle_all()
        assert waiting(valkey, canary) == [sent.pk, unsent.pk]
        Alert.objects.filter(pk=sent.pk).update(sent_at=timezone.now())
        broker.flushall()
        tick.settle_all()
    assert waiting(valkey, canary) == [unsent.pk]


# --- manage.py send_test_alert --------------------------------------------------------------------------------------


def run_command(*arguments: str) -> str:
    out = StringIO()
    call_command("send_test_alert", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def test_a_test_alert_is_sent_and_shown_and_its_outcome_reported(web: WebReceiver, mail: MailServer) -> None:
    said = run_command()
    (hook,) = web.hooks
    assert Webhook(SECRET).verify(hook.body, hook.headers)["kind"] == "test"
    assert hook.json["url"] == "https://funds.example.com/admin/rollout/rollout/"
    (mailed,) = mail.mails
    assert mailed["Subject"] == "[test] Test alert: USE_FUND_STORE"
    assert "webhook: sent, HTTP 200" in said
    assert "email: sent, taken by the mail server" in said
    assert f'"id": "{hook.json["id"]}"' in said
    assert "Subject: [test] Test alert" in said
    assert not {secret for secret in (TOKEN, SECRET, PASSWORD) if secret in said}


def test_a_test_alert_that_fails_says_so_and_tries_the_other_channel(
    web: WebReceiver, mail: MailServer
) -> None:
    web.answers = [403]
    out = StringIO()
    with pytest.raises(CommandError, match=r"Not sent: webhook\."):
        call_command("send_test_alert", stdout=out, no_color=True)
    assert "webhook: failed, HTTP 403" in out.getvalue()
    assert len(mail.mails) == 1


def test_a_test_alert_without_a_channel_says_what_to_set(database: None) -> None:
    with pytest.raises(CommandError, match="ROLLOUT_WEBHOOK_URL"):
        run_command()


# --- docs/how-to/alerts.md --------------------------------------------------------------------------------------

DOCS = (PROJECT / "docs/how-to/alerts.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)
    assert found is not None
    return found[1]


def real_and_forged(web: WebReceiver) -> tuple[Hook, Hook]:
    run_command("--channel", "webhook")
    real = web.hooks[-1]
    return real, replace(real, body=real.body.replace(b"test", b"best"))


def test_the_python_of_the_docs_takes_what_is_real(web: WebReceiver) -> None:
    namespace: dict[str, Any] = {}
    exec(block("python"), namespace)
    real, forged = real_and_forged(web)
    assert namespace["receive"](SECRET, real.headers, real.body) == real.json
    with pytest.raises(WebhookVerificationError):
        namespace["receive"](SECRET, forged.headers, forged.body)


def test_the_node_of_the_docs_takes_what_is_real(web: WebReceiver, tmp_path: Path) -> None:
    module = tmp_path / "receive.mjs"
    module.write_text(
        f"{block('js')}\nconsole.log(JSON.stringify(receive(...JSON.parse(process.argv[2]))));\n"
    )

    def receive(hook: Hook, **headers: str) -> Any:
        arguments = json.dumps([SECRET, hook.headers | headers, hook.body.decode()])
        return json.loads(subprocess.check_output([NODE, str(module), arguments], text=True))

    real, forged = real_and_forged(web)
    assert receive(real) == real.json
    assert receive(forged) is None
    assert receive(real, **{"webhook-timestamp": "1"}) is None
    assert receive(real, **{"webhook-signature": "v1,AAAA"}) is None


def test_the_json_of_the_docs_has_the_fields_that_are_sent(web: WebReceiver) -> None:
    run_command("--channel", "webhook")
    assert list(json.loads(block("json"))) == list(web.hooks[-1].json)


def test_the_docs_name_each_kind_and_each_setting() -> None:
    for kind in (*AlertKind, messages.TEST):
        assert f"| `{kind}` |" in DOCS
    for name in ("WEBHOOK_URL", "WEBHOOK_SECRET", "ALERT_EMAILS", "ADMIN_URL"):
        assert f"ROLLOUT_{name}=" in DOCS
