"""A hook for projects: a counter, a log line, a warning to somebody whose client reuses keys."""

from django.dispatch import Signal

# Sent when a guarded request has ended, with ``idempotency``: what views find in ``request.idempotency``. Its
# ``outcome`` is created, replayed, key_reused, in_progress, failed, rejected or unavailable. A receiver that raises
# changes no answer.
answered = Signal()
