"""The cost of a page on a slow line: few requests, few bytes, and hardly any when it is opened again."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import enter
from tests.browser.every_page import GROUPS, records

__all__ = ["records"]  # a fixture

KB = 1000


class Loads:
    """The requests of a page that went over the line, with the bytes of their answers."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.answers: dict[str, dict[str, Any]] = {}
        self.sizes: dict[str, float] = {}
        self.cached: set[str] = set()
        self.session = session = page.context.new_cdp_session(page)
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

    def forget(self) -> None:
        """Empty the browser's cache."""
        self.session.send("Network.clearBrowserCache")

    def of(self, path: str) -> tuple[list[dict[str, Any]], float]:
        """Open a page; return its answers, and their bytes together."""
        self.answers, self.sizes, self.cached = {}, {}, set()
        self.page.goto(path, wait_until="networkidle")
        loaded = self.answers.keys() - self.cached
        return [self.answers[key] for key in loaded], sum(self.sizes.get(key, 0) for key in loaded)


@pytest.mark.parametrize("group", GROUPS)
def test_a_page_is_light_and_its_second_visit_costs_its_text_alone(
    open_page: Callable[..., Page], records: dict[str, Any], group: str
) -> None:
    page = open_page()
    if group != "open to everybody":
        enter(page, records["administrator"], "/livez")
    loads = Loads(page)
    found = []
    for path in GROUPS[group]:
        loads.forget()
        answers, size = loads.of(path.format(**records))
        if len(answers) > 15 or size > 500 * KB:
            found.append(f"{path}: {size / KB:.0f} kB, {[answer['url'] for answer in answers]}")
        found += [f"{path}: {fault}" for answer in answers for fault in faults(answer)]
        again, size = loads.of(path.format(**records))
        if size > 30 * KB or any("/static/" in answer["url"] for answer in again):
            found.append(f"{path} again: {size / KB:.0f} kB, {[answer['url'] for answer in again]}")
    assert not found, "\n".join(found)


def faults(answer: dict[str, Any]) -> list[str]:
    """Return the faults: a file that is not kept for ever, or a text that is worth compressing and is not."""
    headers, url = answer["headers"], answer["url"]
    is_file = "/static/" in url
    least = 400 if is_file else 4 * KB  # Django's script of formats, and Swagger UI's settings
    found = [f"{url} is not kept"] if is_file and "immutable" not in headers["cache-control"] else []
    # A poll is as large as there are rollouts, many in a test and few in a deployment.
    small = url.endswith((".woff2", ".png", "/api/rollouts")) or int(headers.get("content-length", 0)) < least
    if not small and headers.get("content-encoding") != "gzip":
        found.append(f"{url} is not compressed")
    return found
