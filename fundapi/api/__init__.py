"""``/api/funds``: ``views`` of ``serializers`` with their ``fields``, in the pages of ``pagination``.

Before them: ``permissions``, ``throttling``. ``telemetry`` is ``/api/telemetry`` of the ``rollout`` app.
"""
