"""No table grows without a reason: docs/reference/retention.md has each."""

import re

import pytest
from django.db import connection

from fundapi.celery import app
from tests.servers import PROJECT

PAGE = (PROJECT / "docs" / "reference" / "retention.md").read_text()


def tables(heading: str) -> set[str]:
    """Return the tables of the page's table under a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return {
        name
        for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        for name in row.strip("`").split("`, `")
    }


@pytest.mark.usefixtures("database")
def test_the_page_says_of_every_table_how_long_its_rows_are_kept() -> None:
    deleted, kept = tables("What is deleted"), tables("What is kept for ever, and why")
    assert deleted & kept == set()
    own = set(connection.introspection.django_table_names()) | {"django_migrations"}
    assert own <= deleted | kept <= set(connection.introspection.table_names())


def test_the_page_says_when_the_purges_run() -> None:
    for name in ("purge-expired-idempotency-keys", "purge-signins"):
        schedule = app.conf.beat_schedule[name]["schedule"]
        assert f"{min(schedule.hour):02}:{min(schedule.minute):02}" in PAGE
