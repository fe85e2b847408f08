"""Tell people: ``outbox`` (rows, claimed and sent), ``channels`` (webhook, e-mail), ``messages`` (words), ``signing``."""
