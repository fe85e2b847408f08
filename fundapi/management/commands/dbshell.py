import os
from typing import Any

from django.core.management.commands import dbshell
from django.db import connections
from psycopg.pq import Conninfo

# Of fundapi's own sessions: a person's statements may take longer.
NOT_A_PERSONS = {"application_name", "options"}


class Command(dbshell.Command):
    """Django's command with every option of DATABASE_URL; Django hands psql only those of TLS and a service."""

    def handle(self, *args: Any, **options: Any) -> None:
        given = connections[options["database"]].settings_dict["OPTIONS"]
        for known in Conninfo.get_defaults():
            name = known.keyword.decode()
            if known.envvar and name in given and name not in NOT_A_PERSONS:
                os.environ[known.envvar.decode()] = str(given[name])
        super().handle(*args, **options)
