"""For a project's own tests: ``override_rollout("NAME", active=True)``."""

from decimal import Decimal
from typing import Any

from django.test.utils import TestContextDecorator

from rollout import configuration
from rollout.bucketing import FEATURE, HASH_VERSIONS


class override_rollout(TestContextDecorator):  # noqa: N801 - a decorator, named as override_settings is
    """Change a rollout for a test, or make it for the test: a context manager, and a decorator of tests and TestCases.

    All readers of this process see it: flags, templates, ``GET /api/rollouts`` and OFREP, in the threads of a live
    server too. So the pages of a browser test agree. The database stays as it is. Overrides nest; the innermost counts.
    Kill switches of a request hold all the same; people who always or never get the rollout do not count meanwhile.

    Args:
        active: on for everybody, or for nobody.
        percentage: instead of ``active``, 0-100.
        hash_version: of a rollout that is not there; 2 by default.
    """

    def __init__(
        self,
        feature: str,
        *,
        active: bool | None = None,
        percentage: Decimal | float | None = None,
        hash_version: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(feature, str) or not FEATURE.fullmatch(feature):
            raise ValueError(
                f"{feature!r} is no name of a rollout: write upper case letters, digits and _, such as NEW_CHECKOUT."
            )
        if (active is None) == (percentage is None):
            raise TypeError("Give override_rollout() either active or percentage.")
        if not isinstance(active, bool | None):
            raise TypeError(f"active is {active!r}, and should be True or False.")
        if isinstance(percentage, bool) or not isinstance(percentage, Decimal | int | float | None):
            raise TypeError(f"percentage is {percentage!r}, and should be a number from 0 to 100.")
        share = float(100 * bool(active) if percentage is None else percentage)
        if not 0 <= share <= 100:
            raise ValueError(f"{percentage} is not a percentage: it must be between 0 and 100.")
        if hash_version is not None and (type(hash_version) is not int or hash_version not in HASH_VERSIONS):
            raise ValueError(f"hash_version is {hash_version!r}, and should be 1 or 2.")
        self.feature = feature
        self.fields: dict[str, Any] = {"enabled": True, "emergencyStop": False, "percentage": share}
        if hash_version is not None:
            self.fields["hashVersion"] = hash_version
        # One for each time that it is entered: a decorated test may run in two threads.
        self.marks: list[object] = []

    def enable(self) -> None:
        mark = object()
        self.marks.append(mark)
        configuration.override(mark, self.feature, self.fields)

    def disable(self) -> None:
        configuration.end_override(self.marks.pop())
