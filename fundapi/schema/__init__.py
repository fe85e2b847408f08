"""The OpenAPI document: ``document``, its ``parts``, and what it says of ``funds``, ``telemetry`` and ``plain`` views."""
