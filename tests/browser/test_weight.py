"""What a page costs on a slow line: few requests, few bytes, and hardly any when it is opened again."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page

from rollout.models import Rollout
from tests.browser.conftest import enter

KB = 1000


class Loads:
    """The requests of a page that went over the line, with the bytes of their answers."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.answers: dict[str, dict[str, Any]] = {}
        self.sizes: dict[str, float] = {}
        self.cached: set[str] = set()
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.responseReceived", self._answered)
        session.on("Network.requestServedFromCache", lambda event: self.cached.add(event["requestId"]))
        session.on("Network.loadingFinished", self._finished)

    def _answered(self, event: dict[str, Any]) -> None:
        answer = event["response"]
        if not answer.get("fromDiskCache") and not answer["url"].startswith("data:"):
            self.answers[event["requestId"]] = answer

    def _finished(self, event: dict[str, Any]) -> None:
        self.sizes[event["requestId"]] = event["encodedDataLength"]

    def of(self, path: str) -> tuple[list[dict[str, Any]], float]:
        """Open a page; return its answers, and their bytes together."""
        self.answers, self.sizes = {}, {}
        self.page.goto(path)
        self.page.wait_for_load_state("networkidle")
        loaded = self.answers.keys() - self.cached
        return [self.answers[key] for key in loaded], sum(self.sizes.get(key, 0) for key in loaded)


@pytest.fixture
def screen(administrator: User) -> str:
    rollout = Rollout.objects.create(feature=f"FEATURE_{uuid.uuid4().hex[:12].upper()}")
    return f"/admin/rollout/rollout/{rollout.pk}/change/"


def test_a_rollout_page_is_light_and_its_second_visit_costs_its_text_alone(
    open_page: Callable[..., Page], administrator: User, screen: str
) -> None:
    page = open_page()
    enter(page, administrator, "/livez")  # a session, and nothing in the cache
    loads = Loads(page)
    answers, size = loads.of(screen)
    assert len(answers) <= 15, [answer["url"] for answer in answers]
    assert size <= 500 * KB
    again, size = loads.of(screen)
    assert [answer["url"] for answer in again if "/static/" in answer["url"]] == []
    assert size <= 30 * KB


@pytest.mark.parametrize("path", ["screen", "/admin/", "/admin/rollout/rollout/", "/fund-setup", "/api/docs"])
def test_every_file_of_a_page_is_kept_for_ever_and_compressed(
    open_page: Callable[..., Page], administrator: User, screen: str, path: str
) -> None:
    page = open_page()
    enter(page, administrator, "/livez")
    answers, _ = Loads(page).of(screen if path == "screen" else path)
    files = [answer for answer in answers if "/static/" in answer["url"]]
    assert files
    for file in files:
        assert "immutable" in file["headers"]["cache-control"], file["url"]
        packed = file["url"].endswith((".woff2", ".png")) or int(file["headers"]["content-length"]) < 400
        assert packed or file["headers"]["content-encoding"] == "gzip", file["url"]
    pages = [answer for answer in answers if answer["mimeType"] == "text/html" and answer["status"] == 200]
    assert pages
    assert all(answer["headers"]["content-encoding"] == "gzip" for answer in pages)
