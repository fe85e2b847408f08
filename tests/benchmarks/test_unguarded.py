"""P1 is our own view without its guard."""

from django.contrib.auth.models import User
from django.test import Client, override_settings

from benchmarks.bodies import fund
from fundapi.models import Fund
from idempotency.models import IdempotencyKey


@override_settings(ROOT_URLCONF="benchmarks.urls")
def test_a_fund_is_created_without_a_key(database: None) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("somebody"))
    answer = client.post("/bench/unguarded", fund(), content_type="application/json")
    assert answer.status_code == 201
    assert Fund.objects.count() == 1
    assert not IdempotencyKey.objects.exists()
