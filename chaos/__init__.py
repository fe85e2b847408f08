"""Storms against a real deployment, and the count of what they cost: `make chaos`."""
