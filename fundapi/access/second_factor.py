"""Second factor: codes of an authenticator, and backup codes for when it is lost. django-otp stores both.

A user with an authenticator needs a code at each sign-in. With ``ADMIN_OTP_REQUIRED``, every user of the admin does.
"""

from datetime import timedelta
from typing import Any

import django_otp
from axes.models import AccessLog
from django import forms
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import NON_FIELD_ERRORS
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from fundapi.access import signins

BACKUP_CODES = 10  # created with an authenticator; each works once
# Wrong codes in a row of one user, from anywhere. From then on, until the last wrong one is a day old, codes of the
# authenticator count only from networks where the user has signed in before. Each try finds a code with 3 in a million.
WRONG_CODES_MAX = 20
WRONG_CODES_COUNT = timedelta(days=1)
WRONG = "The code is wrong or was used before. Wait for the next code, then try again."
REFUSED = (
    "There were too many wrong codes. Sign in with a backup code, or from a network where you have signed in before. "
    "If the wrong codes were not yours, somebody knows your password: change it."
)


class Refused(Exception):
    """The code was not looked at: there were too many wrong ones, and the network is new for this user."""


def verify(user: User, code: str, request: HttpRequest) -> Device | None:
    """Return the device of ``user`` that accepts ``code``, and use the code up; ``None`` when no device does.

    django-otp's own throttle is off (settings): it closes a device for its owner too, for as long as somebody who has
    the password sends wrong codes. A backup code, with its 40 bits, is always looked at.

    Raises:
        Refused: the authenticator takes no codes from this network now.
    """
    kind = TOTPDevice if code.isdecimal() else StaticDevice
    # Locked, so that of two requests with the same code one signs in.
    with transaction.atomic():
        devices = list(kind.objects.devices_for_user(user, confirmed=True).select_for_update())
        if kind is TOTPDevice and any(map(_has_many_wrong, devices)) and not _is_known(request, user):
            raise Refused
        return next((device for device in devices if device.verify_token(code)), None)


def _has_many_wrong(device: TOTPDevice) -> bool:
    latest = device.throttling_failure_timestamp
    many = bool(device.throttling_failure_count >= WRONG_CODES_MAX)
    return many and latest is not None and timezone.now() - latest < WRONG_CODES_COUNT


def _is_known(request: HttpRequest, user: User) -> bool:
    """Return whether the user has signed in from this network (``SIGNIN_RETENTION``)."""
    network = signins.client_network(request)
    known = AccessLog.objects.filter(username=user.get_username(), ip_address=network)
    return network is not None and bool(known.exists())


def has_authenticator(user: Any) -> bool:
    """Return whether ``user`` has set up an authenticator. Backup codes come only with one."""
    exists: bool = TOTPDevice.objects.filter(user=user, confirmed=True).exists()
    return exists


def is_verified(request: HttpRequest) -> bool:
    """Return whether this session has passed the second factor that the admin asks of its user. One query."""
    device_id = request.session.get(django_otp.DEVICE_ID_SESSION_KEY)
    if device_id is None:
        return not settings.ADMIN_OTP_REQUIRED and not has_authenticator(request.user)
    device = Device.from_persistent_id(device_id)
    return device is not None and device.user_id == request.user.pk and device.confirmed


class CodeForm(AuthenticationForm):
    """Sign-in by password, and by a code when the user has an authenticator."""

    request: HttpRequest  # never None here: both sign-in views pass theirs
    otp_token = forms.CharField(
        label="Code",
        required=False,
        max_length=16,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "spellcheck": "false"}),
        help_text="From your authenticator, or a backup code. Leave it empty if you have not set one up.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        user: Any = self.get_user()  # django-otp reads `user.otp_device`, set below
        if user is not None and has_authenticator(user):
            code = "".join(cleaned.get("otp_token", "").split()).lower()
            if not code:
                signins.note("code_missing", self.request, user.pk)
                raise forms.ValidationError(
                    "Enter the code that your authenticator shows.", code="code_missing"
                )
            try:
                user.otp_device = verify(user, code, self.request)
            except Refused:
                signins.note("locked", self.request, user.pk)
                raise forms.ValidationError(REFUSED, code="code_wrong") from None
            if user.otp_device is None:
                # It counts as a wrong password: see fundapi.access.signins.
                credentials = {"username": user.get_username()}
                user_login_failed.send(__name__, credentials=credentials, request=self.request)
                raise forms.ValidationError(WRONG, code="code_wrong")
        return cleaned


class SignInForm(CodeForm):
    @property
    def code_problem(self) -> str:
        """The error of the code, when the password was right."""
        errors = self.errors.as_data().get(NON_FIELD_ERRORS, [])
        return next(
            (str(error.message) for error in errors if error.code in {"code_missing", "code_wrong"}), ""
        )


class SetUpForm(forms.Form):
    """A code, which proves that the authenticator works, and the password, against somebody at an unlocked screen."""

    password = forms.CharField(strip=False)
    code = forms.CharField(max_length=16)

    def __init__(self, request: HttpRequest, device: TOTPDevice, *args: Any) -> None:
        super().__init__(*args)
        self.request, self.device = request, device

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.errors:
            return cleaned
        username = self.device.user.get_username()
        if authenticate(self.request, username=username, password=cleaned["password"]) != self.device.user:
            self.add_error("password", "This is not your password.")
        elif not self.device.verify_token("".join(cleaned["code"].split())):
            self.add_error("code", WRONG)
        return cleaned

    def save(self) -> list[str]:
        """Confirm the authenticator, verify this session, and return new backup codes."""
        user = self.device.user
        with transaction.atomic():
            self.device.confirmed = True
            self.device.save()
            TOTPDevice.objects.filter(user=user, confirmed=False).delete()
            StaticDevice.objects.filter(user=user).delete()
            backup = StaticDevice.objects.create(user=user, name="backup codes")
            codes = [StaticToken.random_token() for _ in range(BACKUP_CODES)]
            StaticToken.objects.bulk_create(StaticToken(device=backup, token=code) for code in codes)
        django_otp.login(self.request, self.device)
        return codes


def unconfirmed(user: Any) -> TOTPDevice:
    """Return the authenticator that ``user`` is setting up: the same one until it is confirmed."""
    devices = TOTPDevice.objects.filter(user=user, confirmed=False).order_by("pk")
    with transaction.atomic():
        # Two first visits at once would create two, and the code of one would be wrong.
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        return devices.first() or TOTPDevice.objects.create(user=user, confirmed=False, name="authenticator")


def qr_code(device: TOTPDevice) -> SafeString:
    """Return the QR code for an authenticator app, as an SVG element."""
    # It takes 1.6 MiB of a web worker, and few show a QR code.
    import segno  # noqa: PLC0415

    code = segno.make_qr(device.config_url)
    return mark_safe(code.svg_inline(scale=5, dark="#000", light="#fff", title="QR code"))  # noqa: S308 - ours


def remove(user: User) -> dict[str, int]:
    """Remove authenticators, also unconfirmed ones, and backup codes of ``user``; return the number of each."""
    deleted: dict[str, int] = {}
    with transaction.atomic():
        for kind in (TOTPDevice, StaticDevice):
            deleted |= kind.objects.filter(user=user).delete()[1]
    kinds = {"authenticators": TOTPDevice, "backup codes": StaticToken}
    return {name: deleted.get(kind._meta.label, 0) for name, kind in kinds.items()}
