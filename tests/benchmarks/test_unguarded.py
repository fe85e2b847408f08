"""P1 is our own view without its guard."""

from django.contrib.auth.models import User
from django.test import Client, override_settings

from benchmarks.bodies import fund
from fundapi.models import Fund
from idempotency.models import IdempotencyKey


@override_settings(ROOT_URLCONF="benchmarks.urls")
def test_a_fund_is_created_without_a_key(database: None) -> None:
    keys = IdempotencyKey.objects.count()
    client = Client()
    owner = User.objects.create_superuser("somebody")
    client.force_login(owner)
    answer = client.post("/bench/unguarded", fund(), content_type="application/json")
    assert answer.status_code == 201
    assert Fund.objects.filter(owner=owner).count() == 1
    assert IdempotencyKey.objects.count() == keys
