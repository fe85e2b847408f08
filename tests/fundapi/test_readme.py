"""README says first what matters, and its numbers are the latest; links between pages lead somewhere."""

import json
import re
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

import pytest

from tests.servers import PROJECT

README = (PROJECT / "README.md").read_text()
INDEX = PROJECT / "docs/README.md"
PAGES = [path for path in (PROJECT / "docs").rglob("*.md") if path != INDEX]
DOCUMENTS = [*PROJECT.glob("*.md"), INDEX, *PAGES]


def test_the_two_commands_stand_first() -> None:
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert first is not None
    assert re.findall(r"^make \w+", first[1], re.MULTILINE) == ["make run", "make test"]


def test_the_two_apps_are_installed_as_their_page_says() -> None:
    """A test makes new projects by that page, and runs every line of it."""
    page = (PROJECT / "docs/how-to/install.md").read_text()
    section = README[README.index("## Two apps") : README.index("## What you get")]
    lines = re.findall(
        r"^(?:pip install|MIDDLEWARE|IDEMPOTENCY_|    return render).*$", section, re.MULTILINE
    )
    assert len(lines) == 5
    assert [line for line in lines if line.replace(" = [..., ", " += [") not in page] == []


def test_the_numbers_are_those_of_the_latest_benchmarks() -> None:
    ratios: dict[str, list[float]] = {}
    for report in ("results", "scale"):
        ratios |= json.loads((PROJECT / f"benchmarks/{report}.json").read_text())["ratios"]
    names = (
        *("create_vs_plain", "replay_vs_plain", "poll_vs_plain"),
        *("create_vs_idemkit", "replay_vs_idemkit"),
        *("create_vs_fastapi_idempotency", "replay_vs_fastapi_idempotency", "replay_vs_best_peer"),
        *(f"{what}, 10,000,000 keys / {what}, 0 keys" for what in ("create", "replay")),
    )
    rows = re.findall(r"^\|.*\| ([\d.]+) \|$", README, re.MULTILINE)
    assert [float(row) for row in rows] == [round(median(ratios[name]), 2) for name in names]


def test_the_moving_picture_tells_its_story_in_ten_seconds() -> None:
    """One frame at a time, and none moves for people who want no motion. The captions fit under the frames."""
    path = PROJECT / re.findall(r"\]\((docs/images/\S+\.svg)\)", README)[0]
    assert path.stat().st_size < 400_000
    svg = ElementTree.parse(path).getroot()
    style = svg.findtext("{*}style") or ""
    frames = svg.findall("{*}g")
    (whole,) = re.findall(r"animation: turn ([\d.]+)s infinite", style)
    delays = [float(re.findall(r"delay:([\d.]+)s", frame.attrib["style"])[0]) for frame in frames]
    assert delays == pytest.approx([float(whole) / len(frames) * number for number in range(len(frames))])
    assert 8 <= float(whole) <= 12
    assert "@media (prefers-reduced-motion: reduce) { g { animation: none }" in style
    captions = [frame.findtext("{*}text") or "" for frame in frames]
    assert 0 < min(map(len, captions)) <= max(map(len, captions)) <= 54


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


def test_every_page_that_the_code_names_exists() -> None:
    folders = ("fundapi", "idempotency", "rollout", "tests", "benchmarks", "chaos", "fuzz", "deploy")
    kinds = ("*.py", "*.js", "*.html", "*.yml", "*.json")
    files = [file for folder in folders for kind in kinds for file in (PROJECT / folder).rglob(kind)]
    named = {
        (str(file.relative_to(PROJECT)), page)
        for file in (*files, PROJECT / ".env.example", PROJECT / "Makefile")
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text())
    }
    assert len(named) > 30
    assert [(file, page) for file, page in sorted(named) if not (PROJECT / page).exists()] == []


def test_the_index_lists_every_page_once() -> None:
    listed = [INDEX.parent / target for target in re.findall(r"\]\(([^)#]+\.md)\)", INDEX.read_text())]
    assert sorted(listed) == sorted(PAGES)


def test_contributing_names_every_place_of_a_field_of_a_fund() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    section = text[text.index("## A new field of a fund") : text.index("## Rules")]
    listed = re.findall(r"^\d+\. `([\w./-]+)`", section, re.MULTILINE)
    places = {
        str(path.relative_to(PROJECT)) if path.parent.name != "migrations" else "fundapi/migrations/"
        for path in (PROJECT / "fundapi").rglob("*")
        if path.suffix in {".py", ".js", ".html"}
        and re.search("management_?fee", path.read_text(), re.IGNORECASE)
    }
    assert sorted(listed) == sorted(places)
