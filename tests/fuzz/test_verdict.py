"""Findings of a campaign: wrong answers, lost and doubled funds."""

import json
from decimal import Decimal

import pytest

from fuzz.reading import Reading, read
from fuzz.verdict import Acknowledged, Effect, account, acknowledged_by, faults, moved, unwanted
from fuzz.wire import Answer, Exchange, Incomplete, NotHTTP, parse

OK = Answer(200, {}, b"ok")
JSON = {"content-type": "application/json", "x-request-id": "1"}
PROBLEM = {"content-type": "application/problem+json", "x-request-id": "1"}
ONE, NONE = Reading(1, certain=True), Reading(0, certain=False)

RIGHT = [
    pytest.param(ONE, Exchange([OK]), id="one answer to one request"),
    pytest.param(ONE, Exchange([Answer(100, {}, b""), OK]), id="100 Continue is no answer"),
    pytest.param(NONE, Exchange(), id="nothing to what is no request"),
    pytest.param(NONE, Exchange([Answer(400, {}, b"")]), id="400 to what is no request"),
    pytest.param(Reading(2, certain=True), Exchange([Answer(400, {}, b"")]), id="nothing after a 400"),
    pytest.param(ONE, Exchange([Answer(503, {"retry-after": "1"}, b"")]), id="503 that says when"),
    pytest.param(ONE, Exchange([Answer(404, PROBLEM, b'{"status": 404}')]), id="a problem of its own"),
]
WRONG = [
    pytest.param(ONE, Exchange([Answer(500, {}, b"")]), "status 500", id="500"),
    pytest.param(ONE, Exchange([Answer(503, {}, b"")]), "status 503", id="503 that does not say when"),
    pytest.param(ONE, Exchange(), "1 requests were complete, 0 answered", id="no answer"),
    pytest.param(ONE, Exchange([OK, OK]), "1 requests were sent, 2 answered", id="an answer too many"),
    pytest.param(ONE, Exchange([OK], rest=b"HT"), "half an answer: b'HT'", id="half an answer"),
    pytest.param(ONE, Exchange(hung=True), "the server neither answers nor hangs up", id="hangs"),
    pytest.param(
        ONE,
        Exchange([Answer(400, PROBLEM, b'{"status": 404}')]),
        "status 400 with the problem of another: 404",
        id="the problem of another status",
    ),
    pytest.param(
        ONE,
        Exchange([Answer(200, JSON, b"{")]),
        "status 200 with application/json that cannot be read",
        id="no JSON",
    ),
    pytest.param(
        ONE,
        Exchange([Answer(400, {}, b"Traceback (most recent call last)")]),
        "status 400 with a look inside",
        id="a traceback",
    ),
]


@pytest.mark.parametrize(("reading", "seen"), RIGHT)
def test_this_is_as_it_should_be(reading: Reading, seen: Exchange) -> None:
    assert list(faults(b"GET", reading, seen)) == []


@pytest.mark.parametrize(("reading", "seen", "what"), WRONG)
def test_this_is_a_finding(reading: Reading, seen: Exchange, what: str) -> None:
    assert list(faults(b"GET", reading, seen)) == [what]


def test_an_answer_that_is_lost_on_its_way_is_no_finding_only_when_much_was_sent() -> None:
    seen = Exchange(reset=True)
    assert list(faults(b"x" * 100_000, ONE, seen)) == []
    assert list(faults(b"x", ONE, seen)) != []


FUND = Acknowledged(1, "a")


@pytest.mark.parametrize(
    ("acknowledged", "funds", "wrong"),
    [
        ([FUND], [(1, "a")], []),
        ([], [(1, "a")], []),  # made, and the connection was lost before the answer
        ([FUND], [], ["lost"]),
        ([FUND], [(1, "b")], ["lost"]),
        ([FUND, FUND], [(1, "a")], ["doubled"]),
        ([FUND], [(1, "a"), (2, "a")], ["doubled"]),
        ([Acknowledged(1, "c"), Acknowledged(2, "c")], [(1, "c"), (2, "c")], []),  # under two keys
    ],
)
def test_the_account_of_funds(
    acknowledged: list[Acknowledged], funds: list[tuple[int, str]], wrong: list[str]
) -> None:
    found = account(acknowledged, ["a"], funds)
    assert [what.partition(":")[0] for what in found] == wrong


def test_only_201_acknowledges_a_fund() -> None:
    body = json.dumps({"id": 1, "name": "a"}).encode()
    assert list(acknowledged_by(Exchange([Answer(201, {}, body), Answer(200, {}, body)]))) == [FUND]


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("stream", "reading"),
    [
        (b"", Reading(0, certain=True)),
        (GET, ONE),
        (GET + POST + GET, Reading(3, certain=True)),
        (GET + POST[:-1], Reading(1, certain=False)),
        (POST[:-1], NONE),
        (b"GET / HTTP/1.1\r\n\r\n", NONE),  # without a Host
        (GET.replace(b"Host", b"Connection: close\r\nHost") + GET, ONE),
        (POST.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost")[:-2] + b"0\r\n\r\n" + GET, ONE),
        (b"\0", NONE),
    ],
)
def test_how_many_requests_there_are(stream: bytes, reading: Reading) -> None:
    assert read(stream) == reading


@pytest.mark.parametrize(
    ("data", "answer", "rest"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHT",
            Answer(200, {"content-length": "2"}, b"ok"),
            b"HT",
        ),
        (b"HTTP/1.1 304 \r\n\r\n", Answer(304, {}, b""), b""),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Answer(200, {"transfer-encoding": "chunked"}, b"ok"),
            b"",
        ),
    ],
)
def test_an_answer_is_read(data: bytes, answer: Answer, rest: bytes) -> None:
    assert parse(data) == (answer, rest)
    for end in range(len(data) - len(rest)):
        with pytest.raises(Incomplete):
            parse(data[:end])


@pytest.mark.parametrize(
    "data", [b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n"]
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(NotHTTP):
        parse(data)


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        ([Effect("once"), Effect("another")], []),
        ([Effect("once"), Effect("once")], ["2 effects of the one message of 'once'"]),
        ([Effect("never")], ["the message of 'never' was not whole, and has an effect"]),
        ([moved("once to 50", Decimal("50.00"))], []),
        ([moved("once to 50", Decimal("5.00"))], ["the effect of 'once' is not what the message says"]),
    ],
)
def test_an_effect_that_nobody_asked_for_is_a_fault(effects: list[Effect], said: list[str]) -> None:
    assert list(unwanted(["once"], ["never"], effects)) == said
