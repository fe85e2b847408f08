"""A backend of a project with tenants, in the manner of django-tenants: its ``cursor()`` chooses the schema."""

from typing import Any

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own backend, whose cursors see the tables of one tenant."""

    schema = "public"

    def cursor(self) -> Any:
        cursor = super().cursor()
        cursor.execute("SELECT set_config('search_path', %s, false)", [f"{self.schema}, public"])
        return cursor
