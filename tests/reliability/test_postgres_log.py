"""PostgreSQL's own log holds nothing of what people sent, whatever PostgreSQL refuses."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.models import AuthToken

from fundapi.access.tokens import bearer
from fundapi.embedded.home import Home
from fundapi.models import Fund
from idempotency import store
from rollout.models import Alert, TelemetryEvent
from rollout.store import Arrival, arrive, report
from tests.servers import superuser_url

TERMS = {"size": 1, "management_fee": 0, "carry_percentage": 0, "vintage_year": 2025}


@pytest.fixture
def secret() -> str:
    """A value that somebody sent: 32 hexadecimal digits, so that it may stand for a digest too."""
    return uuid.uuid4().hex


@pytest.fixture
def logged(secret: str, database: None) -> Iterator[None]:
    """Assert that PostgreSQL meanwhile logs an error, and not the secret."""
    log = Home.at(Path(os.environ["FUNDAPI_HOME"])).logs / "postgres.log"
    begin = log.stat().st_size
    yield
    with log.open() as lines:
        lines.seek(begin)
        written = lines.read()
    assert "ERROR" in written
    assert secret not in written.replace("-", "")


@pytest.fixture
def locked(database: None) -> Iterator[None]:
    """Nobody can write to a table meanwhile, and PostgreSQL gives up soon: it logs what it cancels."""
    tables = [Fund, User, Session, AuthToken, StaticToken, TOTPDevice, Alert, TelemetryEvent]
    names = ", ".join(model._meta.db_table for model in tables)
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '20ms'")
    with psycopg.connect(superuser_url()) as other:
        other.execute(f"LOCK TABLE {names}, idempotency_store IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()
    connection.close()


def save(secret: str, *, status: int = 201) -> None:
    headers = {"Content-Type": f"text/{secret}", "Location": f"/{secret}", "ETag": secret, "X-More": secret}
    answer = store.StoredResponse(uuid.UUID(secret), status, headers, secret.encode())
    store.save(uuid.UUID(secret), answer, operation=secret, principal=secret, token=secret)


def arrival(secret: str) -> Arrival:
    who = uuid.UUID(secret)
    return Arrival(
        secret, secret, "error", ok=False, flag=secret, variant=secret, detail=secret, client=who, session=who
    )


def claim_and_save(secret: str, **changed: Any) -> None:
    with transaction.atomic(durable=True):
        store.claim(uuid.UUID(secret))
        save(secret, **changed)


def test_a_refused_save(logged: None, secret: str) -> None:
    claim_and_save(secret)
    with pytest.raises(store.AlreadyStored), transaction.atomic(durable=True):
        save(secret)


def test_a_save_that_breaks_a_constraint(logged: None, secret: str) -> None:
    """PostgreSQL would quote the whole row."""
    with pytest.raises(IntegrityError):
        claim_and_save(secret, status=-1)


def test_a_fund_that_breaks_a_constraint(logged: None, secret: str, user: User) -> None:
    with pytest.raises(IntegrityError):
        Fund.objects.create(owner=user, name=secret, engine_results={secret: secret}, **TERMS | {"size": -1})


def test_a_name_that_is_taken(logged: None, secret: str) -> None:
    User.objects.create_user(secret)
    with pytest.raises(IntegrityError):
        User.objects.create(username=secret, email=f"{secret}@example.com", password=secret)


def test_a_token_that_is_taken(logged: None, secret: str, user: User) -> None:
    AuthToken(user=user, digest=secret, token_key=secret[:15]).save(force_insert=True)
    with pytest.raises(IntegrityError):
        AuthToken(user=user, digest=secret, token_key=secret[:15]).save(force_insert=True)


WRITES: dict[str, Callable[[str, User], Any]] = {
    "claim": lambda secret, _: store.claim(uuid.UUID(secret)),
    "look-up": lambda secret, _: store.find(uuid.UUID(secret)),
    "caller": lambda secret, _: bearer(secret),
    "fund": lambda secret, user: Fund.objects.create(owner=user, name=secret, **TERMS),
    "password": lambda secret, user: User.objects.filter(pk=user.pk).update(password=secret),
    "session": lambda secret, _: Session.objects.create(
        session_key=secret, session_data=secret, expire_date=timezone.now()
    ),
    "token": lambda secret, user: AuthToken(user=user, digest=secret, token_key="").save(force_insert=True),
    "authenticator": lambda secret, user: TOTPDevice.objects.create(user=user, key=secret),
    "backup code": lambda secret, _: StaticToken.objects.bulk_create(
        [StaticToken(device_id=1, token=secret[:16])]
    ),
    "alert": lambda secret, _: Alert.objects.create(
        key=secret, kind="red", channel="email", payload={"text": secret}
    ),
    "telemetry": lambda secret, _: arrive([arrival(secret)]),
    "report": lambda secret, _: report(
        variants={secret: secret},
        signer=uuid.UUID(secret),
        event=secret,
        category=secret,
        ok=True,
        detail=secret,
    ),
}


@pytest.mark.parametrize("what", WRITES)
def test_what_postgresql_cancels(logged: None, locked: None, secret: str, what: str) -> None:
    with pytest.raises(OperationalError):
        WRITES[what](secret, User(pk=1))
