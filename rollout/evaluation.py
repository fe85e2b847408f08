"""Evaluation of a rollout for one browser, with its reason. One precedence table, the same here and in JavaScript.

Pure functions. From the strongest to the weakest (docs/how-to/rollouts.md; tested by tests/rollout/precedence.json):

1. emergency stop: the server's, ``?emergency_rollback=true``, or the browser's own storage
2. opt-out: ``ff_useFundStore=0`` in the URL or in storage
3. the rollout is disabled
4. never: an operator has said that this person does not get it
5. opt-in: ``ff_useFundStore=1`` in the URL or in storage
6. always: an operator has said that this person gets it
7. the percentage
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from rollout.bucketing import HASH_VERSIONS, is_exposed

# Spellings of a switch, the same in evaluation.js (docs/how-to/frontend.md, "Kill switches").
YES = {"1", "1.0", "true"}
NO = {"0", "0.0", "-0.0", "false", "no", "off"}
ABSENT = {"", "null", "none", "undefined"}
# What JavaScript's trim() takes off. Python's strip() takes U+001C to U+001F and U+0085 too, and leaves U+FEFF.
BLANKS = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
EMERGENCY = "emergency_rollback"


class Reason(StrEnum):
    EMERGENCY_STOP = "emergency_stop"
    OPT_OUT = "opt_out"
    UNKNOWN = "unknown"
    DISABLED = "disabled"
    NEVER = "never"
    OPT_IN = "opt_in"
    ALWAYS = "always"
    PERCENTAGE = "percentage"


@dataclass(frozen=True, slots=True)
class Config:
    """The part of a rollout that browsers read. ``percentage`` is 0-100."""

    feature: str
    enabled: bool
    percentage: Decimal
    emergency_stop: bool
    hash_version: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    on: bool
    reason: Reason


def evaluate(
    config: Config | None,
    uuid: str | None,
    *,
    emergency: bool = False,
    url_override: bool | None = None,
    stored_override: bool | None = None,
    assigned: bool | None = None,
) -> Evaluation:
    """Return whether one browser gets the feature, and why.

    Args:
        config: ``None`` for a rollout that is not known.
        uuid: the browser's stable random id; ``None`` while it has none, which gives the feature at 100 % only.
        emergency: the browser's own emergency stop, by URL or storage.
        url_override, stored_override: ``False`` for opt-out, ``True`` for opt-in, ``None`` for neither.
        assigned: ``True`` if the person always gets it, ``False`` if never, ``None`` for neither.
    """
    overrides = (url_override, stored_override)
    stopped = emergency or (config is not None and config.emergency_stop)
    if stopped or False in overrides:
        return Evaluation(on=False, reason=Reason.EMERGENCY_STOP if stopped else Reason.OPT_OUT)
    if config is None:
        return Evaluation(on=False, reason=Reason.UNKNOWN)
    if not config.enabled or assigned is False:
        return Evaluation(on=False, reason=Reason.NEVER if config.enabled else Reason.DISABLED)
    if assigned or True in overrides:
        return Evaluation(on=True, reason=Reason.OPT_IN if True in overrides else Reason.ALWAYS)
    return _by_percentage(config, uuid)


def _by_percentage(config: Config, uuid: str | None) -> Evaluation:
    if uuid is None:
        everybody = config.percentage >= 100 and config.hash_version in HASH_VERSIONS
        return Evaluation(on=everybody, reason=Reason.PERCENTAGE if everybody else Reason.UNKNOWN)
    exposed = is_exposed(uuid, config.feature, config.percentage, hash_version=config.hash_version)
    return Evaluation(on=exposed, reason=Reason.PERCENTAGE)


def override_name(feature: str) -> str:
    """Return the kill switch of a feature: ``USE_FUND_STORE`` → ``ff_useFundStore`` (runbook, "Kill Switch")."""
    first, *rest = feature.lower().split("_")
    return "ff_" + first + "".join(word.capitalize() for word in rest)


def as_switch(value: Any) -> bool | None:
    """Return an override by its text or JSON value: opt-in, opt-out, or ``None`` for anything else."""
    word = _word(value)
    return True if word in YES else False if word in NO else None


def as_stop(value: Any) -> bool:
    """Return whether a text or JSON value asks for an emergency stop: all that are there do, unless they say no.

    An emergency is no time to ask how a value was meant, and a stop by mistake gives one browser legacy.
    """
    return _word(value) not in NO | ABSENT


def _word(value: Any) -> str:
    return str(value).strip(BLANKS).lower()


def is_live(config: Config) -> bool:
    """Return whether any browser can get the feature by the percentage."""
    return config.enabled and not config.emergency_stop and config.percentage > 0
