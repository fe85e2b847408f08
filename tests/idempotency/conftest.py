from tests.obedience import hold, obedience

__all__ = ["hold", "obedience"]
