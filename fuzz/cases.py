"""Requests of every address, and an attacker's tricks with them. Pure, given the random numbers.

A case depends only on the seed of a run and its own number, so that it can be made again without the others.
"""

import gzip
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from benchmarks.bodies import fund
from benchmarks.load import request

BODY_MAX = 256 * 1024  # bytes of a body, what the API takes
BOMBS, BOMBS_MAX = 8, 32 * 1024  # on one connection, and bytes of them; a longer one goes alone
FEATURE = "USE_FUND_STORE"
BATCH = (
    b'{"clientId": "fuzz", "sessionId": "1", "dropped": 1, "events": [{"id": "1", "event": "heartbeat"}, {"id": '
    b'"2", "event": "error", "flag": "USE_FUND_STORE", "ok": false, "detail": {"a": [1, null]}, '
    b'"at": "2026-11-23T09:30:10Z"}]}'
)
CSRF = "c" * 32  # the cookie and the field of a form
BOUNDARY = "fuzz"
TARGET = b'{"context": {"targetingKey": "6f1d0a3e"}}'


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes to send, in ``parts`` with ``pause`` seconds between.

    Each name in ``once`` may have one effect at most, and each in ``never`` none: its message is cut, or coded.
    """

    trick: str
    parts: tuple[bytes, ...]
    pause: float = 0.0
    once: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    @property
    def sent(self) -> bytes:
        return b"".join(self.parts)


@dataclass(frozen=True, slots=True)
class Screen:
    """An operator's session, and the form that moves a rollout as the operator sees it."""

    cookie: str = "sessionid=none"
    path: str = "/admin/rollout/rollout/1/set/"
    version: int = 1


@dataclass
class Maker:
    """A maker of well-formed requests. ``name`` begins the names of all their effects, and the keys of funds."""

    dice: random.Random
    token: str
    name: str
    once: list[str] = field(default_factory=list)
    screen: Screen = field(default_factory=Screen)

    def create(self, *, body: bytes | None = None, headers: Sequence[tuple[str, str]] = ()) -> bytes:
        name = f"{self.name}-{len(self.once)}"
        self.once.append(name)
        content = fund(name) if body is None else body
        return request("POST", "/api/funds", token=self.token, body=content, key=name, headers=headers)

    def form(self) -> bytes:
        """Return a form: a move of a rollout, whose reason has its name, or a sign-in by a name that nobody has."""
        name, dice = f"{self.name}-{len(self.once)}", self.dice
        self.once.append(name)
        path = dice.choice((self.screen.path, self.screen.path, "/signin", "/admin/login/"))
        fields = {"csrfmiddlewaretoken": CSRF, "username": name, "password": "wrong horse battery staple"}
        if path == self.screen.path:
            percentage = dice.randrange(10, 100)
            reason = f"{name} to {percentage}"
            fields = {"csrfmiddlewaretoken": CSRF, "version": f"{self.screen.version}", "reason": reason}
            fields["percentage"] = f"{percentage}"
        kind, body = "application/x-www-form-urlencoded", urlencode(fields).encode()
        if dice.random() < 0.5:
            kind = f"multipart/form-data; boundary={BOUNDARY}"
            body = _multipart(fields)
        headers = [f"Cookie: {self.screen.cookie}; csrftoken={CSRF}", f"Content-Type: {kind}"]
        head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers, f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(head).encode() + body

    def post(self) -> bytes:
        """Return a request with a body and, but for telemetry and OFREP, an effect that has a name."""
        return self.dice.choice(
            [
                *[self.create, self.form] * 3,
                lambda: request("POST", "/api/telemetry", body=BATCH),
                lambda: request("POST", "/ofrep/v1/evaluate/flags", body=TARGET),
            ]
        )()

    def any(self) -> bytes:
        """Return a request of any address, most often a creation."""
        get, path = self._get, self.dice.randrange(1, 50)
        return self.dice.choice(
            [
                *[self.create] * 5,
                *[lambda: request("POST", "/api/telemetry", body=BATCH)] * 2,
                lambda: get(f"/api/funds/{path}"),
                lambda: get(f"/api/funds?pageSize={path}&cursor=cD0{path}"),
                lambda: get("/api/rollouts", ("If-None-Match", f'W/"{path}", "x"')),
                lambda: get("/api/problems/not_found"),
                lambda: request("POST", "/ofrep/v1/evaluate/flags", body=TARGET),
                lambda: request("POST", f"/ofrep/v1/evaluate/flags/{FEATURE}", body=TARGET),
                lambda: get("/livez"),
                lambda: get("/health"),
                lambda: get("/signin", ("Cookie", f"sessionid={path}; csrftoken={path}")),
            ]
        )()

    def _get(self, path: str, *headers: tuple[str, str]) -> bytes:
        return request("GET", path, token=self.token, headers=headers)


Trick = Callable[[Maker], Case]
TRICKS: dict[str, Trick] = {}


def trick(make: Trick) -> Trick:
    """Register a trick under its name."""
    TRICKS[make.__name__.replace("_", " ")] = make
    return make


def case(seed: int, number: int, token: str, screen: Screen | None = None) -> Case:
    """Return one case of a run."""
    dice = random.Random(f"{seed}-{number}")
    names = list(TRICKS)
    # The random part: no case that changes a byte of a name makes another case's name of it.
    name = f"fuzz-{seed}-{number}-{dice.getrandbits(32):08x}"
    maker = Maker(dice, token, name, screen=screen or Screen())
    return TRICKS[names[number % len(names)]](maker)


def _of(name: str, sent: bytes, maker: Maker, *, once: bool = False) -> Case:
    return Case(name, (sent,), once=tuple(maker.once) if once else ())


# --- Well-formed ------------------------------------------------------------------------------------------------


@trick
def well_formed(maker: Maker) -> Case:
    return _of("well formed", maker.any(), maker, once=True)


@trick
def pipelined(maker: Maker) -> Case:
    sent = [maker.any() for _ in range(maker.dice.randint(2, 8))]
    if maker.dice.random() < 0.5:
        sent.append(sent[0])  # the same key again, on the same connection
    return _of("pipelined", b"".join(sent), maker, once=True)


@trick
def dripping(maker: Maker) -> Case:
    """A whole request, slowly; two seconds at most."""
    sent, pieces = maker.any(), maker.dice.randint(2, 20)
    cuts = sorted(maker.dice.sample(range(1, len(sent)), min(pieces, len(sent) - 1)))
    parts = tuple(sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True))
    return Case("dripping", parts, pause=maker.dice.choice((0.001, 0.01)), once=tuple(maker.once))


@trick
def forms(maker: Maker) -> Case:
    """A whole form, sometimes twice on one connection: the second is stale, or another wrong password."""
    sent = maker.form()
    moves = sent.startswith(f"POST {maker.screen.path} ".encode())
    return _of("forms", sent * (2 if moves and maker.dice.random() < 0.5 else 1), maker, once=True)


@trick
def chunked(maker: Maker) -> Case:
    """A whole request in chunks of any size, with extensions and trailers."""
    lines, body = _unframed(maker.post())
    end = maker.dice.choice((b"", b"X-Trailer: 1\r\n", b"Idempotency-Key: trailer\r\n")) + b"\r\n"
    sent = [*lines, b"Transfer-Encoding: chunked", b"", _chunks(maker.dice, body) + b"0\r\n" + end]
    return _of("chunked", b"\r\n".join(sent), maker, once=True)


def _unframed(sent: bytes) -> tuple[list[bytes], bytes]:
    """Return the lines of a request's head without its length, and its body."""
    head, _, body = sent.partition(b"\r\n\r\n")
    return [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")], body


def _chunks(dice: random.Random, left: bytes) -> bytes:
    """Return a body in chunks, without the last one, which is empty."""
    out = b""
    while left:
        size = dice.randint(1, 40)
        piece, left = left[:size], left[size:]
        extension = dice.choice((b"", b"", b";a=b", b';a="b c"'))
        out += b"%x%b\r\n%b\r\n" % (len(piece), extension, piece)
    return out


def _multipart(fields: dict[str, str]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return "".join([*parts, f"--{BOUNDARY}--\r\n"]).encode()


# --- Broken -----------------------------------------------------------------------------------------------------

SPICE = (b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b'"', b"\\", b"%", b"\xff", b"\xed\xa0\x80",
         b"\\ud800", b"9" * 30, b"-", b"1e999", b"{", b"[", b",", b"\x7f", b"\xc0\xaf", b"%00",
         b"\\u0000")  # fmt: skip


def _mutated(dice: random.Random, sent: bytes) -> bytes:
    """Change bytes, take some out, put some in, double some."""
    out = bytearray(sent)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 8))):
        place = dice.randrange(len(out) + 1)
        length = dice.choice((0, 0, 1, 1, 2, 8, 40))
        match dice.randrange(4):
            case 0 if place < len(out):
                out[place] ^= 1 << dice.randrange(8)
            case 1:
                out[place : place + length] = dice.choice(SPICE)
            case 2:
                out[place:place] = out[place : place + length]
            case _:
                out[place : place + length] = dice.randbytes(dice.randrange(4))
    return bytes(out)


@trick
def flipped(maker: Maker) -> Case:
    """A request with bytes changed anywhere."""
    return _of("flipped", _mutated(maker.dice, maker.any()), maker)


@trick
def flipped_body(maker: Maker) -> Case:
    """A well-formed request with a body whose bytes are changed."""
    dice = maker.dice
    path, body = dice.choice(
        [("/api/funds", fund(maker.name)), ("/api/telemetry", BATCH), ("/ofrep/v1/evaluate/flags", TARGET)]
    )
    return _of("flipped body", _post(path, _mutated(dice, body), token=maker.token, key=maker.name), maker)


@trick
def flipped_form(maker: Maker) -> Case:
    """A form whose body has changed bytes, and as many as it says."""
    lines, body = _unframed(maker.form())
    body = _mutated(maker.dice, body)
    sent = [*lines, b"Content-Length: %d" % len(body), b"", body]
    return _of("flipped form", b"\r\n".join(sent), maker)


@trick
def cut_short(maker: Maker) -> Case:
    sent = maker.any()
    cut = sent[: maker.dice.randrange(1, len(sent))]
    return Case("cut short", (cut,), never=tuple(maker.once))


@trick
def cut_body(maker: Maker) -> Case:
    """A body that misses its last bytes, its last chunk, or the order of its chunks."""
    dice = maker.dice
    lines, body = _unframed(maker.post())
    chunks = _chunks(dice, body)
    framing, content = dice.choice(
        [
            (b"Content-Length: %d" % len(body), body[: -dice.choice((1, 1, 2, 10, len(body)))]),
            (b"Content-Length: %d" % (len(body) + dice.choice((1, 2, 100))), body),
            (b"Transfer-Encoding: chunked", chunks),
            (b"Transfer-Encoding: chunked", chunks + b"0\r\n"),
            (b"Transfer-Encoding: chunked", chunks + dice.choice((b"x\r\n", b"-1\r\n", b"\r\n\r\n", b"00"))),
            (b"Transfer-Encoding: chunked", chunks[: dice.randrange(len(chunks))]),
        ]
    )
    sent = b"\r\n".join([*lines, framing, b"", content])
    return Case("cut body", (sent,), never=tuple(maker.once))


@trick
def coded(maker: Maker) -> Case:
    """A whole message that is compressed, or says so."""
    dice = maker.dice
    lines, body = _unframed(maker.post())
    body = dice.choice((body, gzip.compress(body, mtime=0)))
    header = dice.choice((b"Content-Encoding: %b", b"content-encoding: identity, %b"))
    lines.append(header % dice.choice((b"gzip", b"GZIP", b"br", b"deflate", b"zstd", b"x", b"gzip, gzip")))
    framing, content = dice.choice(
        [
            (b"Content-Length: %d" % len(body), body),
            (b"Transfer-Encoding: chunked", _chunks(dice, body) + b"0\r\n\r\n"),
        ]
    )
    sent = b"\r\n".join([*lines, framing, b"", content])
    return Case("coded", (sent,), never=tuple(maker.once))


@trick
def noise(maker: Maker) -> Case:
    return _of("noise", maker.dice.randbytes(maker.dice.choice((1, 16, 300, 5000))), maker)


METHODS = (b"GET", b"get", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"G\xc3\x84T",
           b"", b"GET ", b"X" * 300, b"POST\t", b"QUERY")  # fmt: skip
PATHS = (b"*", b"", b"/", b"//", b"//api/funds", b"/api/../api/funds", b"/api/funds/", b"/api/funds/%00",
         b"/api/funds/99999999999999999999999999", b"/api/funds/-1", b"/api/funds/1%2f", b"/api/funds/\xd9\xa1",
         b"/api/funds/%D9%A1", b"/api/%ff%fe", b"/api/%ed%a0%80", b"/api/%zz", b"/%2e%2e/%2e%2e/etc/passwd",
         b"/static/../settings.py", b"/static/%00", b"/static/%ff", b"http://evil.example/api/funds",
         b"http://[/api", b"evil.example:443", b"/api/funds#x", b"/api/funds?cursor=%00", b"/api/funds?cursor=cD0x",
         b"/api/funds?cursor=cD0%3D", b"/api/funds?cursor=bz0xJnI9MQ%3D%3D", b"/api/funds?pageSize=%D9%A1",
         b"/api/funds?cursor=cD05OTk5OTk5OTk5OTk5OTk5OTk5", b"/api/funds?pageSize=" + b"9" * 5000,
         b"/api/funds?cursor=" + b"QUJD" * 500, b"/api/funds?" + b"a=1&" * 2000, b"/api/funds?a[]=\xff",
         b"/ofrep/v1/evaluate/flags/%00", b"/ofrep/v1/evaluate/flags/%ed%a0%80", b"/ofrep/v1/evaluate/flags/a/b",
         b"/" + b"a" * 9000, b"/admin/login/?next=%00", b"/signin?next=//evil", b"/api/problems/%F0%9F%98%80",
         b"/metrics?name[]=%00", b"/health?%", b"/api/schema?format=%00", b"/api/schema?lang=%ff", b"/api/docs?%ff",
         b"/admin/fundapi/fund/?q=%00", b"/fund-setup?%ff=%00", b"/api/funds\x7f", b"/\xe2\x80\xae")  # fmt: skip
VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1",
            b"",
            b"HTTP/1.1 x", b"HTTP/11")  # fmt: skip


@trick
def request_line(maker: Maker) -> Case:
    dice = maker.dice
    method = dice.choice((b"GET", b"POST", b"HEAD", dice.choice(METHODS)))
    line = b" ".join((method, dice.choice(PATHS), dice.choice(VERSIONS)))
    _, _, rest = maker.any().partition(b"\r\n")
    return _of("request line", line + dice.choice((b"\r\n", b"\r\n", b"\n", b"\r")) + rest, maker)


HEADERS = {
    b"Idempotency-Key": (b'"a"', b'""', b'"', b"'a'", b"a b", b"a|b", b"|||", b"dev|fund-create|",
                         b"prod|fund-create|a",
                         b"dev|fund-delete|a", b"a" * 255, b"a" * 256, b"a" * 60000, b'"a";p=1', b"?1", b":YQ==:",
                         b"(a b)", b'"a\\"b"', b"%00", b"\xc3\xa9"),
    b"Prefer": (b"wait=2", b"wait=-1", b"wait=999999999", b'wait="1', b"wait=1;" * 2000, b",,,", b"wait=\xd9\xa1"),
    b"Accept": (b"", b"*", b"text/html", b"application/json;q=x", b"application/*;q=0", b"a/b;" * 1000, b"/", b"\xff",
                b"application/json;indent=99999", b"*/*;version=\xff"),
    b"Authorization": (b"", b"Bearer", b"Bearer ", b"Bearer a b", b"Bearer \xff", b"Basic Og==",
                       b"Bearer " + b"a" * 9000,
                       b"bearer x", b"Bearer\tx", b"Bearer %00", b"Digest username=\"", b"Token 1"),
    b"Content-Type": (b"", b"text/plain", b"application/json; charset=utf-16", b"application/json; charset=klingon",
                      b"application/json;" * 500, b"application/vnd.x+json", b"multipart/form-data",
                      b"multipart/form-data; boundary=\xff", b"multipart/form-data; boundary=a", b"\xff", b"/",
                      b"application/x-www-form-urlencoded", b"application/json; charset=", b"APPLICATION/JSON",
                      b"application/json, text/plain", b"multipart/form-data; boundary=" + b"a" * 300),
    b"Content-Encoding": (b"gzip", b"br", b"x"),
    b"Cookie": (b"sessionid=\xff", b"sessionid=" + b"a" * 5000, b"=;=;=", b"csrftoken=\"\\000\"", b"a=b;" * 3000,
                b"messages=x", b"sessionid=../../x", b"$Version=1"),
    b"Host": (b"", b"[::1", b"a b", b"127.0.0.1:99999", b"evil.example", b"127.0.0.1:", b"\xff", b"localhost@evil",
              b"[::1]:x", b"127.0.0.1\t"),
    b"Origin": (b"http://[", b"null", b"\xff", b"http://evil.example", b"http://a:b:c", b"//"),
    b"Referer": (b"http://[", b"\xff", b"x" * 9000),
    b"If-None-Match": (b"*", b'"', b'W/', b'"a", "b' * 1000, b"\xff", b'W/"\xff"'),
    b"If-Modified-Since": (b"x", b"Fri, 99 Abc 99999 99:99:99 GMT", b"0", b"Thu, 01 Jan 1970 00:00:00 GMT"),
    b"Range": (b"bytes=0-1", b"bytes=-", b"bytes=99999999999999999999-", b"x"),
    b"X-Request-ID": (b"a", b"\xff" * 9, b"a" * 128, b"a" * 129, b"abcdefgh\x7f", b'{"a":1}abcdefgh'),
    b"X-Forwarded-For": (b"\xff", b"a" * 9000, b"1,2,3", b"::1", b",,,"),
    b"X-Forwarded-Proto": (b"https", b"\xff"),
    b"X-Forwarded-Host": (b"evil.example", b"["),
    b"X-HTTP-Method-Override": (b"DELETE",),
    b"X-CSRFToken": (b"\xff", b"a" * 64, b""),
    b"Accept-Language": (b"\xff", b"x" * 600, b"de;q=9", b"../../etc", b"a," * 900),
    b"Accept-Encoding": (b"gzip;q=x", b"\xff", b"identity;q=0, *;q=0"),
    b"Access-Control-Request-Method": (b"POST", b"\xff"),
    b"Connection": (b"close", b"keep-alive, Idempotency-Key", b"upgrade", b"\xff"),
    b"Upgrade": (b"websocket", b"h2c"),
    b"Expect": (b"100-continue", b"x"),
    b"TE": (b"trailers", b"gzip"),
}  # fmt: skip


@trick
def odd_headers(maker: Maker) -> Case:
    """Headers that are there twice, or say what nobody says; the frame of the message stays whole."""
    dice = maker.dice
    first, *lines = maker.any().split(b"\r\n")
    for name in dice.sample(list(HEADERS), dice.randint(1, 3)):
        line = name + b": " + dice.choice(HEADERS[name])
        if dice.random() < 0.7:  # in place of the good one
            lines = [old for old in lines if not old.lower().startswith(name.lower() + b":")]
        lines.insert(0, line)
    return _of("odd headers", b"\r\n".join([first, *lines]), maker)


BROKEN_LINES = (b"X: a\r\n b", b"X: a\r\n\tb", b" X: a", b"X : a", b"X\0: a", b"X: \0", b"X: a\rb", b"X: a\nY: b",
                b"X", b":",
                b": a", b"X:", b"\xff: a", b"X: \xff", b"X: " + b"a" * 200_000, b"\r", b"X(: a", b"X: a\x0bb",
                b"\tX: a",
                b"Idempotency_Key: spoofed", b"Content_Length: 0", b"X-Y: a\r\n" * 99 + b"X-Y: b",
                b"X-Y: a\r\n" * 5000 + b"X-Y: b", b"Content-Length : 3", b"Transfer-Encoding\t: chunked")  # fmt: skip


@trick
def broken_headers(maker: Maker) -> Case:
    first, *lines = maker.any().split(b"\r\n")
    lines.insert(maker.dice.randrange(len(lines) - 1), maker.dice.choice(BROKEN_LINES))
    return _of("broken headers", b"\r\n".join([first, *lines]), maker)


# --- Where does a message end? ----------------------------------------------------------------------------------

CODINGS = (b"chunked", b"Chunked", b" chunked", b"chunked ", b"xchunked", b"chunked, identity", b"identity",
           b"gzip, chunked",
           b'"chunked"', b"chunked;q=1", b"chunked, chunked", b"\x0bchunked", b"chunked\0", b"",
           b"chunke\xc4\x91")  # fmt: skip
LENGTHS = (b"0", b"-1", b"+%d", b"0x%x", b"%d, %d", b"%d,0", b"%d ", b"0%d", b"%d\0", b"%d.0", b"1e3", b"", b" ",
           b"99999999999999999999", b"18446744073709551616", b"9" * 5000, b"%d;", b"\xd9\xa1")  # fmt: skip
CHUNKS = (b"0\r\n\r\n", b"00000000000000000\r\n\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"5\r\nabc\r\n0\r\n\r\n",
          b"0x5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"g\r\n", b"\r\n",
          b"5;a\0\r\nhello\r\n0\r\n\r\n",
          b"5;" + b"a" * 70_000 + b"\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX0\r\n\r\n",
          b"0\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
          b"0\r\nContent-Length: 9\r\n\r\n", b"1\r\na\r\n" * 3000 + b"0\r\n\r\n", b"ffffffff\r\nabc")  # fmt: skip


@trick
def smuggled(maker: Maker) -> Case:
    """One request hidden in another, behind two ideas of where that ends."""
    dice = maker.dice
    head, _, body = maker.create().partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    inner, size = maker.create(), len(body)
    coding = b"Transfer-Encoding: " + dice.choice(CODINGS)
    length = dice.choice(LENGTHS)
    wrong = b"Content-Length: " + (length % ((size,) * length.count(b"%")) if b"%" in length else length)
    right = b"Content-Length: %d" % size
    as_chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    framing, content = dice.choice(
        [
            ([wrong], body),
            ([right, wrong], body),
            ([wrong, right], body),
            ([right, right], body),
            ([coding], as_chunks),
            ([coding, right], as_chunks),
            ([b"Content-Length: %d" % len(as_chunks + inner), coding], as_chunks),
            ([b"Content-Length: 4", b"Transfer-Encoding: chunked"], as_chunks),
            ([b"Transfer-Encoding: chunked", coding], as_chunks),
            ([b"Transfer-Encoding: chunked"], dice.choice(CHUNKS)),
            ([], body),
        ]
    )
    return _of("smuggled", b"\r\n".join([*lines, *framing, b"", content]) + inner, maker)


# --- Bodies -----------------------------------------------------------------------------------------------------


def _nested(dice: random.Random) -> bytes:
    """Around every limit of depth: ours, Python's, and PostgreSQL's."""
    depth = dice.choice((63, 64, 65, dice.randint(900, 1000), 5000, 60_000))
    left, right = dice.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return left * depth + b"1" + right * dice.choice((depth, depth, 0))


def _number(dice: random.Random) -> bytes:
    return dice.choice(
        (b"1e999999999", b"-1e-999999999", b"9" * 1000, b"9" * 5000, b"0." + b"3" * 998, b"NaN", b"-Infinity",
        b"1e1000",
         b"-0", b"-0.0", b"1E400", b"0" * 50, b"1." , b".5", b"0x1", b"1_000", b"\xd9\xa1", b"999999999999999999.99",
         b"999999999999999999.995", b"0.1000000000000000055511151231257827", b"1e-1000", b"4.0", b"true")
    )  # fmt: skip


def _text(dice: random.Random) -> bytes:
    return dice.choice(
        (b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\0"', b'"\xff"', b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
         b'"\\u202e\\ufeff\\uffff"', b'"' + b"a" * 300_000 + b'"', b'"' + b"\\u00e9" * 9000 + b'"', b'"\\x"', b'"\n"',
         b'"\\', b'"<script>alert(1)</script>"', b"\"'; DROP TABLE fundapi_fund --\"", b'"%s %(a)s {0}"',
         b'" \\t "', b'""')
    )  # fmt: skip


def _wide(dice: random.Random) -> bytes:
    count = dice.choice((300, 20_000))
    return dice.choice(
        (
            b"[" + b"[]," * count + b"1]",
            b"{" + b",".join(b'"%d":%d' % (number, number) for number in range(count)) + b"}",
            b'{"a":1,"a":2}',
            b'{"a":1,"\\u0061":2}',
            b"[" + b"1e1000," * count + b"1]",
        )
    )


WHOLE = (b"", b" ", b"null", b"[]", b"{}", b"\xef\xbb\xbf{}", b"{}{}", b"{},", b"\xff\xfe{\0}\0",
         b"\0\0\0{\0\0\0}", b"//x\n{}",
         b"{'a':1}", b'{"a":1,}', b"\x1f\x8b\x08\0", b" " * (BODY_MAX + 1), b"{}" + b" " * (BODY_MAX - 2), b"a=b&c=d",
         b'--a\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--a--\r\n')  # fmt: skip
FUND_FIELDS = (b"name", b"size", b"managementFee", b"carryPercentage", b"vintageYear", b"modelVersion",
               b"engineResults",
               b"", b"__proto__", b"\\u0000", b"id", b"owner")  # fmt: skip
BATCH_FIELDS = {b"clientId": b'"fuzz"', b"sessionId": b'"1"', b"events": b"[]"}
EVENT_FIELDS = (b"id", b"event", b"category", b"ok", b"at", b"flag", b"variant", b"detail")


@trick
def bombs(maker: Maker) -> Case:
    """Well-formed requests whose JSON goes off, or is none; several on one connection as long as they are short."""
    sent = _bomb(maker, 0)
    for number in range(1, BOMBS):
        more = _bomb(maker, number)
        sent += more if len(sent) + len(more) < BOMBS_MAX else b""
    return _of("bombs", sent, maker)


def _bomb(maker: Maker, number: int) -> bytes:
    """One request with a bomb in the place of a field, or of everything."""
    dice = maker.dice
    value = dice.choice((_nested, _number, _text, _text, _wide))(dice)
    path, body = dice.choice(
        [
            ("/api/funds", _object({b"name": b'"a"', b"size": b"1", dice.choice(FUND_FIELDS): value})),
            (
                "/api/funds",
                _object({b"name": b'"a"', b"size": b"1", b"engineResults": _object({b"a": value})}),
            ),
            (
                "/api/telemetry",
                _object(BATCH_FIELDS | {dice.choice((*BATCH_FIELDS, b"dropped", b"sentAt")): value}),
            ),
            (
                "/api/telemetry",
                _object(BATCH_FIELDS | {b"events": b"[%b]" % _event(dice.choice(EVENT_FIELDS), value)}),
            ),
            (
                "/ofrep/v1/evaluate/flags",
                _object({b"context": _object({b"targetingKey": b'"a"', b"b": value})}),
            ),
            (f"/ofrep/v1/evaluate/flags/{FEATURE}", _object({b"context": _object({b"targetingKey": value})})),
            (
                dice.choice(("/api/funds", "/api/telemetry", "/signin", "/admin/login/")),
                dice.choice((*WHOLE, value)),
            ),
        ]
    )
    kind = dice.choice(("application/json",) * 6 + ("text/plain", "application/x-www-form-urlencoded"))
    return _post(path, body, token=maker.token, key=f"{maker.name}-{number}", kind=kind)


def _event(name: bytes, value: bytes) -> bytes:
    return _object({b"id": b'"1"', b"event": b'"error"', name: value})


def _post(path: str, body: bytes, *, token: str, key: str, kind: str = "application/json") -> bytes:
    headers = [f"Idempotency-Key: {key}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def _object(members: dict[bytes, bytes]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % member for member in members.items()) + b"}"
