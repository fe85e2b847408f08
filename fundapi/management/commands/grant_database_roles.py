from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError

from fundapi.maintenance.privileges import StillAllowed, grant


class Command(BaseCommand):
    help = (
        "Give two database roles what the web processes and the worker need, and nothing else. "
        "Run it as the owner of the tables, after each migrate. The roles must exist."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("web", help="The role in DATABASE_URL of the web processes.")
        parser.add_argument("worker", help="The role in DATABASE_URL of the Celery worker and beat.")

    def handle(self, *_args: Any, web: str, worker: str, **_options: Any) -> None:
        if web == worker:
            raise CommandError("Two roles: what the worker may delete, the web may not.")
        try:
            grant(web=web, worker=worker)
        except (ProgrammingError, StillAllowed) as error:
            raise CommandError(f"Nothing was granted: {error}") from error
        self.stdout.write(f"{web} and {worker} may do what they need.")
