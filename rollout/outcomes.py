"""Outcomes that the server itself sees, reported to the judge by variant.

A page names its variant in a request header, and the project calls :func:`report` once it knows how the request ended.
Nobody can forge such an outcome: it needs a signed-in user, and no body of telemetry can claim to be the server's.
"""

import logging
import re
from dataclasses import dataclass

from django.db import connection

from rollout import metrics, store
from rollout.bucketing import FEATURE
from rollout.tickets import signer_of

HEADER = "Rollout-Variant"  # of a request, such as "USE_FUND_STORE=fund-store"; several with commas between
HEADER_MAX = 1000  # characters; a longer one is ignored
MEMBER = re.compile(rf"[ \t]*({FEATURE.pattern})=([A-Za-z0-9_.:~-]{{1,32}})[ \t]*")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a request. ``event`` and ``category`` are telemetry's; ``detail`` is for people to read."""

    event: str
    ok: bool = True
    category: str = ""
    detail: str = ""


def variants(header: str) -> dict[str, str]:
    """Return the variant of each feature that a header names; a member that cannot be read is left out."""
    if len(header) > HEADER_MAX:
        return {}
    members = map(MEMBER.fullmatch, header.split(","))
    return {member[1]: member[2] for member in members if member}


def report(header: str, outcome: Outcome, *, user: object) -> None:
    """Store an outcome for each rollout that the header names and that is judged. Never raises.

    Call it outside any transaction, after the request's own has ended: it is one statement. Where the request has lost
    its connection and got no other, the report is lost too: a database that is away says nothing about a feature, and
    nobody should wait for it again.

    Args:
        user: primary key of the signed-in user, who has one voice however many reports there are.
    """
    named = variants(header)
    if not named:
        return
    if connection.errors_occurred and connection.connection is None:
        metrics.server_reports.labels("failed").inc()
        return
    try:
        stored = store.report(
            variants=named,
            signer=signer_of(user),
            event=outcome.event,
            category=outcome.category,
            ok=outcome.ok,
            detail=outcome.detail,
        )
    except Exception:
        logger.warning("rollout_report_failed", exc_info=True)
        metrics.server_reports.labels("failed").inc()
    else:
        metrics.server_reports.labels("stored").inc(stored)
