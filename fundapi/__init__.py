"""The backend that creates investment funds exactly once, and rolls a frontend over to it safely."""

__version__ = "0.1.0"
