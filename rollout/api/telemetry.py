"""``POST /api/telemetry``: events of browsers. Public, made for beacons.

One bad event never loses the others: each is stored, known already, or refused with its index and a code.

Bodies are decoded by ``msgspec``, in a third of the time of ``json``, but the values in them are checked by hand: its
patterns take 0.3 ms more for 200 events that are alike, and it refuses the whole batch for one event.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from uuid import UUID

import msgspec
from django.http import HttpRequest
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ParseError, UnsupportedMediaType, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from rollout import configuration, metrics, store, tickets
from rollout.api import UNREADABLE
from rollout.bucketing import FEATURE
from rollout.judge.events import NAME, Event, reports_failure

EVENTS_MAX = 200  # as many as a browser keeps
ID_MAX = 100  # characters of an id of a client, a session, an event
DETAIL_MAX = 500  # characters; a longer one is cut, because its event must not be lost
COUNT_MAX = 2**31 - 1  # of the columns `lost` and `age`
NETWORK_V4, NETWORK_V6 = 24, 48  # bits; who has more addresses than that is rarely one person
EVENT = re.compile(NAME)
# An address as some proxies write it: 192.0.2.1:4711, [2001:db8::1]:4711, [2001:db8::1].
WITH_PORT = re.compile(r"^(?:([0-9.]+):[0-9]+|\[([^\]]+)\](?::[0-9]+)?)$")
WORD = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,32}")
YEARS = range(1970, 3000)  # of browsers' clocks; any other is refused
CONTENT_TYPES = {"application/json", "text/plain"}  # the latter is a beacon's, which needs no preflight


class Rejected(Exception):
    """An event that cannot be stored; the message is its code."""


class Sent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An event as it was sent: any value in any field."""

    id: Any = None
    event: Any = None
    category: Any = None
    ok: Any = None
    at: Any = None
    flag: Any = None
    variant: Any = None
    detail: Any = None


class Document(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A body as it was sent: any value in any field, of ``events`` too where ``document_of`` has made it."""

    events: list[Sent]
    client_id: Any = None
    session_id: Any = None
    sent_at: Any = None
    dropped: Any = None
    ticket: Any = None


_decoder = msgspec.json.Decoder(Document)


@dataclass(frozen=True, slots=True)
class Sender:
    """Origin of a batch: the user of its ticket, if it has a valid one, and the network of its address."""

    signer: UUID | None = None
    network: str = ""
    refused: str | None = None  # code of the reason why its ticket was not accepted

    @property
    def ticket(self) -> str:
        """Return the state of its ticket, for the metric."""
        return self.refused or ("valid" if self.signer else "none")


@dataclass(frozen=True, slots=True)
class Batch:
    """A checked request body: the events to store, and those refused, each with its index and a code."""

    source: store.Source
    events: list[store.Occurrence]
    rejected: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kind:
    """The checked fields that many events of a batch have in common."""

    event: str
    category: str
    ok: bool
    flag: str | None
    variant: str | None
    kept: bool  # false for a migration while migrations are not tracked


class TelemetryView(APIView):
    """Take up to 200 events. Sending them again is harmless."""

    authentication_classes = ()
    permission_classes = ()

    def post(self, request: Request) -> Response:
        content_type = (request.content_type or "").partition(";")[0].strip().lower()
        if content_type not in CONTENT_TYPES:
            raise UnsupportedMediaType(content_type, "Send JSON, as application/json or text/plain.")
        answer = take(request._request)  # noqa: SLF001 - DRF's only way past its parsers
        return Response(answer, status=status.HTTP_202_ACCEPTED)


def take(request: HttpRequest) -> dict[str, Any]:
    """Store what a request brings, and return the answer. Raises APIException."""
    document = read(request.body)
    sender = sender_of(request, document.ticket)
    batch = parse(document, tracks=tracked(), sender=sender)
    new = store.arrive(batch.events, batch.source)
    known = sum(not event.lost for event in batch.events) - new
    metrics.observe_telemetry(
        accepted=new, duplicates=known, rejected=len(batch.rejected), ticket=sender.ticket
    )
    answer: dict[str, Any] = {"accepted": new, "duplicates": known, "rejected": batch.rejected}
    if sender.refused:  # its events count as unsigned, and the browser gets a new ticket
        answer["ticket"] = sender.refused
    return answer


def read(body: bytes) -> Document:
    """Decode a body.

    ``msgspec`` refuses more than ``json`` does: unknown fields, an event that is no object, half a surrogate pair, NaN.
    What it accepts has the same values.

    Raises:
        ParseError: it is no JSON.
        ValidationError: it is no object.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        return document_of(json.loads(body))
    except (ValueError, RecursionError):
        raise ParseError(UNREADABLE) from None


def document_of(decoded: Any) -> Document:
    """Return a document of any JSON value; events that are no objects stay as they are. Raises ValidationError."""
    if not isinstance(decoded, dict):
        raise ValidationError("Send an object with clientId, sessionId and events.", "invalid")
    events = decoded.get("events")
    if isinstance(events, list):
        events = [
            Sent(*map(event.get, Sent.__struct_fields__)) if isinstance(event, dict) else event
            for event in events
        ]
    fields = {**decoded, "events": events}
    values: list[Any] = [fields.get(name) for name in Document.__struct_encode_fields__]
    return Document(*values)


def sender_of(request: HttpRequest, ticket: Any) -> Sender:
    """Return the origin of a batch. A ticket that is refused never loses the events."""
    address = BaseThrottle().get_ident(request)  # type: ignore[arg-type]  # it reads headers only
    network = network_of(address or "")
    if ticket is None:
        return Sender(None, network)
    try:
        return Sender(tickets.read(ticket), network)
    except tickets.Refused as refused:
        return Sender(None, network, str(refused))


def network_of(address: str) -> str:
    """Return the network of an address, such as ``192.0.2.0/24`` or ``2001:db8:7::/48``; "" if it is no address."""
    try:
        parsed = parse_address(address)
    except ValueError:  # a unix socket, or a proxy that says "unknown"
        return ""
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed), NETWORK_V6), strict=False))
    return str(IPv4Network((int(parsed), NETWORK_V4), strict=False))


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """Parse a client's address, without the port that some proxies add. Raises ValueError.

    A dual-stack socket reports ``192.0.2.1`` as ``::ffff:192.0.2.1``.
    """
    parsed = ip_address(WITH_PORT.sub(r"\1\2", text))
    return (isinstance(parsed, IPv6Address) and parsed.ipv4_mapped) or parsed


def tracked() -> Callable[[str | None], bool]:
    """Return a function: are migration events of this flag kept? It reads the configuration once, when first called."""
    read = cache(configuration.current)
    return lambda flag: read().tracks(flag)


def parse(document: Document, *, tracks: Callable[[str | None], bool], sender: Sender = Sender()) -> Batch:
    """Check a decoded body.

    Args:
        tracks: whether migration events of a flag are kept.
        sender: whose events they are.

    Raises:
        ValidationError: the body as a whole cannot be used. Names each field that is wrong.
        ParseError: a detail is nested too deeply.
    """
    wrong = dict(_wrong(document))
    if wrong:
        raise ValidationError(wrong)
    client = as_uuid(document.client_id)
    session = _digest(client, "session", document.session_id)
    # A stored id is the digest of this and the browser's own id.
    prefix = blake2b(_joined(client, "event", ""), digest_size=16)
    sent_at = _sent_at(document.sent_at)
    kind = _kinds(tracks)
    events, rejected = [], []
    for index, event in enumerate(document.events):
        try:
            event_id, shared, at = _id(event), kind(event), _at(event.at)
            if not shared.kept:
                raise Rejected("migrations_not_tracked")  # noqa: TRY301 - one way out for all
        except Rejected as error:
            rejected.append({"index": index, "code": str(error)})
            continue
        digest = prefix.copy()
        digest.update(event_id.encode("utf-8", "surrogatepass"))
        occurrence = store.Occurrence(
            id=digest.hexdigest(),
            event=shared.event,
            category=shared.category,
            ok=shared.ok,
            flag=shared.flag,
            variant=shared.variant,
            at=at,
            detail=_detail(event.detail),
            age=_age(at, sent_at) if at and sent_at else 0,
        )
        events.append(occurrence)
    if lost := int(min(document.dropped or 0, COUNT_MAX)):
        events.append(_loss(client, session, lost))
    return Batch(store.Source(client, session, sender.signer, sender.network), events, rejected)


def as_uuid(client_id: str) -> UUID:
    """Return a client's id as it is stored: a UUID as itself, anything else by its digest."""
    try:
        return UUID(client_id)
    except ValueError:
        return _digest("client", client_id)


def _wrong(document: Document) -> Iterator[tuple[str, list[ErrorDetail]]]:
    for name, value in (("clientId", document.client_id), ("sessionId", document.session_id)):
        if not isinstance(value, str) or not 0 < len(value) <= ID_MAX:
            yield name, [ErrorDetail(f"Send a text of 1 to {ID_MAX} characters.", "invalid")]
    events: Any = document.events
    if not isinstance(events, list):
        yield "events", [ErrorDetail("Send a list of events.", "invalid")]
    elif len(events) > EVENTS_MAX:
        yield "events", [ErrorDetail(f"Send at most {EVENTS_MAX} events at once.", "max_length")]
    if document.dropped is not None and not _is_count(document.dropped):
        yield "dropped", [ErrorDetail("Send how many events the session has lost, 0 or more.", "invalid")]


def _is_count(value: Any) -> bool:
    """Return whether a JSON value is a whole number, 0 or more: 4.0 is one, infinity (1e999) is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value % 1 == 0


def _id(event: Any) -> str:
    if not isinstance(event, Sent):
        raise Rejected("not_an_object")
    event_id = event.id
    if not isinstance(event_id, str) or not 0 < len(event_id) <= ID_MAX:
        raise Rejected("invalid_id")
    return event_id


def _kinds(tracks: Callable[[str | None], bool]) -> Callable[[Sent], Kind]:
    """Return a function: the kind of an event. Equal kinds are checked once: 0.8 ms less for 200 events alike."""

    def check(event: Any, category: Any, ok: Any, flag: Any, variant: Any) -> Kind:
        if not isinstance(event, str) or not EVENT.fullmatch(event):
            raise Rejected("invalid_event")
        if ok is None:
            ok = not reports_failure(event)
        elif not isinstance(ok, bool):
            raise Rejected("invalid_ok")
        if flag is not None and not (
            isinstance(flag, str) and len(flag) <= ID_MAX and FEATURE.fullmatch(flag)
        ):
            raise Rejected("invalid_flag")
        category, variant = _word(category, "category"), _word(variant, "variant")
        migration = event.startswith("migration") or category == "migration"
        return Kind(event, category or "", ok, flag, variant, kept=not migration or tracks(flag))

    checked = lru_cache(maxsize=None, typed=True)(check)  # typed: 1 equals True, and is not valid

    def kind(event: Sent) -> Kind:
        try:
            return checked(event.event, event.category, event.ok, event.flag, event.variant)
        except TypeError:  # a list or an object, which cannot be a key of the cache
            return check(event.event, event.category, event.ok, event.flag, event.variant)

    return kind


def _word(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not WORD.fullmatch(value):
        raise Rejected(f"invalid_{name}")
    return value


def _at(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise Rejected("invalid_at") from None
    if at.year not in YEARS:
        raise Rejected("invalid_at")
    return at


def _sent_at(value: Any) -> datetime | None:
    """Return when a batch was sent by the browser's clock; unlike an event's time, a wrong one loses nothing."""
    try:
        return _at(value)
    except Rejected:
        return None


def _age(at: datetime, sent_at: datetime) -> int:
    """Return the whole seconds between an event and its sending: both are of one clock, however wrong."""
    between = sent_at - at
    return min(max(between.days * 86_400 + between.seconds, 0), COUNT_MAX)


def _detail(value: Any) -> str | None:
    """Return a detail as text that PostgreSQL can store, at most 500 characters."""
    if value is None:
        return None
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:  # writing takes more of the stack than reading did
        raise ParseError(UNREADABLE) from None
    if len(text) > DETAIL_MAX:
        text = text[: DETAIL_MAX - 1] + "…"
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _loss(client: UUID, session: UUID, lost: int) -> store.Occurrence:
    """Return a row for the events that a session has lost so far. The same number is the same row: stored once."""
    return store.Occurrence(
        id=_digest(client, "lost", session, lost),
        event=Event.TELEMETRY_DROPPED.value,
        category="",
        ok=True,
        lost=lost,
    )


def _digest(*parts: Any) -> UUID:
    return UUID(bytes=blake2b(_joined(*parts), digest_size=16).digest())


def _joined(*parts: Any) -> bytes:
    return "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
