"""Percentage rollouts that operators move and browsers follow. The whole story: docs/how-to/rollouts.md."""
