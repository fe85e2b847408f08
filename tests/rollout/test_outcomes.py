"""The judge and the server's own outcomes: real creations by variant go in, checks come out."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from rollout.models import Check, Incident
from rollout.outcomes import HEADER, HEADER_MAX, variants
from tests.canary import Canary, Judged
from tests.conftest import FUND, Api
from tests.obedience import CRASH
from tests.servers import Server

WRONG = FUND | {"size": -1}  # 400: five points
CRASHING = FUND | {"name": CRASH}  # 500: three points
STATUS = {FUND["name"]: 201, CRASH: 500}
Create = Callable[..., None]


@pytest.fixture
def create(server: Server, make_user: Callable[..., User]) -> Create:
    """Let so many new users create a fund, or fail to, on a page that has this variant."""

    def create(
        canary: Canary, body: dict[str, object] = FUND, *, users: int, variant: str = "fund-store"
    ) -> None:
        for _ in range(users):
            with Api(server, make_user()) as client:
                answer = client.create(body=body, **{HEADER: f"{canary.feature}={variant}"})
                assert answer.status_code == (400 if body is WRONG else STATUS[body["name"]])

    return create


def server_cell(made: Check) -> dict[str, object]:
    """Return the first cell of a check, which is the server's."""
    cell: dict[str, object] = made.decision["cells"][0]
    assert cell["name"] == "server"
    return cell


@pytest.mark.parametrize(("body", "users"), [(WRONG, 3), (CRASHING, 5)], ids=["400", "500"])
def test_three_checks_whose_creations_fail_with_the_feature_roll_it_back(
    traffic: Judged, create: Create, obedience: None, body: dict[str, object], users: int
) -> None:
    canary = traffic()
    for expected in (10, 10, 0):
        create(canary, body, users=users)
        create(canary, users=3, variant="legacy")
        made = canary.check()
        assert (made.signal, server_cell(made)["signal"]) == ("red", "red")
        assert canary.rollout.percentage == expected
    assert Incident.objects.get(rollout=canary.pk).rolled_back


def test_creations_that_fail_for_everybody_are_weather(traffic: Judged, create: Create) -> None:
    canary = traffic()
    create(canary, WRONG, users=3)
    create(canary, WRONG, users=20, variant="legacy")
    made = canary.check()
    assert (made.signal, server_cell(made)["condition"]) == ("hold", "weather")
    assert made.decision["carry"]["reds"] == 0
    assert "weather" in made.decision["alerts"]


def test_an_outage_does_not_roll_back_a_rollout_that_hardly_anybody_creates_with(
    traffic: Judged, create: Create, obedience: None
) -> None:
    """Twenty clients without the feature are there. The few of them who create something fail alike."""
    canary = traffic(percentage="50")
    for _ in range(4):
        canary.send(clients=20, variant="legacy")
        create(canary, CRASHING, users=5)
        create(canary, CRASHING, users=3, variant="legacy")
        made = canary.check()
        assert (made.signal, server_cell(made)["condition"]) == ("hold", "weather")
    assert canary.rollout.percentage == 50


def test_creations_that_fail_without_the_feature_alone_are_not_its_fault(
    traffic: Judged, create: Create
) -> None:
    canary = traffic()
    create(canary, users=3)
    create(canary, WRONG, users=5, variant="legacy")
    made = canary.check()
    assert server_cell(made)["signal"] == "green"
    assert made.signal != "red"


def test_one_user_who_fails_again_and_again_is_one_voice(traffic: Judged, server: Server, user: User) -> None:
    canary = traffic()
    with Api(server, user) as client:
        for _ in range(10):
            client.create(body=WRONG, **{HEADER: f"{canary.feature}=fund-store"})
    made = canary.check()
    assert made.evidence["server"]["failing"] == 1
    assert server_cell(made)["signal"] == "yellow"


def test_users_that_send_no_telemetry_are_not_all_taken_for_failing_ones(
    traffic: Judged, create: Create
) -> None:
    """The statistics know clients by their heartbeats. Two failures of forty are no certainty of 100 % errors."""
    canary = traffic()
    for _ in range(4):
        create(canary, users=9)
        create(canary, WRONG, users=1)
        made = canary.check()
        assert server_cell(made)["signal"] == "green"
        assert made.decision["statistical"] != "red"


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("USE_FUND_STORE=fund-store", {"USE_FUND_STORE": "fund-store"}),
        ("A=on,B=off , \tC=1", {"A": "on", "B": "off", "C": "1"}),
        ("A=on, A=off", {"A": "off"}),
        ("a=on, A_1=on, 1A=on, A-B=on, A==on, =on, A, , A_2=o n", {"A_1": "on"}),
        ("A=" + "x" * 32, {"A": "x" * 32}),
        ("A=" + "x" * 33, {}),
        ("A=on\n", {}),
        ("A=on," + "B" * HEADER_MAX, {}),
        ("", {}),
    ],
)
def test_the_header_is_read_member_by_member(header: str, named: dict[str, str]) -> None:
    assert variants(header) == named
