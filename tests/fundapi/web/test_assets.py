"""Static files: hashed names, the admin's bundles, and what no page loads."""

import os
import re
from pathlib import Path
from typing import Any

import unfold
from django.contrib import admin
from django.contrib.staticfiles.finders import find

from docs.tools import icon_font
from fundapi.embedded.assets import fingerprint
from fundapi.web.assets import BUNDLED
from tests.servers import PROJECT

SKELETON = "templates/unfold/layouts/skeleton.html"


def test_the_bundles_name_every_style_sheet_of_our_pages() -> None:
    ours = [path for app in ("idempotency", "rollout") for path in (PROJECT / app / "static").rglob("*.css")]
    names = {str(path.relative_to(path.parents[len(path.relative_to(PROJECT).parts) - 3])) for path in ours}
    assert names <= BUNDLED
    assert all(find(name) for name in BUNDLED)


def test_no_page_asks_for_what_the_bundles_hold_or_for_django_s_unused_scripts() -> None:
    unused = {"admin/js/urlify.js", "admin/js/prepopulate.js", "admin/js/vendor/xregexp/xregexp.min.js"}
    for page in admin.site._registry.values():
        media: Any = page.media
        files = {*media._js, *(path for paths in media._css.values() for path in paths)}
        assert not files & (BUNDLED | unused), page


def test_our_skeleton_of_a_page_is_unfold_s_without_its_files() -> None:
    """Unfold has no block around them. A new release of it with other lines fails here: look at them."""
    theirs = (Path(unfold.__file__).parent / SKELETON).read_text().splitlines()
    ours = (PROJECT / "fundapi" / SKELETON).read_text().splitlines()
    dropped = [line for line in theirs if line not in ours]
    assert all(re.search(r"unfold/(fonts|css|js)/|{{ script }}", line) for line in dropped), dropped


def test_the_font_of_icons_is_that_of_the_icons_in_use() -> None:
    """If it is not: ``python -m docs.tools.icon_font``."""
    used = icon_font.used()
    assert {"rocket_launch", "phonelink_lock", "close", "warning", "settings"} <= used
    ours = (icon_font.SUBSET / icon_font.NAME).read_bytes()
    assert ours == icon_font.subset(used)
    assert len(ours) < 20_000
    assert (icon_font.SUBSET / "LICENSE").read_text() == (icon_font.WHOLE / "LICENSE").read_text()


def test_a_changed_file_is_collected_again() -> None:
    before = fingerprint()
    assert fingerprint() == before
    path = PROJECT / "fundapi/static/fundapi/colors.css"
    stat = path.stat()
    try:
        path.touch()
        assert fingerprint() != before
    finally:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
