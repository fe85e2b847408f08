"""`make fuzz` in short: a real server bears it, and a bad one does not."""

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from axes.models import AccessAttempt, AccessFailureLog
from django.contrib.auth.models import Group, User
from django.test import Client

from fundapi.models import Fund
from fuzz.campaign import Campaign, Target
from fuzz.cases import TRICKS, Screen, case
from fuzz.verdict import Effect, moved
from rollout.models import Rollout
from tests.conftest import token_of
from tests.servers import PROJECT, Server


@pytest.fixture
def rollout(database: None, key: str) -> Iterator[Rollout]:
    """A rollout of the test; afterwards, failed sign-ins do not count for other tests."""
    yield Rollout.objects.create(feature=f"FEATURE_{key.upper()}")
    AccessAttempt.objects.filter(username__startswith="fuzz-").delete()


def campaign(server: Server, user: User, rollout: Rollout, seed: int) -> Campaign:
    user.groups.add(Group.objects.get(name="Operator"))
    User.objects.filter(pk=user.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(user)
    cookie = f"sessionid={browser.cookies['sessionid'].value}"

    def screen() -> Screen:
        rollout.refresh_from_db()
        return Screen(cookie, f"/admin/rollout/rollout/{rollout.pk}/set/", rollout.version)

    def effects() -> list[Effect]:
        failures = AccessFailureLog.objects.filter(username__startswith=f"fuzz-{seed}-")
        moves = rollout.history.exclude(history_change_reason=None)
        return [
            *(Effect(name) for name in failures.values_list("username", flat=True)),
            *(moved(*move) for move in moves.values_list("history_change_reason", "percentage")),
        ]

    return Campaign(
        Target(
            port=server.port,
            token=token_of(user),
            funds=lambda: list(Fund.objects.filter(owner=user).values_list("id", "name")),
            workers=lambda: {worker.pid for worker in server.workers()},
            screen=screen,
            effects=effects,
        ),
        seed,
    )


def test_the_server_bears_every_trick(server: Server, user: User, rollout: Rollout) -> None:
    bearing = campaign(server, user, rollout, seed=1)
    bearing.run(cases=10 * len(TRICKS))
    assert bearing.findings == []
    assert {name: tally.tried for name, tally in bearing.tallies.items()} == dict.fromkeys(TRICKS, 10)
    assert bearing.served == 10 * len(TRICKS) // 25 + 1
    assert len(bearing.acknowledged) > 30
    moves = rollout.history.filter(history_change_reason__startswith="fuzz-").count()
    assert 0 < moves < len(bearing.effects)


def test_a_fund_that_is_gone_is_a_finding(server: Server, user: User, rollout: Rollout) -> None:
    forgetful = campaign(server, user, rollout, seed=2)
    forgetful.run(cases=0)  # a good request, which creates a fund
    assert forgetful.findings == []
    Fund.objects.filter(owner=user).delete()
    forgetful.run(cases=0)
    assert [finding.what.partition(":")[0] for finding in forgetful.findings] == ["lost"]


class BadServer(socketserver.StreamRequestHandler):
    """Reads a head of HTTP and answers 200, but 500 when there is a question mark in its first line."""

    def handle(self) -> None:
        first = self.rfile.readline()
        status = b"500 Oh" if b"?" in first else b"200 OK"
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.fixture
def bad_port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), BadServer) as bad:
        thread = threading.Thread(target=bad.serve_forever)
        thread.start()
        yield bad.server_address[1]
        bad.shutdown()
        thread.join()


def test_a_bad_server_is_found_out_by_as_few_bytes_as_it_takes(bad_port: int) -> None:
    hunt = Campaign(Target(bad_port, "token", list, set), seed=3)
    number = next(
        number for number in range(1000) if case(3, number, "token").sent.startswith(b"GET /api/funds?page")
    )
    hunt.run(cases=1, first=number)
    found, good = hunt.findings
    assert (found.number, found.what) == (number, "status 500")
    assert b"?" in found.sent
    assert len(found.sent) < 10
    assert good.what.startswith("answered with [200, 200]")


def test_a_case_is_the_same_whenever_it_is_made() -> None:
    for number in range(2 * len(TRICKS)):
        assert case(4, number, "token") == case(4, number, "token") != case(5, number, "token")


def test_an_unknown_attacker_is_refused_with_the_names_of_those_there_are() -> None:
    command = [sys.executable, "-m", "fuzz", "words"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "there is no attacker called words: choose from bytes, openapi" in run.stderr
