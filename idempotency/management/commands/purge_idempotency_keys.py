from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from idempotency import store
from idempotency.purge import purge_expired


class Command(BaseCommand):
    help = "Delete expired idempotency keys in small batches. Safe at any time, beside requests and other purges."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say how many keys would be deleted.")

    def handle(self, *_args: Any, dry_run: bool, **_options: Any) -> None:
        expired = store.count_expired()
        if dry_run:
            self.stdout.write(f"{expired} expired keys would be deleted.")
            return
        columns = ("Purging", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("purge", total=expired)
            total = purge_expired(lambda deleted: bar.advance(task, deleted))
        self.stdout.write(self.style.SUCCESS(f"{total} expired keys deleted."))
