from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError

from fundapi.maintenance.privileges import ExcessPrivilege, grant
from rollout import faults


class Command(BaseCommand):
    help = (
        "Grant two database roles the privileges that the web processes and the worker need, and revoke all others. "
        "Run it as the owner of the tables, after each migrate. The roles must exist."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("web", help="The role in DATABASE_URL of the web processes.")
        parser.add_argument("worker", help="The role in DATABASE_URL of the Celery workers and beat.")

    def handle(self, *_args: Any, web: str, worker: str, **_options: Any) -> None:
        if not web.strip() or not worker.strip():
            raise CommandError(
                "A role has no name: name the role of the web processes, then that of the workers."
            )
        if web == worker:
            raise CommandError(
                "Name two different roles: the worker may delete rows that the web processes may not."
            )
        with faults.in_words():
            unmigrated = faults.unmigrated()
        if unmigrated:
            raise CommandError(f"Nothing was granted: {unmigrated}")
        try:
            grant(web=web, worker=worker)
        except (ProgrammingError, ExcessPrivilege) as error:
            raise CommandError(f"Nothing was granted: {faults.first_line(error)}") from error
        self.stdout.write(f"{web} and {worker} have the privileges that they need.")
