"""The API for browsers: ``rollouts`` (configuration to poll), ``ofrep`` (OpenFeature), ``telemetry`` (intake)."""
