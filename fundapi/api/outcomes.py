"""Outcomes of ``POST /api/funds`` for the judge, by the variant that the page names (docs/reference/judge.md)."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.http.request import HttpHeaders

from rollout import outcomes
from rollout.outcomes import Outcome

HEADER = HttpHeaders.to_wsgi_name(outcomes.HEADER)
OPERATION = "fund-create"  # of POST /api/funds
# The content is refused: the page has let something pass that it should not, or has made something wrong of it.
INVALID = {400, 413, 415, 422}


class OutcomeMiddleware:
    """Report the outcome of a creation, after its transaction has ended. Stands before the idempotency middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if header := request.META.get(HEADER):
            guarded = getattr(request, "idempotency", None)  # set once the caller is admitted
            if guarded is not None and guarded.operation == OPERATION:
                outcome = outcome_of(response.status_code, guarded.outcome)
                if outcome is not None:
                    outcomes.report(header, outcome, user=guarded.principal)
        return response


def outcome_of(status: int, outcome: str) -> Outcome | None:
    """Return the outcome that counts for the feature, or ``None``.

    Args:
        outcome: of the key, one of ``idempotency.metrics.OUTCOMES``.
    """
    if outcome == "created":
        return Outcome("fund_create_success", detail=str(status))
    if outcome == "key_reused":
        return Outcome("fund_create_conflict", detail=str(status))  # a decision for the person, not a failure
    if status >= 500:
        return Outcome("fund_create_failure", ok=False, detail=str(status))
    if status in INVALID:
        return Outcome("fund_create_failure", ok=False, category="validation", detail=str(status))
    return None  # a replay, "still running", or something that says nothing about the feature
