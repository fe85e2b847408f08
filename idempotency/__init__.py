"""Idempotency keys for Django on PostgreSQL: one key, one effect, the same answer every time.

Mark a view with :func:`idempotent`, put ``idempotency.middleware.IdempotencyMiddleware`` last in ``MIDDLEWARE`` and
``"idempotency"`` in ``INSTALLED_APPS``. :func:`once` is for code that is no view. The whole story:
docs/reference/idempotency.md.
"""

from idempotency.decorators import idempotent
from idempotency.work import once

__all__ = ["idempotent", "once"]
