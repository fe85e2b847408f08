"""The OpenAPI document: ``document``, its common ``parts``, and ``funds``, ``telemetry``, ``plain`` (Django) views."""
