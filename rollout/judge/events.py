"""Events of telemetry by name: the one list, from which scores, screens, rehearsals and the API's schema are made.

A new event is one line here. Names that are not here are kept too, and count as the default class when they fail.
"""

from enum import StrEnum
from typing import Self


class ErrorClass(StrEnum):
    """Class of a failed event, which its points depend on; the gravest first."""

    MIGRATION = "migration"
    VALIDATION = "validation"
    DEFAULT = "default"
    WARNING = "warning"


class Event(StrEnum):
    """Name of an event, and its class when it fails."""

    error_class: ErrorClass

    def __new__(cls, name: str, error_class: ErrorClass = ErrorClass.DEFAULT) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.error_class = error_class
        return member

    HEARTBEAT = "heartbeat"
    MIGRATION_SUCCEEDED = "migration_succeeded"
    MIGRATION_FAILED = "migration_failed", ErrorClass.MIGRATION
    VALIDATION_ERROR = "validation_error", ErrorClass.VALIDATION
    CONSOLE_WARNING = "console_warning", ErrorClass.WARNING
    CONSOLE_ERROR = "console_error"
    KILL_SWITCH_USED = "kill_switch_used"
    FUND_CREATE_ATTEMPT = "fund_create_attempt"
    FUND_CREATE_SUCCESS = "fund_create_success"
    FUND_CREATE_FAILURE = "fund_create_failure"
    FUND_CREATE_CONFLICT = "fund_create_conflict"
    ERROR = "error"
    TELEMETRY_DROPPED = "telemetry_dropped"  # made by the server of a batch's `dropped`


SENT = tuple(event.value for event in Event if event is not Event.TELEMETRY_DROPPED)  # by browsers
NAME = "[A-Za-z0-9_.:-]{1,64}"  # pattern of any event's name
BY_NAME = {event.value: event.error_class for event in Event}
BY_CATEGORY = {"migration": ErrorClass.MIGRATION, "validation": ErrorClass.VALIDATION}


def classify(event: str, category: str = "") -> ErrorClass:
    """Return the class of a failed event: the graver of the one by its name and the one by its category."""
    by_name = BY_NAME.get(event, ErrorClass.DEFAULT)
    return min(by_name, BY_CATEGORY.get(category, by_name), key=list(ErrorClass).index)


def reports_failure(event: str) -> bool:
    """Return whether an event without `ok` is a failure, by its name. telemetry-events.js has the same rule."""
    return event.endswith(("_failed", "_failure", "error", "_warning"))
