from typing import Any

from django.core.management.base import CommandParser

from rollout.release.errors import Missing
from rollout.release.shell import ReleaseCommand, add_features, require_features
from rollout.release.terminal import Result, Terminal
from rollout.release.verify import is_site, verify


class Command(ReleaseCommand):
    help = (
        "Check that a rollback has arrived (runbook, 'Rollback Verification'): every rollout that is stopped, "
        "disabled or at 0 % is legacy in the database, in the configuration that --url serves, and in its "
        "/health, unless another rollout is live. Changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--url", help="the site, such as https://funds.example.com")
        add_features(parser, "a rollout that must be legacy; repeat it for several")

    def release(self, terminal: Terminal, **options: Any) -> Result:
        require_features(options["feature"])
        url = options["url"]
        if url is not None and not is_site(url):
            raise Missing(
                f"--url is {url!r}: write the site's address, such as https://funds.example.com, or leave it out."
            )
        return verify(options["feature"], url or "", terminal)
