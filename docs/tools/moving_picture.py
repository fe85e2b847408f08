"""Make the moving picture of the README again: ``.venv/bin/python -m docs.tools.moving_picture``.

It needs Chromium, uses throw-away services and a web server of its own, and writes ``docs/images/fundapi.svg``:
frames of the real pages, which CSS shows in turn. The checks are the judge's own.
"""

import base64
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from docs.tools.studio import FEATURE, PASSWORD, database, report, signed_in

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route, ViewportSize

PICTURE = Path(__file__).parents[1] / "images" / "fundapi.svg"
# Low enough to leave the first screen of the README room for its commands.
SIZE = {"width": 900, "height": 390}
HEADER = 60  # px, the bar on top of every page: left out
CAPTION = 62  # px, below the frame. Its letters can be read on a phone.
SECONDS = 1.7  # that a frame is shown: the story takes ten
QUALITY = 60  # of the JPEGs

VIEWPORT: "ViewportSize" = {"width": SIZE["width"], "height": SIZE["height"] + HEADER}
CLIP = {"x": 0, "y": HEADER, **SIZE}

Frame = tuple[str, bytes]


def main() -> None:
    with database():
        frames = take_frames()
    PICTURE.write_text(moving(frames))


def take_frames() -> list[Frame]:
    from django.contrib.auth.models import User

    User.objects.create_superuser("maria.lindt", password=PASSWORD)
    with signed_in("/admin/login/?next=/fund-setup", "maria.lindt", VIEWPORT) as page:
        return [*retry(page), *roll_back(page)]


def retry(page: "Page") -> list[Frame]:
    """A creation whose answer is lost, and its retry."""

    def lose(route: "Route") -> None:
        """Let the server answer, and the browser hear nothing."""
        route.fetch()
        route.abort()

    page.route("**/api/funds", lose)
    page.goto("/fund-setup")
    page.get_by_label("Fund name", exact=True).fill("Harbor Growth I")
    page.get_by_label("Fund size", exact=True).fill("250,000,000")
    page.get_by_role("button", name="Create fund").click()
    page.get_by_text("We cannot reach the server").wait_for()
    page.mouse.wheel(0, VIEWPORT["height"])
    page.wait_for_timeout(300)
    frames = [("A tunnel: the fund is created, the answer is lost.", shot(page))]
    page.unroute("**/api/funds")
    page.get_by_role("button", name="Set up another fund").wait_for()
    page.mouse.wheel(0, -VIEWPORT["height"])
    page.wait_for_timeout(300)
    frames.append(("The page sends it again, with the same key: one fund.", shot(page)))
    return frames


def roll_back(page: "Page") -> list[Frame]:
    """A rollout that is healthy at 50 %, breaks, and is rolled back by the judge."""
    from rollout import operations
    from rollout.models import Incident, Rollout

    operations.configure(FEATURE, {"timeline": "manual"}, reason="A picture")
    operations.set_percentage(FEATURE, Decimal(50), reason="Green at 10 %")
    screen = f"/admin/rollout/rollout/{Rollout.objects.get(feature=FEATURE).pk}/change/"
    for _ in range(25):
        pass_minute()
        check_now()
    frames = [("A rollout: 50 % of browsers. All is green.", shot(page, screen))]
    for _ in range(2):
        pass_minute()
        check_now(failing=6)
    frames.append(("Three in the morning: migrations fail. Red, twice.", shot(page, screen)))
    pass_minute()
    check_now(failing=6)
    frames.append(("The third red check: the judge rolls back to 0 %.", shot(page, screen)))
    incident = f"/admin/rollout/incident/{Incident.objects.latest('pk').pk}/change/"
    frames.append(("The incident, for those who slept.", shot(page, incident)))
    return frames


def pass_minute() -> None:
    """Let a minute pass in an instant: what has happened is a minute older."""
    from django.db.models import F

    from rollout.models import Check, Rollout, Watch

    times = {Check: ["at"], Rollout: ["stage_started_at"], Watch: ["began_at", "checked_at"]}
    times[Rollout.history.model] = ["history_date"]
    for model, names in times.items():
        model.objects.update(**{name: F(name) - timedelta(minutes=1) for name in names})


def check_now(*, failing: int = 0) -> None:
    """Store the telemetry of a minute, and let the judge check."""
    from rollout import store
    from rollout.tick import check

    report("migration_succeeded", clients=12)
    report("migration_failed", clients=failing)
    report(clients=12 + failing, variant="legacy")
    upto, now = store.fence()
    check(FEATURE, upto=upto, now=now)


def shot(page: "Page", path: str = "") -> bytes:
    if path:
        page.goto(path)
    return page.screenshot(type="jpeg", quality=QUALITY, clip=CLIP)


def moving(frames: list[Frame]) -> str:
    """Return an SVG that shows one frame after another, for ever; the last alone to whoever wants no motion."""
    width, height, total = SIZE["width"], SIZE["height"] + CAPTION, len(frames) * SECONDS
    shown = 100 / len(frames)
    images = "".join(
        f'<g style="animation-delay:{number * SECONDS:.1f}s"><image width="{width}" height="{SIZE["height"]}" '
        f'href="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"/>'
        f'<text x="18" y="{SIZE["height"] + 41}">{caption}</text></g>\n'
        for number, (caption, jpeg) in enumerate(frames)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        "<style>\n"
        f"@keyframes turn {{ 0%, {shown:.2f}% {{ opacity: 1 }} {shown + 0.01:.2f}%, 100% {{ opacity: 0 }} }}\n"
        f"g {{ opacity: 0; animation: turn {total:.1f}s infinite }}\n"
        "text { font: 600 27px system-ui, sans-serif; fill: #fff }\n"
        "@media (prefers-reduced-motion: reduce) { g { animation: none } g:last-of-type { opacity: 1 } }\n"
        "</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#1e293b"/>\n{images}</svg>\n'
    )


if __name__ == "__main__":
    main()
