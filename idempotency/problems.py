"""The app's errors as classes with status, code and detail (RFC 9457).

No Django here, so that the pure modules can raise them; :mod:`idempotency.protocol` turns them into responses.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self


class Text(str):
    """An English sentence that can be translated: ``Text("%(count)s characters", count=3)``."""

    __slots__ = ("parameters", "template")
    template: str
    parameters: dict[str, Any]

    def __new__(cls, template: str, **parameters: Any) -> Self:
        text = super().__new__(cls, template % parameters if parameters else template)
        text.template, text.parameters = template, parameters
        return text


def translated(text: str, gettext: Callable[[str], str]) -> str:
    """Return a text in the language of ``gettext``, to which its template is known."""
    if not isinstance(text, Text):
        return gettext(text)
    parameters = {
        name: translated(value, gettext) if isinstance(value, Text) else value
        for name, value in text.parameters.items()
    }
    return gettext(text.template) % parameters if parameters else gettext(text.template)


class IdempotencyError(Exception):
    """An error that the app answers itself, with ``application/problem+json``."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    detail: str
    outcome: ClassVar[str] = "rejected"  # the label of idempotency_requests
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, text: str = "") -> None:
        self.text = text or type(self).detail
        self.detail = str(self.text)
        super().__init__(self.detail)


class KeyMissing(IdempotencyError):
    """No key was sent; ``header`` is the one that the mark reads."""

    status = 400
    code = "idempotency_key_missing"
    title = "Idempotency-Key is missing"
    detail: Text = Text(
        "This request needs the header %(header)s. Make a new random key for each new operation, such as a UUID, and "
        "send the same key again when you retry.",
        header="Idempotency-Key",
    )

    def __init__(self, header: str = "Idempotency-Key") -> None:
        super().__init__(Text(type(self).detail.template, header=header))


class KeyInvalid(IdempotencyError):
    status = 400
    code = "idempotency_key_invalid"
    title = "Idempotency-Key cannot be read"
    detail = (
        "Send 1 to 255 characters of A-Z a-z 0-9 _ . : ~ - as they are, or in double quotes, or as "
        "<environment>|<operation>|<key>."
    )

    def __init__(self, fault: str) -> None:
        super().__init__(
            Text(
                "The key %(fault)s: send 1 to 255 characters of A-Z a-z 0-9 _ . : ~ - as they are, or in double "
                "quotes, or as <environment>|<operation>|<key>.",
                fault=fault,
            )
        )


class EnvironmentMismatch(IdempotencyError):
    status = 400
    code = "idempotency_key_environment_mismatch"
    title = "Idempotency-Key is for another environment"

    def __init__(self, *, sent: str, expected: str) -> None:
        super().__init__(
            Text(
                "The key is for the environment '%(sent)s', but this is '%(expected)s'. Nothing was done. "
                "Send the request to '%(sent)s', or make a key for '%(expected)s'.",
                sent=sent,
                expected=expected,
            )
        )


class OperationMismatch(IdempotencyError):
    status = 400
    code = "idempotency_key_operation_mismatch"
    title = "Idempotency-Key is for another operation"

    def __init__(self, *, sent: str, expected: str) -> None:
        super().__init__(
            Text(
                "The key is for the operation '%(sent)s', but this is '%(expected)s'. Nothing was done. "
                "Send the request to '%(sent)s', or make a key for '%(expected)s'.",
                sent=sent,
                expected=expected,
            )
        )


class InvalidJSON(IdempotencyError):
    status = 400
    code = "parse_error"
    title = "The body is not valid JSON"
    detail = "Correct the body: it is not valid JSON."


class BodyTooLarge(IdempotencyError):
    status = 413
    code = "body_too_large"
    title = "The body is too large"
    detail = "The body is larger than this server reads. Nothing was done; send less."


class KeyReused(IdempotencyError):
    status = 409
    code = "idempotency_key_reused"
    title = "Idempotency-Key was used for another request"
    detail = (
        "This key has already been used for a request with different content, whose result stands. "
        "Review your input; if you mean a new operation, send it with a new key."
    )
    outcome = "key_reused"
    headers = {"Idempotency-Status": "conflict"}


class RequestInProgress(IdempotencyError):
    status = 409
    code = "idempotency_request_in_progress"
    title = "The first request with this Idempotency-Key is still running"
    detail = (
        "Wait for it to finish, then send the same request with the same key again: you will get its answer. "
        "'Prefer: wait=2' lets the server wait for you."
    )
    outcome = "in_progress"
    headers = {"Idempotency-Status": "conflict", "Retry-After": "1"}


class Unavailable(IdempotencyError):
    """The database failed under the request. A retry with the same key shows whether it took effect."""

    status = 503
    code = "database_unavailable"
    title = "The database did not answer"
    detail = (
        "Send the same request with the same Idempotency-Key again: if the first attempt took effect you will "
        "get its answer, and nothing is done twice."
    )
    outcome = "unavailable"
    headers = {"Retry-After": "1"}
