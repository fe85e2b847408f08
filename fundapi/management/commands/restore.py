from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fundapi.maintenance.backup import BackupError, hold_rollouts, restore
from rollout import faults
from rollout.management.commands.rollout import as_table


class Command(BaseCommand):
    help = (
        "Restore a backup into the database of DATABASE_URL, all of it or nothing; migrate it; put every rollout "
        "on hold; compare funds with stored answers. Exits with 1 when they are inconsistent."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="a dump that the command backup wrote")
        parser.add_argument(
            "--overwrite",
            action="store_true",
            help="replace everything in a database that is not empty; no other process may use it",
        )

    @faults.in_words()
    def handle(self, *_args: Any, file: Path, overwrite: bool, **_options: Any) -> None:
        try:
            restore(file, overwrite=overwrite)
        except BackupError as error:
            raise CommandError(str(error)) from None
        except OSError as error:  # such as a full disk
            raise CommandError(f"{error.filename or file}: {error.strerror}.") from error
        self.stdout.write(
            f"{file} is restored. Next: migrate it, put rollouts on hold, compare funds with stored answers."
        )
        call_command("migrate", interactive=False, verbosity=0)
        self.stdout.write(as_table(hold_rollouts(reason=f"restored from {file.name}")))
        self.stdout.write(
            "Every rollout is on hold, at its percentage in the backup. Check each before you resume it."
        )
        call_command("check_consistency", stdout=self.stdout)
