"""The API for browsers: ``rollouts`` (configuration to poll), ``ofrep`` (OpenFeature), ``telemetry`` (intake)."""

UNREADABLE = (
    "Send the body as JSON in UTF-8, with short numbers and not deeply nested: this one cannot be read."
)
