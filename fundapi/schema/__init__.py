"""The OpenAPI document: ``document``, common ``parts``, and views: ``funds``, ``telemetry``, ``plain`` (Django's)."""
