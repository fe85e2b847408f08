"""The project's pages of the admin: ``funds``, ``keys``, ``tokens``, ``people``, ``signins``; ``links`` between them.

:mod:`fundapi.site` is the site itself. It puts every page on Unfold, other apps' too. Every page works by keyboard and
at phone width.
"""

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.models import AuthToken

from fundapi.admin.funds import FundAdmin
from fundapi.admin.keys import KeyAdmin
from fundapi.admin.people import AuthenticatorAdmin, GroupAdmin, UserAdmin
from fundapi.admin.signins import AccessAttemptAdmin, AccessFailureAdmin, AccessLogAdmin
from fundapi.admin.tokens import TokenAdmin
from fundapi.models import Fund
from idempotency.models import IdempotencyKey

for model, page in {
    Fund: FundAdmin,
    IdempotencyKey: KeyAdmin,
    AuthToken: TokenAdmin,
    User: UserAdmin,
    Group: GroupAdmin,
    TOTPDevice: AuthenticatorAdmin,
    StaticDevice: None,  # backup codes are shown once, when they are created
    AccessLog: AccessLogAdmin,
    AccessFailureLog: AccessFailureAdmin,
    AccessAttempt: AccessAttemptAdmin,
}.items():
    admin.site.replace(model, page)  # type: ignore[attr-defined]  # fundapi.site.AdminSite, by the setting
