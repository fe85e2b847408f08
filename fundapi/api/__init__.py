"""``/api/funds``: ``views`` of ``serializers`` with their ``fields``, in the pages of ``pagination``.

Before them: ``permissions``, ``throttling``.
"""
