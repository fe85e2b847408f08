"""``/api/funds``: ``views``, ``serializers``, ``fields``, ``permissions``, ``throttling``, ``admission``."""
