"""Static files of the pages: one style sheet and one script for the whole admin, and names that carry a hash.

Collected (STATIC_ROOT), a file's name changes with its content, so browsers keep it for ever. Straight from the
packages, without `collectstatic`, names are plain and a page loads its files one by one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.staticfiles.finders import find
from django.core.files.base import ContentFile
from django.templatetags.static import static
from whitenoise.storage import CompressedManifestStaticFilesStorage

from fundapi.web.modules import link

# In the order in which they apply. Unfold's own templates load a font for texts, a chart library and sorting by hand
# too, which no page here uses.
BUNDLES = {
    "fundapi/admin-bundle.css": (
        "fundapi/colors.css",
        "unfold/css/styles.css",
        "unfold/css/simplebar/simplebar.css",
        "fundapi/admin.css",
        "idempotency/admin.css",
        "rollout/admin.css",
        "rollout/admin/controls.css",
        "rollout/admin/screen.css",
        "rollout/admin/charts.css",
        "rollout/admin/judge.css",
        "rollout/admin/history.css",
        "rollout/admin/lists.css",
    ),
    "fundapi/admin-bundle.js": (
        "unfold/js/htmx/htmx.js",
        "fundapi/admin.js",
        "unfold/js/app.js",
        "unfold/js/simplebar/simplebar.js",
        "unfold/js/alpine/alpine.anchor.js",
        "unfold/js/alpine/alpine.persist.js",
        "unfold/js/alpine/alpine.resize.js",
        "unfold/js/alpine/alpine.js",  # after its extensions: it starts at once
    ),
}
# Modules that pages load, each with what it imports. Others import the modules themselves, one by one.
MODULES = {"fundapi/fund-setup-bundle.js": "fundapi/fund-setup.js"}
APART = ("rollout/emergency.js",)  # it runs even if the rest fails
BUNDLED = frozenset(name for names in BUNDLES.values() for name in names)


class HashedStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # it has no types
    """Collected files, compressed, under names with a hash; the imports of our modules name those too."""

    support_js_module_import_aggregation = True

    def post_process(self, paths: dict[str, Any], *args: Any, **options: Any) -> Iterator[Any]:
        """Write the bundles, then hash and compress everything."""
        if not options.get("dry_run"):
            for bundle, text in _bundles():
                self.delete(bundle)
                self.save(bundle, ContentFile(text.encode()))
                paths[bundle] = (self, bundle)
        yield from super().post_process(paths, *args, **options)

    def create_compressor(self, **options: Any) -> Any:
        """Compress by gzip alone, whatever is installed: Brotli saves a fifth and takes fifty times as long."""
        return super().create_compressor(use_brotli=False, **options)


def _bundles() -> Iterator[tuple[str, str]]:
    for bundle, names in BUNDLES.items():
        yield bundle, "\n".join(_read(name) for name in names)
    for bundle, entry in MODULES.items():
        yield bundle, link(entry, _read, APART)


def _read(name: str) -> str:
    path = find(name)
    assert isinstance(path, str), f"no package has the static file {name}"  # noqa: S101 - of the list above
    return Path(path).read_text(encoding="utf-8")


def addresses(bundle: str) -> list[str]:
    """Return the addresses of a bundle: its own, or those of its files where nothing is collected."""
    return [static(name) for name in ((bundle,) if settings.STATIC_ROOT else BUNDLES[bundle])]


def module(bundle: str) -> str:
    """Return the address of a module with what it imports, or of the module alone where nothing is collected."""
    return static(bundle if settings.STATIC_ROOT else MODULES[bundle])


def without(media: forms.Media, dropped: forms.Media) -> forms.Media:
    """Return `media` without the files of `dropped`, and without those that are in a bundle."""
    # A Media tells its files in no other way, and its stubs not at all.
    css: dict[str, Sequence[str]] = media._css  # type: ignore[attr-defined]  # noqa: SLF001
    js, unused = media._js, {*BUNDLED, *dropped._js}  # type: ignore[attr-defined]  # noqa: SLF001
    styles: dict[str, Sequence[str]] = {
        medium: [path for path in paths if path not in unused] for medium, paths in css.items()
    }
    return forms.Media(css=styles, js=[path for path in js if path not in unused])
