"""Every page of ours, in groups, for tests that look at each."""

import uuid

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.models import Group, User
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.models import AuthToken

from idempotency.models import IdempotencyKey
from rollout import operations
from rollout.models import Incident, Rollout
from tests.browser.conftest import PASSWORD
from tests.canary import Canary
from tests.conftest import FUND, Api
from tests.servers import Server

# A name in braces is a record's.
GROUPS = {
    "open to everybody": ("/", "/signin", "/admin/login/", "/api/docs"),
    "funds and keys": (
        *("/fund-setup", "/admin/", "/admin/fundapi/fund/", "/admin/fundapi/fund/{fund}/change/"),
        *("/admin/idempotency/idempotencykey/", "/admin/idempotency/idempotencykey/{key}/change/"),
        *("/admin/idempotency/idempotencykey/?q=nothing-like-it", "/admin/fundapi/fund/?until=2001-01-01"),
    ),
    "people": (
        *("/admin/auth/user/", "/admin/auth/user/add/", "/admin/auth/user/{user}/change/"),
        *("/admin/auth/user/{user}/history/", "/admin/auth/user/{user}/password/"),
        *("/admin/auth/group/", "/admin/auth/group/add/", "/admin/auth/group/{group}/change/"),
        *("/admin/auth/group/{group}/delete/", "/admin/password_change/", "/admin/two-factor/"),
    ),
    "access": (
        *("/admin/knox/authtoken/", "/admin/knox/authtoken/add/", "/admin/knox/authtoken/{token}/change/"),
        "/admin/axes/accesslog/",
        *("/admin/axes/accessattempt/", "/admin/axes/accessfailurelog/", "/admin/otp_totp/totpdevice/"),
        *("/admin/otp_totp/totpdevice/{device}/delete/", "/admin/axes/accessattempt/{attempt}/delete/"),
    ),
    "rollouts": (
        *("/admin/rollout/rollout/", "/admin/rollout/rollout/add/", "/admin/rollout/incident/"),
        *("/admin/rollout/deployment/", "/admin/rollout/check/", "/admin/rollout/alert/"),
        *("/admin/rollout/telemetryevent/", "/admin/rollout/rollout/{rollout}/change/"),
        *("/admin/rollout/rollout/{rollout}/history/", "/admin/rollout/incident/{incident}/change/"),
    ),
}


@pytest.fixture(scope="module")
def records(database: None, server: Server) -> dict[str, object]:
    """One record of each kind, by the names in the addresses, and the administrator who made them."""
    name = uuid.uuid4().hex[:12]
    user = User.objects.create_superuser(f"admin-{name}", password=PASSWORD)
    with Api(server, user) as api:
        fund = api.create(name).json()["id"]
        assert api.create(name, {**FUND, "size": 1}).status_code == 409
    feature = f"A_FEATURE_WITH_A_LONG_NAME_{name.upper()}"
    Rollout.objects.create(feature=feature)
    canary = Canary(minutes=5)
    canary.fail()
    AccessLog.objects.create(username=user.username, ip_address="2001:db8::1")
    return {
        "administrator": user,
        "fund": fund,
        "user": user.pk,
        "key": IdempotencyKey.objects.get(principal=str(user.pk)).pk,
        "group": Group.objects.create(name=f"Night shift {name}").pk,
        "token": AuthToken.objects.get(user=user).digest[:32],
        "device": TOTPDevice.objects.create(user=user, name="authenticator", confirmed=False).pk,
        "attempt": AccessAttempt.objects.create(username=name, failures_since_start=1).pk,
        "incident": Incident.objects.get(rollout=canary.pk).pk,
        "rollout": operations.promote(feature, reason="a canary").pk,
    }
