"""Schemathesis, which nobody here wrote, takes the document at its word."""

from django.contrib.auth.models import User

from fuzz.openapi import OFREP, attack
from tests.conftest import token_of
from tests.servers import Server


def test_every_answer_is_as_the_document_says(server: Server, user: User) -> None:
    run = attack(
        server.port,
        token_of(user),
        1,
        *("--phases", "coverage,stateful", "--max-examples", "3", "--generation-deterministic"),
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "12 selected / 12 total" in run.stdout


def test_every_answer_to_openfeature_is_as_the_protocols_own_document_says(server: Server) -> None:
    options = ("--phases", "coverage,fuzzing", "--max-examples", "60", "--generation-deterministic")
    run = attack(server.port, None, 1, *options, document=OFREP)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 selected / 2 total" in run.stdout
