"""A database router for projects with several databases."""

from typing import Any

from idempotency.conf import conf


class KeyRouter:
    """Keep the table of keys out of all databases but ``IDEMPOTENCY_DATABASE``; an entry of ``DATABASE_ROUTERS``."""

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        return db == conf.database if app_label == "idempotency" else None
