"""Alerts: ``outbox`` (rows, claimed and sent), ``channels`` (webhook, e-mail), ``messages`` (texts)."""
