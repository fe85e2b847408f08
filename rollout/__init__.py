"""Percentage rollouts that operators move, and that browsers and Python follow.

The whole story: docs/how-to/rollouts.md; flags in Python: docs/how-to/flags-in-python.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollout.decorators import RequireFlagMixin, require_flag
    from rollout.flags import UnknownFlag, aflag_is_active, flag_is_active
    from rollout.testing import override_rollout

__all__ = [
    "RequireFlagMixin",
    "UnknownFlag",
    "aflag_is_active",
    "flag_is_active",
    "override_rollout",
    "require_flag",
]

_PLACES = {
    "RequireFlagMixin": "decorators",
    "UnknownFlag": "flags",
    "aflag_is_active": "flags",
    "flag_is_active": "flags",
    "override_rollout": "testing",
    "require_flag": "decorators",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: Django imports this package before there are models."""
    if name in _PLACES:
        return getattr(import_module(f"rollout.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
