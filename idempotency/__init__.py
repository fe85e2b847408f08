"""Idempotency keys for Django on PostgreSQL: one key, one effect, the same answer every time.

Mark a view with :func:`idempotent`, put ``idempotency.middleware.IdempotencyMiddleware`` last in
``MIDDLEWARE`` and ``"idempotency"`` in ``INSTALLED_APPS``. The whole story: docs/reference/idempotency.md.
"""

from idempotency.decorators import idempotent

__all__ = ["idempotent"]
