"""The browsers' API: ``rollouts`` (configuration to poll), ``ofrep`` (OpenFeature), ``telemetry`` (intake of events)."""
