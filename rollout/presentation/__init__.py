"""Texts and shapes for screens and terminals.

A stored check: ``wording``, ``criteria``, ``numbers``; a rollout: ``outlook``, ``history``; ``charts`` and ``rates``.
"""
