"""What README tells a reader to type works as it stands there."""

import re
import subprocess

from django.contrib.auth.models import User

from tests.conftest import token_of
from tests.servers import PROJECT, Server

README = (PROJECT / "README.md").read_text()


def test_the_curl_of_the_readme_creates_replays_and_conflicts(server: Server, user: User) -> None:
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    script = next(block for block in blocks if "curl" in block)
    command = ".venv/bin/python manage.py create_token me --create"
    assert command in script
    script = script.replace(f"$({command})", token_of(user)).replace("http://127.0.0.1:8000", server.url)
    answer = subprocess.run(
        ["bash", "-euc", script], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    statuses = re.findall(r"^HTTP/1.1 (\d+)", answer, re.MULTILINE)
    outcomes = re.findall(r"^idempotency-status: (\w+)", answer, re.MULTILINE | re.IGNORECASE)
    assert statuses == ["201", "200", "409"]
    assert outcomes == ["created", "replayed", "conflict"]


def test_the_two_commands_stand_first() -> None:
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert first is not None
    assert re.findall(r"^make \w+", first[1], re.MULTILINE) == ["make run", "make test"]


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
