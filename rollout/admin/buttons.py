"""The buttons of the operator's screen: the operation, the permission and the form of each."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, transaction
from django.http import HttpRequest

from rollout import operations
from rollout.admin.forms import ChangeForm, ConfigurationForm, ReasonForm, SetPercentageForm
from rollout.models import Rollout, Stage
from rollout.presentation.outlook import climbed

logger = logging.getLogger(__name__)

STOP_ATTEMPTS = 3  # each waits DATABASE_LOCK_TIMEOUT for a transaction that holds the row


@dataclass(frozen=True, slots=True)
class Button:
    """A button of the screen. ``is_done`` returns whether a change is the one that the button asks for.

    It takes the changed rollout, the data of the form, and the fields of the change.
    """

    operation: Callable[..., Rollout]
    permission: str
    form: type[ReasonForm]
    is_done: Callable[[Rollout, Mapping[str, Any], Mapping[str, Any]], bool]


FIELDS = set(ConfigurationForm.Meta.fields)
BUTTONS = {
    "set": Button(
        operations.set_percentage, "operate_rollout", SetPercentageForm,
        lambda rollout, asked, _: rollout.percentage == asked["percentage"],
    ),
    "promote": Button(
        operations.promote, "operate_rollout", ChangeForm,
        lambda _rollout, _asked, changed: climbed(*changed.get("percentage", (0, 0))),
    ),
    "hold": Button(
        operations.hold, "operate_rollout", ChangeForm,
        lambda rollout, *_: rollout.on_hold,
    ),
    "resume": Button(
        operations.resume, "operate_rollout", ChangeForm,
        lambda rollout, *_: not rollout.on_hold,
    ),
    "roll-back": Button(
        operations.roll_back, "operate_rollout", ChangeForm,
        lambda rollout, *_: rollout.on_hold and rollout.percentage == 0,
    ),
    "complete": Button(
        operations.complete, "operate_rollout", ChangeForm,
        lambda rollout, *_: rollout.stage == Stage.COMPLETE,
    ),
    "release": Button(
        operations.release, "stop_rollout", ChangeForm,
        lambda rollout, *_: not rollout.emergency_stop,
    ),
    "configure": Button(
        operations.configure, "change_rollout", ConfigurationForm,
        lambda rollout, asked, _: all(getattr(rollout, name) == asked[name] for name in FIELDS & asked.keys()),
    ),
}  # fmt: skip


def rehearse(change: Callable[[], Rollout]) -> Rollout:
    """Return the rollout as ``change`` would leave it, or raise its error. Change nothing."""
    with transaction.atomic():
        after = change()
        transaction.set_rollback(True)
    return after


def is_resubmission(
    request: HttpRequest, button: Button, stale: operations.StaleEdit, asked: Mapping[str, Any]
) -> bool:
    """Return whether a form is stale only because it was sent twice: a double click, a reload."""
    if len(stale.changes) != 1:
        return False
    (change,) = stale.changes
    mine = change["who"] == str(request.user) and change["why"] == asked["reason"]
    return bool(mine and button.is_done(stale.rollout, asked, change["fields"]))


def completable(rollout: Rollout) -> bool:
    """Return whether :func:`~rollout.operations.complete` would accept the rollout."""
    return rollout.percentage == 100 and rollout.is_judged


def stop_with_retries(feature: str, *, reason: str, actor: Any) -> bool:
    """Stop a rollout, trying again while another transaction locks its row. Return whether it is stopped."""
    for attempt in range(1, STOP_ATTEMPTS + 1):
        try:
            operations.stop(feature, reason=reason, actor=actor)
            return True
        except OperationalError:
            logger.exception("rollout_stop_failed", extra={"attempt": attempt})
    return False
