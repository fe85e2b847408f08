"""The sentences that the admin says about a key: what its row shows, what runs now, why nothing is stored."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone
from django.utils.timesince import timesince

from idempotency import keys, store
from idempotency.conf import conf
from idempotency.marks import marks
from idempotency.models import IdempotencyKey
from idempotency.problems import IdempotencyError

# Users whose keys are compared with the locks held now; this many take half a second.
PRINCIPALS_MAX = 100_000
IN_PROGRESS = (
    "Until it ends, others with the same key get 409 idempotency_request_in_progress with Retry-After: 1; "
    "after it, they get its answer. Nothing has to be done."
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Sentences beside the result of a search, for what the list cannot show."""

    title: str
    sentences: list[str]


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """The key that a search term names. ``None`` stands for any environment or operation."""

    environment: str | None
    operation: str | None
    token: str

    @classmethod
    def read(cls, term: str) -> "KeyQuery":
        """Read a term in any form that the header accepts."""
        parts = term.split(keys.SEPARATOR)
        if len(parts) == 3:
            return cls(*parts)
        return cls(None, None, term[1:-1] if len(term) > 2 and term[0] == term[-1] == '"' else term)

    @property
    def condition(self) -> Q:
        """The condition that the key's rows meet."""
        condition = Q(token=self.token)
        if self.environment and self.operation:
            condition &= Q(environment=self.environment, operation=self.operation)
        return condition

    def digest_locks(self, principals: Iterable[str]) -> dict[int, str]:
        """Return the lock ids that this key would have here, each with its principal."""
        if self.environment not in (None, conf.environment):
            return {}
        return {
            keys.lock_id(
                keys.digest(
                    environment=conf.environment, operation=operation, principal=principal, token=self.token
                )
            ): principal
            for operation in ([self.operation] if self.operation else marked_operations())
            for principal in principals
        }


def marked_operations() -> set[str]:
    return {mark.operation for mark in marks}


def reasons_for_nothing(term: str) -> list[str]:
    """Return the reasons why a key may not be stored."""
    query = KeyQuery.read(term)
    try:
        marked = marked_operations()
        operation = query.operation if query.operation in marked else min(marked, default="")
        keys.parse(term, environment=conf.environment, operation=operation)
    except IdempotencyError as error:
        return [f"A client that sends this as its key gets {error.status} {error.code}: {error.detail}"]
    # Of several lives the shortest: a key that lived longer would be stored still.
    lives = (mark.ttl or conf.ttl for mark in marks if query.operation in (None, mark.operation))
    hours = f"{min(lives, default=conf.ttl).total_seconds() / 3600:.3g} hours"
    return [
        (
            f"In the environment '{conf.environment}', no request with this key has succeeded in the last {hours}, "
            "and none is running now. A request that sends it now is carried out as a new one."
        ),
        (
            "If a client did send it: its request failed, and of a failure nothing is kept, so the client may "
            "send it again with the same key; or it never arrived; or it went to another environment; or it was "
            f"more than {hours} ago, and the key has expired and been deleted."
        ),
        (
            "If the client saw 409 idempotency_request_in_progress, another request with the key was running then. "
            "It has ended without success."
        ),
    ]


def running_requests(query: KeyQuery, scope: str = "") -> list[str]:
    """Return a sentence for each request that uses the key now, by the advisory locks that are held.

    ``scope`` is what comes before a user's id in their principal.
    """
    held = store.running()
    if not held:
        return []
    principals = get_user_model().objects.order_by("-pk").values_list("pk", flat=True)[:PRINCIPALS_MAX]
    locks = query.digest_locks(f"{scope}{principal}" for principal in principals)
    using = [(locks[lock], start) for lock, start in held.items() if lock in locks]
    owners = owners_of(principal for principal, _ in using)
    return [
        f"{owners.get(principal, principal)} (id {principal}) has a request with this key running{since(start)}. "
        + IN_PROGRESS
        for principal, start in using
    ]


def clean(term: str) -> str:
    """Strip what people copy along with a key: white space, the header's name."""
    name, _, value = term.strip().partition(":")
    return value.strip() if name.strip().lower() == "idempotency-key" else term.strip()


def owners_of(principals: Iterable[str]) -> dict[str, Any]:
    """Return the users behind ``principals``, by principal, in one query."""
    user_model = get_user_model()
    pk = user_model._meta.pk
    pks = {}
    for principal in set(principals):
        with suppress(ValidationError):
            pks[principal] = pk.to_python(principal.rpartition("/")[2] if conf.scope_by_host else principal)
    users = {user.pk: user for user in user_model.objects.filter(pk__in=pks.values())} if pks else {}
    return {principal: users[pk] for principal, pk in pks.items() if pk in users}


def since(start: datetime | None) -> str:
    """Return " since 12:34:56 (7 s ago)", or nothing where PostgreSQL does not show the time."""
    return f" since {timezone.localtime(start):%H:%M:%S} ({_ago(start)})" if start else ""


def _ago(moment: datetime) -> str:
    now = store.clock()
    seconds = max(0, round((now - moment).total_seconds()))
    return f"{seconds} s ago" if seconds < 60 else f"{timesince(moment, now)} ago"


def life(key: IdempotencyKey, *, alive: bool) -> str:
    """Return what the next request with a stored key gets."""
    if alive:
        ended = "succeeded" if key.status < 400 else "was refused"
        return (
            f"The first request {ended} with {key.status}. For another {timesince(store.clock(), key.expires_at)}, "
            "each retry with the same content gets the stored answer below, with Idempotency-Status: replayed."
        )
    return (
        f"This key expired {_ago(key.expires_at)} and counts as never used: the next request with it is "
        "carried out as a new one. The row waits for the daily cleanup."
    )


def replays(key: IdempotencyKey) -> str:
    """Return how many retries got the stored answer."""
    if not key.replays or key.last_replay_at is None:
        return "No retry has come so far."
    times = "One retry has" if key.replays == 1 else f"{key.replays:,} retries have"
    return f"{times} got the stored answer, the last one {_ago(key.last_replay_at)}."


def difference(key: IdempotencyKey) -> str:
    """Return the fields in which the last refused request differed; their values are not kept."""
    if key.last_conflict is None:
        return ""
    names = key.last_conflict.get("differs") or []
    if not names:
        return "Not known: the first request has more than 60 fields, or an earlier version stored it."
    return ", ".join(names)


def conflicts(key: IdempotencyKey) -> str:
    """Return how often the key came with other content, and what the client should do."""
    if not key.conflicts or key.last_conflict_at is None:
        return (
            "No request with other content has come with this key. If the client reports a 409, it was "
            "idempotency_request_in_progress: a retry that came while the first request was still running. "
            "Its next retry gets the stored answer."
        )
    times = "once" if key.conflicts == 1 else f"{key.conflicts} times, last"
    return (
        f"A request with this key but other content came {times} {_ago(key.last_conflict_at)}, and was "
        "refused with 409 idempotency_key_reused; nothing was done for it. The client must review its input, or "
        "use a new key if it means a new operation."
    )
