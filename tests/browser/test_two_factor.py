"""An operator sets up an authenticator, leaves, and comes back with a code."""

from base64 import b32decode

from django.contrib.auth.models import User
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD, serious, sign_in


def test_an_authenticator_is_set_up_and_asked_for(page: Page, administrator: User) -> None:
    sign_in(page, administrator)
    page.goto("/admin/two-factor/")
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    secret = b32decode(page.locator("#secret").inner_text())
    page.get_by_label("Code").fill(f"{totp(secret):06}")
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Set up").click()
    expect(page.locator("#codes code")).to_have_count(10)
    assert serious(page) == []
    backup = page.locator("#codes code").first.inner_text()
    page.get_by_role("link", name="I have stored them").click()
    expect(page).to_have_url("/admin/")

    for path, button, code in (
        ("/admin/login/?next=/admin/", "Log in", None),
        ("/signin?next=/admin/", "Sign in", backup),
    ):
        page.context.clear_cookies()
        page.goto(path)
        page.get_by_label("Username").fill(administrator.username)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name=button).click()
        expect(page.get_by_text("Enter the code that your authenticator shows.")).to_be_visible()
        assert serious(page) == []
        # So that a code which was used a moment ago is one again.
        TOTPDevice.objects.filter(user=administrator).update(last_t=-1)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Code").fill(code or f"{totp(secret):06}")
        page.get_by_role("button", name=button).click()
        expect(page).to_have_url("/admin/")
