"""``make bench``: the cost of idempotency and the saving of replays, measured side by side on this machine."""
