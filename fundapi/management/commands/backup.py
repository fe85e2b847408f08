from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fundapi.maintenance.backup import BackupError, dump
from rollout import faults


class Command(BaseCommand):
    help = (
        "Write a dump of the whole database, consistent while funds are created, and verify it. "
        "FILE appears when it is complete, with FILE.sha256 beside it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="a new file, in pg_dump's custom format")

    @faults.in_words()
    def handle(self, *_args: Any, file: Path, **_options: Any) -> None:
        try:
            size = dump(file)
        except BackupError as error:
            raise CommandError(str(error)) from None
        except OSError as error:  # such as a full disk
            raise CommandError(f"{error.filename or file}: {error.strerror}.") from error
        self.stdout.write(self.style.SUCCESS(f"{file}: {size:,} bytes, verified from end to end."))
