from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.db.models.functions import Now
from knox.models import AuthToken
from knox.settings import knox_settings

from rollout.blank import has_invisible

DAYS_MAX = 36_500  # a hundred years


class Command(BaseCommand):
    help = "Create a bearer token for a user and print nothing else. Only its hash is stored, so it is printed once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--create",
            action="store_true",
            help="Create the user, with the permission to create funds, if there is none.",
        )
        parser.add_argument(
            "--days",
            type=int,
            default=knox_settings.TOKEN_TTL.days,
            help="Days until the token expires (%(default)s).",
        )

    @transaction.atomic
    def handle(self, *_args: Any, username: str, create: bool, days: int, **_options: Any) -> None:
        if not 1 <= days <= DAYS_MAX:
            raise CommandError(f"--days is {days}: it must be from 1 to {DAYS_MAX:,}.")
        users = get_user_model().objects
        user = users.filter(username=username).first()
        if user is None and create:
            user = users.create_user(valid_name(username))  # no password: this user has tokens only
            user.user_permissions.add(Permission.objects.get(codename="add_fund"))
        if user is None:
            raise CommandError(f"There is no user '{username}'. Add --create to create one.")
        made, token = AuthToken.objects.create(user)
        # By the clock of the database, which judges it, and not by this host's.
        AuthToken.objects.filter(pk=made.pk).update(expiry=Now() + timedelta(days=days))
        self.stdout.write(token)


def valid_name(username: str) -> str:
    """Return the name of a user to create, or raise CommandError where it cannot be one."""
    try:
        name: str = User._meta.get_field("username").clean(username, None)
    except ValidationError as error:
        raise CommandError(f"No user can be named {username!r}: {' '.join(error.messages)}") from None
    if has_invisible(name):
        raise CommandError(f"No user can be named {username!a}: a character of it is invisible.")
    return name
