"""A backend of a project with tenants, in the manner of django-tenants: its cursors choose the schema."""

from typing import Any

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own backend, whose cursors see the tables of one tenant."""

    schema = "public"

    def _cursor(self, name: str | None = None) -> Any:
        cursor = super()._cursor(name)  # type: ignore[misc]  # unknown to django-stubs
        # A query, after which PostgreSQL takes no isolation level for the transaction any more.
        cursor.execute("SELECT set_config('search_path', %s, false)", [f"{self.schema}, public"])
        return cursor
