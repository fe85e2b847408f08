"""A connection to a server that takes no writes any more is made anew before its next use."""

import pytest
from django.db import connection

from fundapi.celery import Task, app
from fundapi.web import demoted


class Nothing(Task):
    name = "nothing"

    def run(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("read_only", ["on", "off"])
def test_a_task_leaves_a_server_that_has_become_read_only(database: None, read_only: str) -> None:
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute(f"SET default_transaction_read_only = {read_only}")
    Nothing.bind(app)  # type: ignore[arg-type]  # celery-types wants an application of plain tasks
    Nothing()()
    connection.close_if_unusable_or_obsolete()
    assert (connection.connection is None) == (read_only == "on")
    connection.close()


def test_a_connection_that_is_closed_or_not_made_yet_is_left_alone(database: None) -> None:
    connection.close()
    demoted.leave([connection])
    connection.ensure_connection()
    connection.connection.close()
    demoted.leave([connection])
    connection.close()
    connection.ensure_connection()
