"""The backend that creates investment funds exactly once, and rolls a frontend over to it safely."""

from fundapi.celery import app as celery_app

__all__ = ["celery_app"]
__version__ = "0.1.0"
