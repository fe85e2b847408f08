import json
from datetime import UTC
from typing import Any
from uuid import uuid4

from django.core.management.base import BaseCommand, CommandError, CommandParser

from rollout.extras import imported

with imported("judge"):
    from rollout import faults, store
    from rollout.alerts import channels, messages, outbox
    from rollout.alerts.messages import Message
    from rollout.conf import conf


class Command(BaseCommand):
    help = "Send a test alert over each channel at once, and print whether it arrived."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--channel", choices=sorted(channels.CHANNELS), help="only over this channel")

    @faults.in_words()
    def handle(self, *_args: Any, channel: str | None, **_options: Any) -> None:
        chosen = [name for name in conf.alert_channels if channel in {None, name}]
        if not chosen:
            raise CommandError(
                "No channel is configured: set ROLLOUT_WEBHOOK_URL and ROLLOUT_WEBHOOK_SECRET, "
                "or ROLLOUT_ALERT_EMAILS."
            )
        message = Message(
            id=outbox.message_id(messages.TEST, uuid4().hex),
            kind=messages.TEST,
            feature="USE_FUND_STORE",
            environment=conf.environment,
            percentage=10,
            signal="green",
            reason="green: a test of this channel",
            evidence=("score: 0 points in this check (green)",),
            next="Nothing.",
            at=store.clock().astimezone(UTC),
            since=None,
            url=outbox.admin_url(),
        )
        failed = [name for name in chosen if not self._try(name, message)]
        if failed:
            raise CommandError(f"Not sent: {', '.join(failed)}.")

    def _try(self, channel: str, message: Message) -> bool:
        shown = {
            "webhook": json.dumps(json.loads(messages.webhook(message)), indent=2),
            "email": f"Subject: {messages.headline(message)}\n\n{messages.email(message)}",
        }
        self.stdout.write(f"{shown[channel]}\n")
        try:
            self.stdout.write(
                self.style.SUCCESS(f"{channel}: sent, {channels.send(channel, message, at=message.at)}")
            )
        except channels.NotSent as error:
            self.stdout.write(self.style.ERROR(f"{channel}: failed, {error}"))
            return False
        return True
