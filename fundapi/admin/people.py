"""Users, groups and authenticators."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.html import format_html
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from fundapi.access.second_factor import remove
from fundapi.admin.links import link
from idempotency.admin import LongList, ReadOnly
from rollout.blank import has_invisible, is_blank

# In place of Django's, which are longer and know neither tokens nor roles.
HELP = {
    "is_active": "Switch it off instead of deleting an account: its owner can no longer sign in or use tokens.",
    "is_staff": "May sign in to this admin.",
    "is_superuser": "May do everything, whatever the groups and permissions say.",
    "groups": "Roles: the user has the permissions of each.",
    "user_permissions": "Permissions beside those of the groups.",
}


def refuse_blank(name: str) -> None:
    """Refuse a name that shows nothing."""
    if is_blank(name):
        raise ValidationError("Enter a name with at least one visible character.")


def refuse_invisible(name: str) -> None:
    """Refuse a username with an invisible character. Django takes the fillers of Hangul for letters."""
    if has_invisible(name):
        raise ValidationError("Enter a username whose characters are all visible.")


def permission_label(permission: Permission) -> str:
    """Return "Access: can view sign-in", in our names of the models; the stored name has those of the libraries."""
    model = permission.content_type.model_class()
    verb, _, of = permission.codename.partition("_")
    if model is None or of != model._meta.model_name:
        return permission.name
    return f"{model._meta.app_config.verbose_name}: can {verb} {model._meta.verbose_name}"


class NewUserForm(UserCreationForm):
    """Unfold's form, without sign-ins that this project does not have."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["usable_password"].help_text = "Without a password, a user has bearer tokens only."


class UserAdmin(DjangoUserAdmin):
    form = UserChangeForm
    add_form = NewUserForm
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
        if db_field.name in HELP:
            field.help_text = HELP[db_field.name]
        if db_field.name == "user_permissions":
            field.label_from_instance = permission_label
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
    search_help_text = "Name of a group"

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field: Any = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "name":
            field.validators.append(refuse_blank)
        if db_field.name == "permissions":
            field.label_from_instance = permission_label
        return field


class AuthenticatorAdmin(ReadOnly, LongList):
    """Authenticators of users, without their secrets.

    After a deletion the user signs in with the password alone, until they set up a new one.
    """

    list_display = ["user", "confirmed", "created_at", "last_used_at"]
    list_select_related = ["user"]
    fields = ["user", "confirmed", "created_at", "last_used_at"]
    search_fields = ["user__username"]
    search_help_text = "Username"
    actions = None
    has_delete_permission = admin.ModelAdmin.has_delete_permission

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the form without the library's help, which says "device" for an authenticator."""
        return super().get_form(request, *args, help_texts=dict.fromkeys(self.fields, ""), **kwargs)

    def delete_model(self, request: HttpRequest, obj: TOTPDevice) -> None:
        remove(obj.user)
