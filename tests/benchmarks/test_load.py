"""The load generator sends what it should, and stops at an answer that is not what is measured."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, repeat

import pytest

from benchmarks.load import UnexpectedAnswer, ask, keep_sending, posts_with_new_keys, request


class Handler(BaseHTTPRequestHandler):
    """Creates under /funds, has nothing new under /rollouts, knows no other address."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self._answer(201 if self.path == "/funds" else 404, self.rfile.read(length))

    def do_GET(self) -> None:
        self.send_response(304)
        self.send_header("ETag", '"abc"')
        self.end_headers()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_it_counts_what_it_sends(port: int) -> None:
    streams = [posts_with_new_keys("/funds", token="t", body=b"{}") for _ in range(2)]
    taken = keep_sending(port, streams, seconds=0.2, expected=201)
    assert taken.count > 2
    assert taken.p50 <= taken.p99


def test_an_unexpected_answer_ends_it(port: int) -> None:
    wrong = request("POST", "/nowhere", body=b'{"detail": "lost"}')
    with pytest.raises(UnexpectedAnswer, match=r"status 404 instead of 201.*lost"):
        keep_sending(port, [repeat(wrong)], seconds=10, expected=201)


def test_an_answer_without_a_body_has_its_headers(port: int) -> None:
    answer = ask(port, request("GET", "/rollouts"))
    assert (answer.status, answer.header("etag"), answer.body) == (304, '"abc"', b"")


def test_every_post_has_a_key_of_its_own_that_is_a_uuid_too() -> None:
    sent = list(islice(posts_with_new_keys("/funds", token="t", body=b"{}"), 100))
    keys = {line for each in sent for line in each.split(b"\r\n") if line.startswith(b"Idempotency-Key: ")}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {len("Idempotency-Key: ") + 32}
