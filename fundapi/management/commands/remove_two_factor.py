from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fundapi.access.second_factor import remove


class Command(BaseCommand):
    help = "Remove a user's authenticator and backup codes, if both are lost. The user can then set up a new one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *_args: Any, username: str, **_options: Any) -> None:
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user '{username}'.")
        removed = remove(user)
        if not any(removed.values()):
            raise CommandError(f"{username} has no authenticator.")
        self.stdout.write("Removed: " + ", ".join(f"{count} {name}" for name, count in removed.items()) + ".")
        self.stdout.write(f"{username} signs in with the password alone until a new authenticator is set up.")
