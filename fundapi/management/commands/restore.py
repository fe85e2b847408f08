from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from fundapi.maintenance.backup import BackupError, hold_rollouts, restore
from rollout.management.commands.rollout import as_table


class Command(BaseCommand):
    help = (
        "Fill the database that DATABASE_URL names from a backup, all of it or nothing; migrate it; put every rollout "
        "on hold; check that funds and kept answers agree. Exits with 1 when they do not."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="what the command backup has written")
        parser.add_argument(
            "--overwrite",
            action="store_true",
            help="replace everything in a database that is not empty; nobody else may use it meanwhile",
        )

    def handle(self, *_args: Any, file: Path, overwrite: bool, **_options: Any) -> None:
        try:
            restore(file, overwrite=overwrite)
        except (BackupError, DatabaseError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{file} is restored. Bringing it to this version, and looking at what is there.")
        call_command("migrate", interactive=False, verbosity=0)
        self.stdout.write(as_table(hold_rollouts(reason=f"restored from {file.name}")))
        self.stdout.write(
            "Every rollout is on hold, with the percentage it had then: look before you resume."
        )
        call_command("check_consistency", stdout=self.stdout)
