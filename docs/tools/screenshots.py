"""Make the screenshots of the documentation again: ``.venv/bin/python -m docs.tools.screenshots``.

It needs Chromium, uses throw-away services and a web server of its own, and writes only to ``docs/images/``.
"""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from docs.tools.studio import FEATURE, PASSWORD, database, report, signed_in

IMAGES = Path(__file__).parents[1] / "images"


def main() -> None:
    with database(ENVIRONMENT="prod"):  # where the screen asks before it acts
        write_history()
        run_checks()
        take_pictures()


def write_history() -> None:
    """Write three days of history, by two people."""
    from django.contrib.auth.models import Group, User
    from django.utils import timezone

    from rollout import operations
    from rollout.models import Rollout

    people = {}
    for name, role in (("maria.lindt", "Operator"), ("joe.tan", "Administrator")):
        people[name] = User.objects.create_user(name, password=PASSWORD, is_staff=True)
        people[name].groups.add(Group.objects.get(name=role))
    maria, joe = people["maria.lindt"], people["joe.tan"]
    now = timezone.now()
    changes = [
        (74, None, None),
        (72, maria, lambda **by: operations.promote(FEATURE, reason="First canary; on call knows", **by)),
        (71, maria, lambda **by: operations.promote(FEATURE, reason="30 min without an error", **by)),
        (69, maria, lambda **by: operations.stop(FEATURE, reason="Drafts get lost in old Safari", **by)),
        (66, maria, lambda **by: operations.set_percentage(FEATURE, Decimal(10), reason="Start again", **by)),
        (52, maria, lambda **by: operations.release(FEATURE, reason="Fix deployed (PR 52)", **by)),
        (50, maria, lambda **by: operations.resume(FEATURE, reason="Smoke test passed", **by)),
        (27, joe, lambda **by: operations.hold(FEATURE, reason="Support is short of people tonight", **by)),
        (6, joe, lambda **by: operations.resume(FEATURE, reason="Support is back", **by)),
        (5, maria, lambda **by: operations.promote(FEATURE, reason="All green since the fix", **by)),
    ]
    for hours, actor, change in changes:
        if change:
            change(actor=actor)
        record = Rollout.objects.get(feature=FEATURE).history.order_by("-version").first()
        record.history_date = now - timedelta(hours=hours)
        record.save()
    Rollout.objects.update(stage_started_at=now - timedelta(hours=5))


def run_checks() -> None:
    """Store telemetry for the five hours of the stage, and check it every minute."""
    from django.utils import timezone

    from rollout import store
    from rollout.tick import check

    hours = 5
    failures = {  # by minute of the stage
        40: ("console_warning",),
        95: ("validation_error", "console_warning"),
        180: ("error", "validation_error"),
        181: ("error",),
        250: ("validation_error",),
        300: ("validation_error", "console_warning"),
    }
    failures_without = {
        30: ("error",),
        120: ("validation_error",),
        181: ("error",),
        260: ("error",),
        290: ("error",),
    }
    now = timezone.now()
    for minute in range(1, hours * 60 + 1):
        report("migration_succeeded", clients=4)
        report(clients=4, variant="legacy")
        report(*failures.get(minute, ()), clients=1)
        report(*failures_without.get(minute, ()), clients=1, variant="legacy")
        for network in ("198.51.100.0/24", "203.0.113.0/24"):
            report(clients=2, network=network)
        check(FEATURE, upto=store.fence()[0], now=now - timedelta(minutes=hours * 60 - minute))


def take_pictures() -> None:
    from django.contrib.auth.models import User

    from rollout import operations

    joe = User.objects.get(username="joe.tan")
    with signed_in("/admin/rollout/rollout/", "maria.lindt", {"width": 1180, "height": 860}) as page:
        page.get_by_role("link", name=FEATURE).click()
        page.get_by_role("heading", name="What happens next").wait_for()
        screen = page.url
        page.set_viewport_size({"width": 1180, "height": 1180})
        page.screenshot(path=IMAGES / "rollout.png")
        page.get_by_role("region", name="Signal").screenshot(path=IMAGES / "rollout-signal.png")
        page.get_by_role("region", name="Over time").screenshot(path=IMAGES / "rollout-charts.png")
        page.set_viewport_size({"width": 1180, "height": 620})
        page.locator("#move_reason").fill("Clean for five hours")
        operations.hold(FEATURE, reason="The auditors ask for a pause", actor=joe)
        page.get_by_role("button", name="Promote to 100 %").click()
        page.get_by_role("alert").wait_for()
        page.screenshot(path=IMAGES / "rollout-stale.png")
        operations.stop(FEATURE, reason="Drafts get lost again", actor=joe)
        phone = page.context.browser.new_context(
            viewport={"width": 390, "height": 760},
            color_scheme="dark",
            storage_state=page.context.storage_state(),
        ).new_page()
        phone.goto(screen)
        phone.get_by_role("heading", name="Stopped").wait_for()
        phone.screenshot(path=IMAGES / "rollout-stopped.png")


if __name__ == "__main__":
    main()
