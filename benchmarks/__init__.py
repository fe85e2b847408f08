"""``make bench``: what idempotency costs and replays save, measured side by side on this machine."""
