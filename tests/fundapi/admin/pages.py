"""The pages of the admin, read as a person reads them."""

import re

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from idempotency.models import IdempotencyKey

FUNDS = "/admin/fundapi/fund/"
KEYS = "/admin/idempotency/idempotencykey/"
TOKENS = "/admin/knox/authtoken/"


def text(client: Client, path: str, **query: str) -> str:
    """Return the text of a page, without the tags."""
    answer = client.get(path, query)
    assert answer.status_code == 200, answer
    return re.sub(r"\s+", " ", strip_tags(answer.text))


def rows(client: Client, path: str, **query: str) -> list[str]:
    """Return the text of each row of a list."""
    answer = client.get(path, query)
    assert answer.status_code == 200, answer
    found = re.findall(r'<tr class="data-row.*?</tr>', answer.text, re.DOTALL)
    return [re.sub(r"\s+", " ", strip_tags(row)).strip() for row in found]


def queries(client: Client, path: str, **query: str) -> int:
    """Return how many queries a page takes."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path, query).status_code == 200
    return len(captured)


def stored(user: User, token: str) -> IdempotencyKey:
    return IdempotencyKey.objects.get(principal=str(user.pk), token=token)


def page_of(key: IdempotencyKey) -> str:
    return f"{KEYS}{key.pk}/change/"
