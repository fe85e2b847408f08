"""Texts and shapes for screens and terminals: ``wording`` (a stored check), ``outlook``, ``history``, ``charts``."""
