"""Links to GitHub lead to the site that the API belongs to, or there are none."""

import pytest

from rollout.admin.github_links import page_of, site_of


@pytest.mark.parametrize(
    ("api", "site"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.github.com/", "https://github.com"),
        ("https://api.acme.ghe.com", "https://acme.ghe.com"),
        ("https://github.example.com/api/v3", "https://github.example.com"),
        ("https://github.example.com/api/v3/", "https://github.example.com"),
        ("http://git.example.com:8443/api/v3", "http://git.example.com:8443"),
        ("https://api.example.com/api/v3", "https://api.example.com"),
        ("https://github.example.com", ""),
        ("https://proxy.example.com/github", ""),
        ("http://127.0.0.1:9000", ""),
        ("javascript:alert(1)//api/v3", ""),
        ("api.github.com", ""),
        ("", ""),
    ],
)
def test_the_site_is_derived_from_the_api(api: str, site: str) -> None:
    assert site_of(api) == site


def test_a_page_needs_a_site_and_a_repository() -> None:
    api = "https://api.github.com"
    assert page_of(api, "acme/funds", "pull", 48) == "https://github.com/acme/funds/pull/48"
    assert page_of(api, "acme/funds", "commit", "ab12") == "https://github.com/acme/funds/commit/ab12"
    assert page_of(api, 'acme/a"b c', "pull", 1) == "https://github.com/acme/a%22b%20c/pull/1"
    assert page_of(api, "", "pull", 48) == ""
    assert page_of("http://127.0.0.1:9000", "acme/funds", "pull", 48) == ""
