"""What README and the tutorial tell a reader to type works as it stands there; links lead somewhere."""

import re
import subprocess
from pathlib import Path

from django.contrib.auth.models import User

from tests.conftest import token_of
from tests.servers import PROJECT, Server

README = (PROJECT / "README.md").read_text()
TUTORIAL = (PROJECT / "docs/tutorial/first-rollout.md").read_text()
INDEX = PROJECT / "docs/README.md"
PAGES = [path for path in (PROJECT / "docs").rglob("*.md") if path != INDEX]
DOCUMENTS = [*PROJECT.glob("*.md"), INDEX, *PAGES]


def run(script: str, server: Server, user: User) -> str:
    """Run a script of a page against the test's own server, and return what it prints."""
    command = ".venv/bin/python manage.py create_token me --create"
    assert command in script
    script = script.replace(f"$({command})", token_of(user)).replace("http://127.0.0.1:8000", server.url)
    return subprocess.run(
        ["bash", "-euc", script], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout


def outcomes(answer: str) -> list[tuple[str, str]]:
    statuses = re.findall(r"^HTTP/1.1 (\d+)", answer, re.MULTILINE)
    headers = re.findall(r"^idempotency-status: (\w+)", answer, re.MULTILINE | re.IGNORECASE)
    return list(zip(statuses, headers, strict=True))


def test_the_curl_of_the_readme_creates_replays_and_conflicts(server: Server, user: User) -> None:
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    answer = run(next(block for block in blocks if "curl" in block), server, user)
    assert outcomes(answer) == [("201", "created"), ("200", "replayed"), ("409", "conflict")]


def test_the_requests_of_the_tutorial_are_answered_as_it_says(server: Server, user: User) -> None:
    """Its commands are parsed in tests/rollout/release/test_docs.py; the judge has tests of its own."""
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", TUTORIAL, re.DOTALL)
    lines = "".join(blocks).splitlines()
    requests = [
        line for line in lines if line != "make run" and (line[:6] == "TOKEN=" or "manage.py" not in line)
    ]
    answer = run("\n".join(requests), server, user)
    assert outcomes(answer) == [("201", "created"), ("200", "replayed"), ("409", "conflict")]
    (accepted,) = re.findall(r"^Each line of the answer is `(.+)`\.$", TUTORIAL, re.MULTILINE)
    assert answer.count(f"{accepted}\n") == 25 + 3 * 5
    assert answer.count('"store_type": ') == 2


def test_the_two_commands_stand_first() -> None:
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert first is not None
    assert re.findall(r"^make \w+", first[1], re.MULTILINE) == ["make run", "make test"]


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", document.read_text()):
            page = document.parent / target if target else document
            assert page.exists(), f"{document.name} links to {target}"
            assert not anchor or anchor in anchors(page), f"{document.name} links to {target}#{anchor}"


def test_the_index_lists_every_page_once() -> None:
    listed = [INDEX.parent / target for target in re.findall(r"\]\(([^)#]+\.md)\)", INDEX.read_text())]
    assert sorted(listed) == sorted(PAGES)


def test_contributing_names_every_place_of_a_field_of_a_fund() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    section = text[text.index("## A new field of a fund") : text.index("## Rules")]
    listed = re.findall(r"^\d\. `([\w./-]+)`", section, re.MULTILINE)
    places = {
        str(path.relative_to(PROJECT)) if path.parent.name != "migrations" else "fundapi/migrations/"
        for path in (PROJECT / "fundapi").rglob("*")
        if path.suffix in {".py", ".js", ".html"}
        and re.search("management_?fee", path.read_text(), re.IGNORECASE)
    }
    assert sorted(listed) == sorted(places)
