"""Fail-over: kill the primary under load and promote its standby.

For ``STALLED`` seconds before the end the standby cannot keep up. Meanwhile a synchronous primary, which waits for its
standby, acknowledges nothing; an asynchronous one acknowledges funds that the standby does not have.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from chaos.postgres import Postgres
from chaos.proxied import Proxied
from chaos.stack import Stack, running

BEFORE, AFTER = 4.0, 4.0  # s
STALLED = 8.0  # s; longer than the statement time-out of a guarded request


@contextmanager
def replicated(*, synchronous: bool) -> Iterator[tuple[Stack, Postgres, Proxied]]:
    """Start a deployment with a standby, and a proxy between the two servers."""
    with running() as stack:
        between = Proxied(stack.postgres.socket)
        standby = Postgres(stack.home.path / "standby", stack.account)
        try:
            standby.copy_from(between.port)
            standby.start()
            stack.postgres.wait_for_standby()
            if synchronous:
                with stack.postgres.superuser() as connection:
                    connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                    connection.execute("SELECT pg_reload_conf()")
            yield stack, standby, between
        finally:
            between.stop()
            standby.stop()


def fail_over(stack: Stack, standby: Postgres, between: Proxied) -> None:
    """Kill the primary, promote the standby, and move the database's address there."""
    stack.look_after(BEFORE)
    between.say("stall")
    stack.look_after(STALLED)
    stack.postgres.kill()
    between.say("cut")
    standby.promote()
    stack.postgres = standby
    stack.proxy.say("heal", str(standby.socket))
    stack.look_after(AFTER)
