"""Operators read which commit was deployed, what became of it, and find both on GitHub. They change nothing there."""

import random
import re
import secrets
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings

from rollout.models import Deployment, DeploymentState
from tests.rollout.admin.test_records import words
from tests.rollout.conftest import Person, Sign

LIST = "/admin/rollout/deployment/"
NOON = datetime(2026, 8, 11, 12, tzinfo=UTC)
SITE = "https://github.example.com/acme/funds"
Make = Callable[..., Deployment]


@pytest.fixture
def make_deployment(database: None) -> Make:
    """Record a deployment to an environment of its own, under a number that no other test has."""

    def make(**fields: Any) -> Deployment:
        known = {
            "pull_request": random.randrange(10**6, 10**9),
            "title": f"Waterfalls {uuid.uuid4().hex}",
            "branch": "main",
            "commit": secrets.token_hex(20),
            "environment": f"test-{uuid.uuid4().hex[:8]}",
            "deployed_by": "maria",
            "deployed_at": NOON,
        }
        return Deployment.objects.create(**{**known, **fields})

    return make


@pytest.fixture
def reverted(make_deployment: Make) -> Deployment:
    """A deployment that was rolled back, its revert open."""
    return make_deployment(
        commits=3,
        state=DeploymentState.ROLLED_BACK,
        says="Three red checks in a row.",
        revert_branch="revert-48-waterfalls",
        revert_pull_request=random.randrange(10**6, 10**9),
        revert_says="The revert is open.",
        revert_settled=True,
    )


@pytest.fixture
def configured() -> Any:
    """GitHub Enterprise, and the repository there."""
    with override_settings(
        ROLLOUT_GITHUB_API_URL="https://github.example.com/api/v3", ROLLOUT_GITHUB_REPOSITORY="acme/funds"
    ):
        yield


def page(deployment: Deployment) -> str:
    return f"{LIST}{deployment.pk}/change/"


def test_the_list_says_what_was_deployed_and_what_became_of_it(viewer: Person, reverted: Deployment) -> None:
    row = words(viewer.get(LIST, {"q": reverted.title}))
    shown = (
        f"#{reverted.pull_request} {reverted.title} {reverted.commit[:8]} {reverted.environment} maria "
        f"2026-08-11 12:00:00 Rolled back #{reverted.revert_pull_request}"
    )
    assert shown in row
    assert "1 deployment" in row


def test_the_newest_deployment_comes_first(viewer: Person, make_deployment: Make) -> None:
    title = f"Fees {uuid.uuid4().hex}"
    for hours in (2, 3, 1):
        make_deployment(title=f"{title} after {hours}", deployed_at=NOON + timedelta(hours=hours))
    text = words(viewer.get(LIST, {"q": title}))
    places = [text.index(f"{title} after {hours}") for hours in (3, 2, 1)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("state", "label"),
    [
        ("deployed", "Deployed"),
        ("healthy", "Healthy"),
        ("unhealthy", "Unhealthy"),
        ("rolled_back", "Rolled back"),
    ],
)
def test_a_state_is_a_label_and_a_filter(
    viewer: Person, make_deployment: Make, state: str, label: str
) -> None:
    deployment = make_deployment(state=state)
    for shown in DeploymentState.values:
        answer = viewer.get(LIST, {"q": deployment.title, "state__exact": shown})
        badge = f'<span class="rollout-badge is-{state.replace("_", "-")}">{label}</span>'
        assert (badge in answer.text) == (shown == state)
    assert f"state__exact={state}" in viewer.get(LIST).text


def test_a_deployment_s_page_says_all_that_was_recorded(viewer: Person, reverted: Deployment) -> None:
    text = words(viewer.get(page(reverted)))
    for part in (
        f"#{reverted.pull_request}",
        reverted.title,
        "Rolled back",
        "Three red checks in a row.",
        "not under way",
        reverted.commit,
        "Commits 3",
        "Branch main",
        reverted.environment,
        "maria",
        "2026-08-11 12:00:00",
        f"#{reverted.revert_pull_request}",
        "revert-48-waterfalls",
        "The revert is open.",
    ):
        assert part in text, part


def test_a_deployment_that_nobody_has_judged_says_so(viewer: Person, make_deployment: Make) -> None:
    deployment = make_deployment(monitored_since=NOON)
    text = words(viewer.get(page(deployment)))
    assert "No data yet" in text
    assert "under way since 2026-08-11 12:00:00 UTC" in text


def test_a_revert_that_failed_can_be_tried_again(viewer: Person, make_deployment: Make) -> None:
    deployment = make_deployment(revert_says="No revert was opened: GitHub does not answer.")
    assert "GitHub does not answer. It can be tried again." in words(viewer.get(page(deployment)))


def test_numbers_and_commits_lead_to_github(configured: None, viewer: Person, reverted: Deployment) -> None:
    revert = f'href="{SITE}/pull/{reverted.revert_pull_request}"'
    commit = f'href="{SITE}/commit/{reverted.commit}"'
    listed = viewer.get(LIST, {"q": reverted.title}).text
    assert revert in listed
    assert commit in listed
    assert page(reverted) in listed
    shown = viewer.get(page(reverted)).text
    assert revert in shown
    assert commit in shown
    assert f'href="{SITE}/pull/{reverted.pull_request}"' in shown


@override_settings(ROLLOUT_GITHUB_REPOSITORY="")
def test_without_a_repository_there_are_no_links(viewer: Person, reverted: Deployment) -> None:
    for path in (f"{LIST}?q={reverted.commit}", page(reverted)):
        answer = viewer.get(path)
        assert reverted.commit[:8] in words(answer)
        assert "rollout-link" not in answer.text


def test_a_deployment_is_found_by_what_people_have_at_hand(
    viewer: Person, make_deployment: Make, reverted: Deployment
) -> None:
    other = make_deployment()
    for term in (
        str(reverted.pull_request),
        f"#{reverted.pull_request}",
        f"{SITE}/pull/{reverted.pull_request}/",
        f"#{reverted.revert_pull_request}",
        reverted.commit,
        f" {reverted.commit[:8].upper()} ",
        f"{SITE}/commit/{reverted.commit}",
        reverted.title[-20:],
    ):
        found = words(viewer.get(LIST, {"q": term}))
        assert reverted.title in found, term
        assert other.title not in found, term
    for term in ("9" * 5000, "0" * 40, "#", "%", "/"):
        answer = viewer.get(LIST, {"q": term})
        assert answer.status_code == 200, term
        assert reverted.title not in words(answer), term


def test_a_title_is_shown_as_text_and_never_run(viewer: Person, make_deployment: Make) -> None:
    deployment = make_deployment(title="<script>alert(1)</script>", says="<img src=x onerror=alert(1)>")
    for path in (f"{LIST}?q={deployment.commit}", page(deployment)):
        text = viewer.get(path).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "&lt;script&gt;alert" in text


def test_every_role_reads_deployments(sign_in: Sign, viewer: Person, reverted: Deployment) -> None:
    for path in (LIST, page(reverted)):
        assert viewer.get(path).status_code == 200
        assert sign_in("Operator").get(path).status_code == 200
        assert Client().get(path).status_code == 302
        assert sign_in("").get(path).status_code == 403
    assert viewer.get(page(Deployment(pk=0))).status_code == 302


def test_not_even_a_superuser_changes_a_deployment(
    make_user: Callable[..., User], reverted: Deployment
) -> None:
    superuser = Person(make_user(is_staff=True, is_superuser=True))
    assert superuser.get(f"{LIST}add/").status_code == 403
    for method in (superuser.get, superuser.post):
        assert method(f"{LIST}{reverted.pk}/delete/").status_code == 403
    assert superuser.post(page(reverted), {"title": "Another"}).status_code == 403
    assert Deployment.objects.get(pk=reverted.pk).title == reverted.title
    form = superuser.get(page(reverted)).text
    assert 'name="_save"' not in form
    assert 'name="title"' not in form


def test_the_sidebar_leads_there_for_those_who_may(sign_in: Sign, viewer: Person) -> None:
    entry = re.compile(rf'href="{LIST}"[^>]*>\s*<span class="material-symbols')
    assert entry.search(viewer.get("/admin/").text)
    assert not entry.search(sign_in("").get("/admin/").text)
