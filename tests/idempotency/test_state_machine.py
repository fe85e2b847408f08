"""Random lives of keys against a dictionary: whatever the order, one key has one effect and one answer."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import User
from django.test import Client, override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fundapi.models import Fund
from idempotency import store
from idempotency.bodies import unpack
from idempotency.models import IdempotencyKey
from idempotency.purge import purge_expired
from tests.obedience import CRASH, DEADLOCK, FAIL_AT_COMMIT, query

TOKENS = st.sampled_from(["a", "b", "c"])
USERS = st.sampled_from([0, 1])
SIZES = st.sampled_from([1, 2, 3])
FORMS = st.sampled_from(["{}", '"{}"', "test|fund-create|{}"])
SPELLINGS = st.sampled_from(
    ['{{"name":"{name}","size":{size}}}', '{{ "size" : {size}.0 , "name" : "{name}" }}']
)
FAILURES = st.sampled_from(
    [('{"size":-1}', 400), ("{", 400), (f'{{"name":"{CRASH}","size":1}}', 500),
     (f'{{"name":"{DEADLOCK}","size":1}}', 503), (f'{{"name":"{FAIL_AT_COMMIT}","size":1}}', 500)]
)  # fmt: skip


@dataclass
class Life:
    """A used key, as the model remembers it."""

    size: int
    answer: bytes
    location: str
    expired: bool = False
    conflicts: int = 0


@dataclass
class Person:
    user: User
    client: Client
    keys: dict[str, Life] = field(default_factory=dict)
    funds: int = 0


def new_person() -> Person:
    user = User.objects.create_user(f"machine-{uuid.uuid4().hex}", is_superuser=True)
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return Person(user, client)


class Keys(RuleBasedStateMachine):
    @initialize()
    def two_people(self) -> None:
        self.people = [new_person(), new_person()]

    def post(self, person: Person, token: str, body: str) -> Any:
        headers = {"Idempotency-Key": token}
        return person.client.post("/api/funds", body, content_type="application/json", headers=headers)

    @rule(who=USERS, token=TOKENS, size=SIZES, form=FORMS, spelling=SPELLINGS)
    def create(self, who: int, token: str, size: int, form: str, spelling: str) -> None:
        person = self.people[who]
        response = self.post(person, form.format(token), spelling.format(name="Machine", size=size))
        life = person.keys.get(token)
        if life is None or life.expired:
            assert (response.status_code, response["Idempotency-Status"]) == (201, "created")
            person.keys[token] = Life(size, response.content, response["Location"])
            person.funds += 1
        elif life.size == size:
            assert (response.status_code, response["Idempotency-Status"]) == (200, "replayed")
            assert (response.content, response["Location"]) == (life.answer, life.location)
        else:
            assert (response.status_code, response["Idempotency-Status"]) == (409, "conflict")
            assert json.loads(response.content)["code"] == "idempotency_key_reused"
            life.conflicts += 1

    @rule(who=USERS, token=TOKENS, failure=FAILURES)
    def fail(self, who: int, token: str, failure: tuple[str, int]) -> None:
        person = self.people[who]
        body, status = failure
        response = self.post(person, token, body)
        life = person.keys.get(token)
        if life is not None and not life.expired and body != "{":  # broken JSON is nothing to compare
            assert response.status_code == 409
            life.conflicts += 1
        else:
            assert response.status_code == status, response.content

    @rule(who=USERS, token=TOKENS)
    def expire(self, who: int, token: str) -> None:
        person = self.people[who]
        if token in person.keys:
            person.keys[token].expired = True
            query(
                "UPDATE idempotency_store SET created_at = created_at - interval '25 hours',"
                " expires_at = expires_at - interval '25 hours' WHERE principal = %s AND token = %s",
                *(str(person.user.pk), token),
            )

    @rule(batch=st.sampled_from([1, 2, 1000]))
    def purge(self, batch: int) -> None:
        with override_settings(IDEMPOTENCY_PURGE_BATCH_SIZE=batch):
            purge_expired()
        assert store.count_expired() == 0
        for person in self.people:
            person.keys = {token: life for token, life in person.keys.items() if not life.expired}

    @rule(who=USERS)
    def rename(self, who: int) -> None:
        self.people[who].user.username = f"renamed-{uuid.uuid4().hex}"
        self.people[who].user.save()

    @invariant()
    def the_tables_are_the_model(self) -> None:
        for person in getattr(self, "people", []):
            assert Fund.objects.filter(owner=person.user).count() == person.funds
            rows = IdempotencyKey.objects.filter(principal=str(person.user.pk))
            stored = {row.token: (unpack(bytes(row.body)), row.conflicts) for row in rows}
            assert stored == {token: (life.answer, life.conflicts) for token, life in person.keys.items()}


def test_no_interleaving_breaks_a_key(obedience: None) -> None:
    with override_settings(FUND_CREATE_RATE="1000000/second"):
        run_state_machine_as_test(
            Keys,
            settings=settings(
                max_examples=25,
                stateful_step_count=30,
                deadline=None,  # the machine is shared
                suppress_health_check=list(HealthCheck),
            ),
        )
