"""Links to GitHub's pages of pull requests and commits."""

from urllib.parse import quote, urlsplit


def site_of(api_url: str) -> str:
    """Return the site whose API is at ``api_url``; ``""`` where that does not tell.

    GitHub's own is at ``api.`` of the site, on github.com as on ghe.com; an Enterprise Server's is at ``/api/v3``.
    """
    api = urlsplit(api_url)
    path = api.path.rstrip("/")
    if api.scheme not in {"http", "https"} or not api.hostname:
        return ""
    if path == "/api/v3":
        return f"{api.scheme}://{api.netloc}"
    if not path and api.netloc.startswith("api."):
        return f"{api.scheme}://{api.netloc.removeprefix('api.')}"
    return ""


def page_of(api_url: str, repository: str, *path: str | int) -> str:
    """Return the address of a page of a repository (``owner/name``), say ``"pull", 48``; ``""`` if it is unknown."""
    site = site_of(api_url)
    return "/".join([site, quote(repository), *map(str, path)]) if site and repository else ""
