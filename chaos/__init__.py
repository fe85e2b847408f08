"""Storms against a real deployment, and the account of what they have cost: `make chaos`."""
