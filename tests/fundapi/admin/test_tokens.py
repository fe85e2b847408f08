"""Bearer tokens in the admin: made, shown once, revoked."""

import json
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from knox.models import AuthToken

from tests.conftest import Api, token_of
from tests.fundapi.admin.pages import TOKENS, rows


def make_token(client: Client, user: User, days: int = 30) -> str:
    """Make a token as the form does; return what the page shows."""
    answer = client.post(f"{TOKENS}add/", {"user": user.pk, "days": days})
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    (shown,) = re.findall(r'id="token"[^>]*>([^<]+)<', answer.text)
    return str(shown)


def test_a_made_token_works_until_it_is_revoked(support: Client, api: Api, user: User) -> None:
    bearer = {"Authorization": f"Bearer {make_token(support, user, days=30)}"}
    assert api.create(**bearer).status_code == 201
    token = AuthToken.objects.filter(user=user).latest("created")
    assert token.expiry - token.created == pytest.approx(timedelta(days=30), abs=timedelta(seconds=5))
    revoked = support.post(f"{TOKENS}{token.digest[:32]}/change/", follow=True)
    assert "is revoked" in revoked.text
    assert api.create(**bearer).status_code == 401


def test_a_token_is_shown_once_and_is_in_no_cookie_message_log_or_history(
    support: Client, user: User, caplog: pytest.LogCaptureFixture, written: list[str]
) -> None:
    with caplog.at_level("DEBUG"):
        token = make_token(support, user)
    digest = AuthToken.objects.get(user=user).digest
    later = [
        support.get("/admin/").text,
        support.get(TOKENS, {"q": user.username}).text,
        support.get(f"{TOKENS}{digest[:32]}/change/").text,
        support.get("/admin/").text,
    ]
    assert any('"path":"/admin/"' in line for line in written)
    entry = LogEntry.objects.latest("pk")
    assert token[:8] in entry.object_repr
    history = f"{entry.object_id} {entry.object_repr} {entry.change_message}"
    cookies = support.cookies.output() + json.dumps(dict(support.session.items()))
    for secret in (token, token[:15], digest):
        assert not any(secret in page for page in later)
        assert secret not in history
        assert secret not in cookies
        assert secret not in caplog.text + str(written)


def test_the_list_says_which_tokens_still_work(support: Client, user: User) -> None:
    AuthToken.objects.create(user, expiry=timedelta(days=1))
    (row,) = rows(support, TOKENS, q=user.username)
    assert "active" in row
    AuthToken.objects.filter(user=user).update(expiry=timezone.now() - timedelta(seconds=1))
    (row,) = rows(support, TOKENS, q=user.username)
    assert "expired" in row
    AuthToken.objects.filter(user=user).update(expiry=None)
    User.objects.filter(pk=user.pk).update(is_active=False)
    (row,) = rows(support, TOKENS, q=user.username)
    assert "user inactive" in row


@pytest.mark.parametrize("days", ["0", "-1", "3651", "", "soon"])
def test_a_token_needs_a_sensible_end(support: Client, user: User, days: str) -> None:
    answer = support.post(f"{TOKENS}add/", {"user": user.pk, "days": days})
    assert 'id="token"' not in answer.text
    assert not AuthToken.objects.filter(user=user).exists()


def test_part_of_a_reference_revokes_nothing(support: Client, user: User) -> None:
    token_of(user)
    digest = AuthToken.objects.get(user=user).digest
    for reference in (digest[:1], digest[:31], digest):
        assert support.post(f"{TOKENS}{reference}/change/").status_code == 404
    assert AuthToken.objects.filter(user=user).exists()
