"""Receivers of alerts for tests: a web server with prepared answers, and a mail server with accounts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from benchmarks.servers import free_port


@dataclass(frozen=True)
class Hook:
    """One request that arrived."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.json.decode(self.body)
        return document


@dataclass
class WebReceiver:
    """Answers with ``answers``, one after the other, and then with 200. Waits for ``gate`` before each."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def answer(self, hook: Hook) -> int:
        self.hooks.append(hook)
        status = self.answers.pop(0) if self.answers else 200
        self.gate.wait(30)
        return status

    def of(self, feature: str) -> list[dict[str, Any]]:
        return [hook.json for hook in self.hooks if hook.json["feature"] == feature]


@contextmanager
def web_receiver() -> Iterator[WebReceiver]:
    receiver = WebReceiver()
    receiver.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.answer(Hook(self.path, headers, body)))
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "6")
            with suppress(ConnectionError):  # nobody reads more than the status, or waits for it for ever
                self.end_headers()
                self.wfile.write(b"answer")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield receiver
        finally:
            receiver.gate.set()
            server.shutdown()
            thread.join()


@dataclass
class MailServer:
    """Accepts e-mail with the right account, or refuses it with ``refuse``."""

    user: str
    password: str
    port: int = 0
    refuse: str = ""
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refuse:
            return self.refuse
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"

    def authenticate(
        self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any
    ) -> AuthResult:
        known = isinstance(data, LoginPassword) and (data.login, data.password) == (
            self.user.encode(),
            self.password.encode(),
        )
        return AuthResult(success=known, handled=False)  # the server answers


@contextmanager
def mail_server(user: str = "alerts", password: str = "open sesame") -> Iterator[MailServer]:
    server = MailServer(user, password)
    controller = Controller(
        server,
        hostname="127.0.0.1",
        port=free_port(),
        authenticator=server.authenticate,
        auth_required=True,
        auth_require_tls=False,
    )
    controller.start()
    server.port = controller.port
    try:
        yield server
    finally:
        controller.stop()
