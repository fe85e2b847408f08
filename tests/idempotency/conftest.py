from hypothesis import HealthCheck, settings

from tests.obedience import hold, obedience

__all__ = ["hold", "obedience"]

# No test asserts a time: Hypothesis would, by default, and a busy machine would fail it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
