"""A message that is not whole, or coded, runs no view: at no address, on no server."""

import gzip
import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from io import BytesIO
from typing import Any
from wsgiref.util import setup_testing_defaults

import httpx
import pytest
from django.contrib.auth.models import Group, User
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client

from fundapi.models import Fund
from fundapi.web.bodies import FAULT, FLOOD, listening_ports, look, receive
from fuzz.wire import Answer, parse
from rollout.models import Rollout
from tests.conftest import FUND, Api, token_of
from tests.eventually import eventually
from tests.servers import Server

CSRF = "c" * 32
FAR_TOO_MUCH = 64 * 1024 * 1024  # bytes of one body
BODY = json.dumps(FUND).encode()
CUTS = {
    "one byte too few": (b"Content-Length: %d" % (len(BODY) + 1), BODY),
    "no byte at all": (b"Content-Length: 5", b""),
    "no last chunk": (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (len(BODY), BODY)),
    "half a last chunk": (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)),
    "half a chunk": (b"Transfer-Encoding: chunked", b"fff\r\n" + BODY),
    "a broken chunk": (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\nxyz\r\n" % (len(BODY), BODY)),
    "no chunk": (b"Transfer-Encoding: chunked", b""),
}
ADDRESSES = (
    *("/api/funds", "/api/telemetry", "/api/telemetry/ticket", "/api/rollouts", "/api/nowhere"),
    *("/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/USE_FUND_STORE"),
    *("/signin", "/signout", "/admin/login/", "/admin/", "/fund-setup", "/nowhere", "/livez", "/health"),
)


def send(server: Server, sent: bytes) -> Answer:
    """Send bytes, hang up half-way, and return the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return parse(b"".join(iter(lambda: connection.recv(65536), b"")))[0]


def message(path: str, *headers: bytes, body: bytes = b"", method: bytes = b"POST") -> bytes:
    head = [method + b" " + path.encode() + b" HTTP/1.1", b"Host: 127.0.0.1", *headers, b"", b""]
    return b"\r\n".join(head) + body


def credentials(user: User, key: str = "k") -> list[bytes]:
    lines = [f"Authorization: Bearer {token_of(user)}", f"Idempotency-Key: {key}"]
    return [line.encode() for line in (*lines, "Content-Type: application/json")]


def assert_refused(answer: Answer, path: str, status: int, says: str) -> None:
    """Assert a refusal in the form of its address."""
    assert answer.status == status
    if path.startswith("/api"):
        assert answer.headers["content-type"] == "application/problem+json"
        detail = json.loads(answer.body)["detail"]
    elif path.startswith("/ofrep"):
        detail = json.loads(answer.body)["errorDetails"]
    else:
        assert answer.headers["content-type"].startswith("text/plain")
        detail = answer.body.decode()
    assert says in detail


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize("cut", CUTS)
def test_a_message_that_is_cut_is_refused_everywhere(server: Server, cut: str, path: str) -> None:
    framing, body = CUTS[cut]
    answer = send(server, message(path, framing, body=body))
    assert_refused(answer, path, 400, "The body is not whole")


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_creation_makes_no_fund_and_its_key_is_free(
    server: Server, api: Api, user: User, cut: str, key: str
) -> None:
    framing, body = CUTS[cut]
    assert send(server, message("/api/funds", *credentials(user, key), framing, body=body)).status == 400
    assert not Fund.objects.filter(owner=user).exists()
    assert api.create(key).status_code == 201


def test_a_client_that_hangs_up_within_its_body_makes_no_fund(server: Server, api: Api, user: User) -> None:
    for framing, body in CUTS.values():
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(message("/api/funds", *credentials(user), framing, body=body))
    eventually(lambda: server.log.count('"outcome":"bad_request"') >= len(CUTS))
    assert not Fund.objects.filter(owner=user).exists()


@pytest.mark.parametrize("multipart", [False, True])
def test_a_form_that_is_cut_by_one_byte_moves_no_rollout(
    server: Server, make_user: Callable[..., User], key: str, *, multipart: bool
) -> None:
    """5 % instead of 50 %."""
    rollout = Rollout.objects.create(feature=f"FEATURE_{key.upper()}")
    version = rollout.version
    operator = make_user(is_staff=True)
    operator.groups.add(Group.objects.get(name="Operator"))
    browser = Client()
    browser.force_login(operator)
    fields = {"csrfmiddlewaretoken": CSRF, "version": f"{version}", "reason": "because", "percentage": "50"}
    cookie = f"Cookie: csrftoken={CSRF}; sessionid={browser.cookies['sessionid'].value}".encode()
    request = httpx.Request(
        "POST",
        f"{server.url}/",
        data=None if multipart else fields,
        files={name: (None, value) for name, value in fields.items()} if multipart else None,
    )
    body, path = request.read(), f"/admin/rollout/rollout/{rollout.pk}/set/"
    head = [cookie, b"Content-Type: " + request.headers["Content-Type"].encode()]
    length = b"Content-Length: %d" % len(body)
    for cut in (1, 2, 3, 9):
        assert_refused(send(server, message(path, *head, length, body=body[:-cut])), path, 400, "not whole")
    chunks = b"%x\r\n%b\r\n" % (len(body), body)
    assert send(server, message(path, *head, b"Transfer-Encoding: chunked", body=chunks)).status == 400
    rollout.refresh_from_db()
    assert (int(rollout.percentage), rollout.version) == (0, version)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(message(path, *head, length, body=body))
        assert connection.recv(100).startswith(b"HTTP/1.1 302 ")
    rollout.refresh_from_db()
    assert rollout.percentage == Decimal(50)


def test_a_refusal_leaves_the_connection_in_step(server: Server, user: User) -> None:
    """The bytes of a refused body are never read as the next request."""
    inner = message("/api/funds", *credentials(user), b"Content-Length: %d" % len(BODY), body=BODY)
    coded = message(
        "/api/telemetry", b"Content-Encoding: gzip", b"Content-Length: %d" % len(inner), body=inner
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(coded + message("/livez", b"Connection: close", method=b"GET"))
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    first, rest = parse(said)
    second, rest = parse(rest)
    assert (first.status, second.status, second.body, rest) == (415, 200, b"ok", b"")
    assert not Fund.objects.filter(owner=user).exists()


def test_a_get_may_have_a_body_and_a_cut_one_is_refused(server: Server) -> None:
    for path in ("/api/rollouts", "/livez", "/signin"):
        whole = httpx.request("GET", server.url + path, content=b"{}")
        assert whole.status_code == 200
        cut = message(path, b"Content-Length: 3", body=b"{}", method=b"GET")
        assert_refused(send(server, cut), path, 400, "not whole")


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br, identity", "identity,zstd", "x", ",deflate"])
def test_a_coded_body_is_refused_everywhere_and_the_coding_named(
    server: Server, path: str, coding: str
) -> None:
    answer = httpx.post(server.url + path, content=gzip.compress(BODY), headers={"Content-Encoding": coding})
    named = next(word.strip().lower() for word in coding.split(",") if word.strip() not in {"identity", ""})
    detail = f"The body is coded as {named}. Send it uncoded (identity)."
    assert_refused(Answer(answer.status_code, dict(answer.headers), answer.content), path, 415, detail)
    assert answer.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "charset", ["hex", "idna", "undefined", "utf-16", "latin-1", "unicode_escape", "nope"]
)
def test_a_form_in_another_charset_is_refused_and_a_query_is_utf_8(
    server: Server, api: Api, charset: str
) -> None:
    """Django takes any codec of Python: each was a 500, of the sign-in page too."""
    for form in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        for path in ("/signin", "/admin/login/", "/nowhere"):
            named = {"Content-Type": f"{form}; charset={charset}"}
            answer = httpx.post(server.url + path, content=b"a=%ff--x--", headers=named)
            assert (answer.status_code, "send it in UTF-8" in answer.text) == (415, True)
    named = {"Content-Type": f"text/plain; charset={charset}"}
    assert api.get("/api/funds?cursor=%ff", headers=named).status_code == 404
    assert api.create(**{"Content-Type": f"application/json; charset={charset}"}).status_code == 201


def test_a_content_type_that_django_cannot_read_is_refused(api: Api) -> None:
    """It fails on it before any middleware."""
    answer = api.create(**{"Content-Type": "application/json; x*=nope''a"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8"])
def test_a_form_that_says_it_is_utf_8_is_read(server: Server, charset: str) -> None:
    named = {"Content-Type": f"application/x-www-form-urlencoded; charset={charset}"}
    answer = httpx.post(f"{server.url}/signin", content=b"a=b", headers=named)
    assert answer.status_code == 403, "read, and without a CSRF token"


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "identity, identity"])
def test_a_body_that_says_it_is_uncoded_is_taken(api: Api, coding: str) -> None:
    assert api.create(**{"Content-Encoding": coding}).status_code == 201


def test_a_coding_without_a_body_refuses_what_changes_something_only(api: Api) -> None:
    coded = {"Content-Encoding": "gzip"}
    assert api.get("/api/funds", headers=coded).status_code == 200
    assert api.post("/api/telemetry/ticket", headers=coded).status_code == 415


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"identity, gzip, chunked", b"chunked, chunked"])
def test_a_coded_transfer_is_refused_as_well(server: Server, user: User, coding: bytes) -> None:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        sent = message("/api/funds", *credentials(user), b"Transfer-Encoding: " + coding, body=chunks)
        connection.sendall(sent)
        assert connection.recv(12) == b"HTTP/1.1 415"
    assert not Fund.objects.filter(owner=user).exists()


def test_a_refusal_is_a_line_of_the_log_with_its_outcome(server: Server, key: str) -> None:
    httpx.post(f"{server.url}/api/{key}", content=b"{}", headers={"Content-Encoding": "gzip"})
    line = json.loads(next(line for line in server.log.splitlines() if f'"/api/{key}"' in line))
    assert (line["status"], line["outcome"]) == (415, "unsupported_media_type")


def test_a_chunked_body_that_does_not_end_is_hung_up_on(server: Server, api: Api) -> None:
    """Granian would take it into memory for as long as it comes."""
    sent, piece = 0, b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
    # The server may have closed a connection whose client's kernel waits for room: that ends by the time-out.
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as flood:
        flood.sendall(message("/api/telemetry", b"Transfer-Encoding: chunked"))
        with suppress(OSError):
            while sent < FAR_TOO_MUCH:
                flood.sendall(piece)
                sent += len(piece)
                time.sleep(0.001)
    assert sent < FAR_TOO_MUCH
    assert api.create().status_code == 201


def test_a_slow_chunked_body_is_not_taken_for_a_flood(server: Server, user: User, api: Api) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow:
        slow.sendall(message("/api/funds", *credentials(user), b"Transfer-Encoding: chunked"))
        for byte in BODY:
            slow.sendall(b"1\r\n%c\r\n" % byte)
            time.sleep(0.002)
        # Meanwhile another connection has sent more than a flood, and got its answers.
        for _ in range(10):
            assert api.create(body=BODY + b" " * 250_000).status_code == 201
        slow.sendall(b"0\r\n\r\n")
        assert slow.recv(12) == b"HTTP/1.1 201"


def test_only_connections_to_the_server_are_hung_up_on() -> None:
    """A long result of PostgreSQL, over TCP, is no flood."""
    piece = b"a" * (FLOOD // 16)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            for source, target, ports in (
                (accepted, client, listening_ports()),
                (client, accepted, {0}),
                (client, accepted, listening_ports()),
            ):
                seen = look({}, ports)
                for _ in range(20):
                    source.sendall(piece)
                    assert len(target.recv(len(piece), socket.MSG_WAITALL)) == len(piece)
                look(seen, ports)
            assert client.recv(1) == b""


@pytest.mark.parametrize(
    "names", [("Idempotency-Key", "Idempotency_Key"), ("Idempotency_Key", "Idempotency-Key")]
)
def test_of_two_spellings_of_a_header_one_holds(server: Server, user: User, names: tuple[str, str]) -> None:
    """Granian shows no difference: docs/reference/security.md."""
    first, later = (f"{name}: {number}".encode() for number, name in enumerate(names))
    head = [
        f"Authorization: Bearer {token_of(user)}".encode(),
        first,
        later,
        b"Content-Type: application/json",
    ]
    sent = message("/api/funds", *head, b"Content-Length: %d" % len(BODY), body=BODY)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(sent)
        answer, _ = parse(connection.recv(65536))
    assert answer.status == 201
    assert answer.headers["idempotency-key"] in {"0", "1"}


# --- On other servers -------------------------------------------------------------------------------------------


def environ(**headers: Any) -> dict[str, Any]:
    return {"REQUEST_METHOD": "POST", "wsgi.input": BytesIO(b"hello"), **headers}


def test_a_server_that_ends_the_input_itself_may_send_chunks() -> None:
    chunked = environ(HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input_terminated": True})
    assert receive(chunked) is None
    assert (chunked["wsgi.input"].read(), chunked["CONTENT_LENGTH"]) == (b"hello", "5")


def test_a_server_that_does_not_gets_no_chunks_taken() -> None:
    fault = receive(environ(HTTP_TRANSFER_ENCODING="chunked"))
    assert fault is not None
    assert "Content-Length" in fault.detail


@pytest.mark.parametrize("length", ["+5", "0x5", "-5", "5, 5", "5.0", "\N{ARABIC-INDIC DIGIT FIVE}", "5_0"])
def test_a_length_that_is_no_number_is_refused(client: Client, length: str) -> None:
    fault = receive(environ(CONTENT_LENGTH=length))
    assert fault is not None
    assert fault.code == "bad_request"
    answer = client.post("/api/telemetry", b"{}", "application/json", CONTENT_LENGTH=length)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert FAULT not in answer.wsgi_request.META


def test_a_form_in_parts_without_its_last_boundary_is_cut(client: Client) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\nme\r\n--x--\r\n'
    media_type = 'multipart/form-data; boundary="x"'
    for cut in range(2, len(form) - len(b"--x") + 1):
        assert client.post("/signin", form[:-cut], media_type).status_code == (200 if cut < 3 else 400), cut
    assert client.post("/signin", form, media_type).status_code == 200


def test_a_length_of_many_digits_is_too_large() -> None:
    fault = receive(environ(CONTENT_LENGTH="9" * 5000))
    assert fault is not None
    assert fault.code == "body_too_large"


@pytest.mark.parametrize("length", [256 * 1024 + 1, 8 * 1024 * 1024])
def test_an_unread_body_ends_its_connection_and_no_other_request(server: Server, length: int) -> None:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for _ in range(5):
            refused = client.post("/api/telemetry", content=b" " * length)
            assert (refused.status_code, refused.headers["Connection"]) == (413, "close")
            assert client.post("/api/telemetry", json={}).status_code == 400


def test_without_the_queue_a_coded_body_runs_no_view_either(client: Client) -> None:
    coded: dict[str, Any] = {"HTTP_CONTENT_ENCODING": "gzip"}
    assert client.post("/api/telemetry", b"{}", "application/json", **coded).status_code == 415
    assert client.post("/api/telemetry", HTTP_TRANSFER_ENCODING="chunked").status_code == 400


class Lost(BytesIO):
    """The body of a client that has left, on a server that tells."""

    def read(self, *_: Any) -> bytes:
        raise OSError


@pytest.mark.parametrize("stream", [BytesIO(b"{}"), Lost()], ids=["cut", "lost"])
@pytest.mark.parametrize("path", ["/api/telemetry", "/signin"])
def test_without_the_queue_a_cut_body_runs_no_view_either(database: None, stream: BytesIO, path: str) -> None:
    sent = environ(CONTENT_LENGTH="3", CONTENT_TYPE="application/json", PATH_INFO=path)
    setup_testing_defaults(sent)
    sent["wsgi.input"] = stream
    statuses: list[str] = []

    def start(status: str, *_: Any) -> Any:
        statuses.append(status)

    said = WSGIHandler()(sent, start)
    assert statuses == ["400 Bad Request"]
    assert b"The body is not whole" in b"".join(said)
