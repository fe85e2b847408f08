"""Rehearsals: ``scenario`` (a file, read), ``traffic`` (browsers of our making), ``simulation`` (the real tick)."""
