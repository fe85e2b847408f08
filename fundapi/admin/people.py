"""Users, groups and authenticators."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.html import format_html
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from fundapi.access.second_factor import remove
from fundapi.admin.links import link
from idempotency.admin import LongList, ReadOnly
from rollout.blank import has_invisible, is_blank


def refuse_blank(name: str) -> None:
    """Refuse a name that shows nothing."""
    if is_blank(name):
        raise ValidationError("Enter a name with at least one visible character.")


def refuse_invisible(name: str) -> None:
    """Refuse a username with an invisible character. Django takes the fillers of Hangul for letters."""
    if has_invisible(name):
        raise ValidationError("Enter a username whose characters are all visible.")


class UserAdmin(DjangoUserAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "is_active", "is_staff", "is_superuser", "last_login"]
    list_filter = ["is_active", "is_staff", "is_superuser"]
    readonly_fields = ["related", "last_login", "date_joined"]
    search_help_text = "Username, name or e-mail address"

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return [*fieldsets, ("Related records", {"fields": ["related"]})] if obj else fieldsets

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field: Any = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "username":
            field.validators.append(refuse_invisible)
        return field

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: records would lose their author. An account that is no longer used is made inactive."""
        return False

    @admin.display(description="search")
    def related(self, user: User) -> str:
        query = "?" + urlencode({"q": user.get_username()})
        return format_html(
            "{} · {} · {}",
            link("fundapi_fund_changelist", "Funds", query=query),
            link("idempotency_idempotencykey_changelist", "Idempotency keys", query=query),
            link("knox_authtoken_changelist", "Bearer tokens", query=query),
        )


class GroupAdmin(DjangoGroupAdmin):
    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field: Any = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "name":
            field.validators.append(refuse_blank)
        return field


class AuthenticatorAdmin(ReadOnly, LongList):
    """Authenticators of users, without their secrets.

    After a deletion the user signs in with the password alone, until they set up a new one.
    """

    list_display = ["user", "confirmed", "created_at", "last_used_at"]
    list_select_related = ["user"]
    fields = ["user", "confirmed", "created_at", "last_used_at"]
    search_fields = ["user__username"]
    actions = None
    has_delete_permission = admin.ModelAdmin.has_delete_permission

    def delete_model(self, request: HttpRequest, obj: TOTPDevice) -> None:
        remove(obj.user)
