from typing import Any

from django.core.management.base import CommandParser

from rollout.extras import imported

with imported("release"):
    from rollout.release.shell import ReleaseCommand, add_features, add_site, require_features
    from rollout.release.site import site_url
    from rollout.release.terminal import Result, Terminal
    from rollout.release.verify import verify


class Command(ReleaseCommand):
    help = (
        "Check that a rollback has arrived (runbook, 'Rollback Verification'): every rollout that is stopped, "
        "disabled or at 0 % is off in the database, in the configuration that --url serves, and in its "
        "/health, unless another rollout is live. Changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_site(parser)
        add_features(parser, "a rollout that must be off; repeat it for several")

    def release(self, terminal: Terminal, **options: Any) -> Result:
        require_features(options["feature"])
        return verify(options["feature"], site_url(options["url"]), terminal)
