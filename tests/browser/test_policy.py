"""A page runs no foreign script: ``open_page`` fails on each violation of its policy."""

import uuid

from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from rollout import operations
from rollout.models import Rollout
from tests.browser.conftest import Guard, enter
from tests.conftest import Api
from tests.servers import Server


def test_every_kind_of_page_of_the_admin_keeps_to_its_policy(
    page: Page, administrator: User, user: User, api: Api, key: str
) -> None:
    fund = api.create(key).json()
    feature = f"FEATURE_{uuid.uuid4().hex[:12].upper()}"
    rollout = Rollout.objects.create(feature=feature)
    operations.promote(feature, reason="a canary, for its history")
    page.goto("/admin/login/")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    enter(page, administrator)
    lists = (
        *("rollout/rollout", "rollout/incident", "rollout/deployment", "rollout/check", "rollout/alert"),
        *("rollout/telemetryevent", "fundapi/fund", "idempotency/idempotencykey", "knox/authtoken"),
        *("auth/user", "auth/group", "axes/accesslog", "axes/accessfailurelog", "axes/accessattempt"),
    )
    pages = (
        *("auth/user/add", f"auth/user/{user.pk}/change", f"auth/user/{user.pk}/history"),
        *(f"auth/user/{user.pk}/password", "knox/authtoken/add", "password_change", "two-factor"),
        *(f"rollout/rollout/{rollout.pk}/change", f"fundapi/fund/{fund['id']}/change"),
    )
    for path in (*lists, *pages):
        page.goto(f"/admin/{path}/")
        expect(page.locator("html")).not_to_have_attribute("x-cloak", "")  # Alpine.js has run


def test_a_script_and_a_style_that_were_smuggled_in_do_nothing(browser, server: Server) -> None:
    """And a guard sees it, or the test above would say nothing."""
    guard = Guard(server)
    with browser.new_context(base_url=server.url) as context:
        guard.watch(context)
        page = context.new_page()
        for path in ("/signin", "/admin/login/", "/api/docs"):
            page.goto(path)
            page.evaluate(
                """() => {
                  const script = document.createElement("script");
                  script.textContent = "document.title = 'taken over'";
                  const button = document.createElement("button");
                  button.setAttribute("onclick", "document.title = 'taken over'");
                  const style = document.createElement("style");
                  style.textContent = "body { display: none }";
                  document.body.append(script, button, style);
                  button.click();
                }"""
            )
            assert page.title() != "taken over"
            expect(page.locator("body")).to_be_visible()
            refused = [complaint for complaint in guard.complaints if "Content Security Policy" in complaint]
            assert len(refused) == 3, guard.complaints
            guard.complaints.clear()
