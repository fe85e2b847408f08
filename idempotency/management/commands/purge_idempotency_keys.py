from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from idempotency import faults, store
from idempotency.purge import purge_expired

try:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
except ModuleNotFoundError:  # fundapi-idempotency[progress] is not installed
    HAS_BAR = False
else:
    HAS_BAR = True


class Command(BaseCommand):
    help = "Delete expired idempotency keys in small batches. Safe at any time, beside requests and other purges."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say how many keys would be deleted.")

    def handle(self, *_args: Any, dry_run: bool, **_options: Any) -> None:
        try:
            said = f"{store.count_expired()} expired keys would be deleted." if dry_run else purge()
        except (DatabaseError, InterfaceError) as error:
            if (text := faults.sentence(error)) is None:
                raise
            raise CommandError(text) from error
        self.stdout.write(said if dry_run else self.style.SUCCESS(said))


def purge() -> str:
    """Delete all expired keys, with a progress bar on stderr where rich is installed, and return the result."""
    if not HAS_BAR:
        return f"{purge_expired()} expired keys deleted."
    columns = ("Purging", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("purge", total=store.count_expired())
        total = purge_expired(lambda deleted: bar.advance(task, deleted))
    return f"{total} expired keys deleted."
