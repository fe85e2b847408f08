"""Attack a deployment automatically: `make fuzz`, or `python -m fuzz [ATTACKER ...]`.

  bytes    requests over raw sockets, well-formed, broken and hidden in one another
  openapi  schemathesis over /api/schema, with a token and without one, and over OFREP's own document

It starts a deployment of its own, prints the bytes of each finding, and ends by itself, with status 1 on any.
"""

import argparse
import random
import signal
import sys

from rich.console import Console
from rich.table import Table

from chaos.stack import Stack, running
from fuzz.campaign import Campaign, Target
from fuzz.cases import Screen
from fuzz.openapi import OFREP, attack
from fuzz.verdict import Effect, moved

ATTACKERS = ("bytes", "openapi")
CLASSES = ("2xx", "3xx", "4xx", "5xx")
SHOWN = 4000  # bytes of a finding


# An operator's session, whose cookie is printed.
SIGN_IN = """
from django.contrib.auth.models import User
from django.test import Client
browser = Client()
browser.force_login(User.objects.create_user("fuzz-operator", is_staff=True, is_superuser=True))
print(browser.cookies["sessionid"].value)
"""
MOVES = """
SELECT history_change_reason, percentage FROM rollout_historicalrollout WHERE history_change_reason LIKE 'fuzz-%'
"""


def target(stack: Stack) -> Target:
    """Return the deployment as a target of a campaign."""

    def funds() -> list[tuple[int, str]]:
        with stack.postgres.superuser() as connection:
            return connection.execute("SELECT id, name FROM fundapi_fund").fetchall()

    cookie = stack.manage("shell", "--no-imports", "-c", SIGN_IN).splitlines()[-1]

    def screen() -> Screen:
        with stack.postgres.superuser() as connection:
            row = connection.execute("SELECT id, version FROM rollout_rollout ORDER BY id LIMIT 1").fetchone()
            assert row is not None
            return Screen(f"sessionid={cookie}", f"/admin/rollout/rollout/{row[0]}/set/", row[1])

    def effects() -> list[Effect]:
        with stack.postgres.superuser() as connection:
            failures = connection.execute("SELECT username FROM axes_accessfailurelog").fetchall()
            moves = connection.execute(MOVES).fetchall()
            return [Effect(name) for (name,) in failures] + [moved(*move) for move in moves]

    def workers() -> set[int]:
        return {worker.pid for worker in stack.web_workers()}

    return Target(stack.port, stack.token, funds, workers, screen, effects)


def throw_bytes(stack: Stack, seed: int, *, seconds: float, only: int | None) -> bool:
    """Try cases for ``seconds``, or ``only`` one of them; print the result, and return True without findings."""
    campaign = Campaign(target(stack), seed)
    if only is None:
        campaign.run(seconds=seconds)
    else:
        campaign.run(cases=1, first=only)
    show(campaign)
    return not campaign.findings


def show(campaign: Campaign) -> None:
    """Print a table of tries and answers, and each finding."""
    table = Table("trick", "tried", *CLASSES, "no answer", "findings", title=f"bytes, seed {campaign.seed}")
    for name, tally in campaign.tallies.items():
        answers = [f"{tally.answers[kind]:,}" for kind in CLASSES]
        row = (name, f"{tally.tried:,}", *answers, f"{tally.silent:,}", str(tally.findings))
        table.add_row(*row, style="red" if tally.findings else None)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(
        f"{campaign.served} good requests in between; {len(campaign.acknowledged)} funds acknowledged, "
        f"and {len(campaign.effects)} effects of forms; each looked for in the database."
    )
    for finding in campaign.findings:
        print(f"\n{finding.trick}, case {finding.number}: {finding.what}")
        if finding.sent:
            print(f"  again: python -m fuzz bytes --seed {campaign.seed} --case {finding.number}")
            print(f"  bytes: {finding.sent[:SHOWN]!r}{' ...' if len(finding.sent) > SHOWN else ''}")


def follow_the_document(stack: Stack, seed: int, *, seconds: float) -> bool:
    """Run schemathesis for ``seconds``; print its report, and return True without findings."""
    known = attack(stack.port, stack.token, seed, "--max-time", str(max(1, int(seconds))))
    stranger = attack(
        stack.port, None, seed, "--max-examples", "10", "--max-time", str(max(1, int(seconds / 4)))
    )
    ofrep = attack(stack.port, None, seed, "--max-time", str(max(1, int(seconds / 4))), document=OFREP)
    for who, run in (("with a token", known), ("without a token", stranger), ("as OFREP says", ofrep)):
        print(f"\nopenapi, {who}, seed {seed}:\n{run.stdout}{run.stderr}")
    return known.returncode == stranger.returncode == ofrep.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("attackers", nargs="*", metavar="ATTACKER", help="of the above (default: both)")
    parser.add_argument("--seconds", type=float, default=60, help="of each attacker (default: 60)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of all random numbers"
    )
    parser.add_argument("--case", type=int, help="only this one of a seed's cases, for `bytes`")
    arguments = parser.parse_args()
    names = arguments.attackers or list(ATTACKERS)
    if unknown := set(names) - set(ATTACKERS):
        parser.error(
            f"there is no attacker called {', '.join(sorted(unknown))}: choose from {', '.join(ATTACKERS)}"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # everything stops on the way out
    good = True
    with running(SIGNIN_FAILURES_MAX="0", SIGNIN_ADDRESS_FAILURES_MAX="0") as stack:
        if "bytes" in names:
            good &= throw_bytes(stack, arguments.seed, seconds=arguments.seconds, only=arguments.case)
        if "openapi" in names:
            good &= follow_the_document(stack, arguments.seed, seconds=arguments.seconds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
