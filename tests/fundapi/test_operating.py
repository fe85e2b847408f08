"""deploy/: nginx in front of a real server, units of systemd, the database roles of Compose."""

import os
import re
import shlex
import shutil
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from axes.models import AccessAttempt
from django.contrib.auth.models import User

from benchmarks.servers import end, free_port
from fundapi.embedded.programs import postgres_directory
from fundapi.web.problems import CATALOGUE
from tests.answers import assert_problem
from tests.conftest import FUND, token_of
from tests.eventually import eventually
from tests.fundapi.containers import SERVICES
from tests.servers import PROJECT, manage, running_server, superuser_url

DEPLOY = PROJECT / "deploy"
NAME = "funds.example.com"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


# --- nginx ----------------------------------------------------------------------------------------------------------


class Proxy:
    """nginx with deploy/nginx.conf, on free ports, in front of a server."""

    def __init__(self, directory: Path, upstream: int) -> None:
        self.http, self.https = free_port(), free_port()
        certificate, key = directory / "site.pem", directory / "site.key"
        openssl = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        names = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
        files = ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run([*openssl.split(), *names, *files], check=True, capture_output=True)
        site = (DEPLOY / "nginx.conf").read_text()
        changes = {
            r"/etc/ssl/certs/\S+\.pem": str(certificate),
            r"/etc/ssl/private/\S+\.key": str(key),
            r"listen \[::\]:\d+( ssl)?;": "",
            r"listen 80;": f"listen 127.0.0.1:{self.http};",
            r"listen 443 ssl;": f"listen 127.0.0.1:{self.https} ssl;",
            r"127\.0\.0\.1:8000": f"127.0.0.1:{upstream}",
        }
        for pattern, new in changes.items():
            site, count = re.subn(pattern, new, site)
            assert count, pattern
        paths = "".join(
            f"{kind}_temp_path {directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.configuration = directory / "nginx.conf"
        self.configuration.write_text(
            f"daemon off; pid {directory}/pid; error_log {directory}/error.log;\n"
            f"{'user root;' if os.geteuid() == 0 else ''}\n"
            f"events {{}}\nhttp {{ access_log off; {paths}\n{site} }}\n"
        )
        self.command = ["nginx", "-e", str(directory / "error.log"), "-c", str(self.configuration)]
        self.trust = ssl.create_default_context(cafile=str(certificate))


@pytest.fixture(scope="module")
def proxy(database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    if not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("nginx is missing: apt-get install nginx")
    env: dict[str, Any] = {
        "HTTPS": "on",
        "TRUSTED_PROXIES": "1",
        "ALLOWED_HOSTS": NAME,
        "SECRET_KEY": uuid.uuid4().hex * 2,
    }
    with running_server(workers=1, **env) as server, ExitStack() as stack:
        made = Proxy(tmp_path_factory.mktemp("nginx"), server.port)
        path = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
        tested = subprocess.run([*made.command, "-t"], env=path, capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stderr
        process = subprocess.Popen(made.command, env=path)
        stack.callback(end, process)
        eventually(lambda: answer(made, "http", "/").status_code == 301)
        yield made


def answer(proxy: Proxy, scheme: str, path: str, method: str = "GET", **options: Any) -> httpx.Response:
    """Ask nginx by the name of the site."""
    port = proxy.https if scheme == "https" else proxy.http
    options["headers"] = {"Host": NAME, **options.get("headers", {})}
    transport = httpx.HTTPTransport(verify=proxy.trust, retries=20)
    with httpx.Client(transport=transport, timeout=30) as client:
        return client.request(
            method, f"{scheme}://127.0.0.1:{port}{path}", extensions={"sni_hostname": NAME}, **options
        )


def test_a_fund_is_created_and_replayed_through_nginx(proxy: Proxy, user: User, key: str) -> None:
    headers = {"Authorization": f"Bearer {token_of(user)}", "Idempotency-Key": key}
    first, again = (
        answer(proxy, "https", "/api/funds", "POST", json=FUND, headers=headers) for _ in range(2)
    )
    assert [first.status_code, again.status_code] == [201, 200]
    assert again.headers["Idempotency-Status"] == "replayed"
    assert first.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    large = answer(proxy, "https", "/api/funds", "POST", content=b" " * 300_000, headers=headers)
    assert assert_problem(large, 413, "body_too_large") == CATALOGUE["body_too_large"].body()
    flags = answer(proxy, "https", "/ofrep/v1/evaluate/flags", "POST", content=b" " * 300_000)
    assert (flags.status_code, flags.json()["errorCode"]) == (413, "GENERAL")
    assert (
        answer(proxy, "https", "/api/funds", "POST", content=b" " * 2**21, headers=headers).status_code == 413
    )


def test_nobody_chooses_an_address_or_the_scheme(proxy: Proxy) -> None:
    name = f"nobody-{uuid.uuid4().hex[:8]}"
    lies = {"X-Forwarded-For": "192.0.2.66", "X_Forwarded_For": "192.0.2.67", "X-Forwarded-Proto": "http"}
    with httpx.Client() as jar:
        page = answer(proxy, "https", "/signin", headers=lies)
        assert page.status_code == 200  # http would have been redirected
        token = re.search(r"csrftoken=(\w+)", page.headers["Set-Cookie"])[1]  # type: ignore[index]
        form = {"username": name, "password": "wrong-password", "csrfmiddlewaretoken": token}
        jar.cookies.set("csrftoken", token)
        headers = {**lies, "Cookie": f"csrftoken={token}", "Referer": f"https://{NAME}/signin"}
        headers["Origin"] = f"https://{NAME}"
        answer(proxy, "https", "/signin", "POST", data=form, headers=headers)
    assert list(AccessAttempt.objects.filter(username=name).values_list("ip_address", flat=True)) == [
        "127.0.0.1"
    ]


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/livez"])
def test_metrics_and_probes_stay_inside(proxy: Proxy, path: str) -> None:
    assert answer(proxy, "https", path).status_code == 404


def test_plain_http_is_redirected_where_nothing_secret_was_sent(proxy: Proxy) -> None:
    page = answer(proxy, "http", "/fund-setup")
    assert (page.status_code, page.headers["Location"]) == (301, f"https://{NAME}/fund-setup")
    refused = assert_problem(answer(proxy, "http", "/api/funds", "POST", json=FUND), 403, "https_required")
    assert refused == CATALOGUE["https_required"].body()
    flags = answer(proxy, "http", "/ofrep/v1/evaluate/flags", "POST", json={})
    assert (flags.status_code, flags.json()["errorCode"]) == (403, "GENERAL")


# --- systemd --------------------------------------------------------------------------------------------------------


def entries(unit: Path) -> list[tuple[str, str]]:
    lines = [line for line in unit.read_text().splitlines() if line and line[0] not in "#["]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def test_the_units_start_what_compose_starts() -> None:
    assert [unit.stem.removeprefix("fundapi-") for unit in UNITS] == [
        "beat",
        "checks",
        "migrate",
        "web",
        "worker",
    ]
    for unit in UNITS:
        starts = [shlex.split(value) for name, value in entries(unit) if name == "ExecStart"]
        expected = [*SERVICES[unit.stem.removeprefix("fundapi-")]["command"]]
        first = [starts[0][0].removeprefix("/srv/fundapi/.venv/bin/"), *starts[0][1:]]
        first = [word.replace("%%", "%").replace("${STATE_DIRECTORY}", "/tmp") for word in first]
        assert first == expected, unit.name
        for start in starts:
            assert (PROJECT / start[0].removeprefix("/srv/fundapi/")).exists()


def test_the_units_are_hardened_and_set_variables_that_somebody_reads() -> None:
    documented = re.findall(r"^#([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    for unit in UNITS:
        has = dict(entries(unit))
        for name, value in {
            "User": "fundapi", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "strict",
        }.items():  # fmt: skip
            assert has[name] == value, unit.name
        assert (has.get("Restart"), "Type" in has) in [("always", True), ("always", False), (None, True)]
        variables = [value.partition("=")[0] for name, value in entries(unit) if name == "Environment"]
        assert variables
        assert {variable.removesuffix("_FILE") for variable in variables} <= set(documented)


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    for unit in UNITS:
        text = unit.read_text().replace("/srv/fundapi", str(PROJECT))
        (tmp_path / unit.name).write_text(text)
    paths = [str(tmp_path / unit.name) for unit in UNITS]
    run = subprocess.run([analyze, "verify", *paths], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


# --- Compose's database roles ---------------------------------------------------------------------------------------


def test_the_overlay_serves_with_roles_that_own_nothing() -> None:
    overlay = yaml.safe_load((DEPLOY / "compose.roles.yml").read_text())
    services = overlay["services"]
    assert set(services) - set(SERVICES) == {"roles"}
    for name in ("web", "worker", "checks", "beat"):
        role = "fundapi_web" if name == "web" else "fundapi_worker"
        assert services[name]["environment"]["DATABASE_URL"].startswith(f"postgres://{role}:${{")
    assert services["migrate"]["command"][-1].startswith(" ".join(SERVICES["migrate"]["command"]))
    assert services["roles"]["image"] == SERVICES["postgres"]["image"]
    assert (PROJECT / overlay["configs"]["roles"]["file"]).exists()
    text = (DEPLOY / "compose.roles.yml").read_text()
    for variable in re.findall(r"\$\{(\w+)", text):
        assert f"\n{variable}=" in (PROJECT / "docs" / "how-to" / "deployment.md").read_text()
        assert f"${{{variable}:?" in text


def test_the_roles_are_made_once_and_can_sign_in(database: None) -> None:
    """Compose's own command, on a server without roles of these names."""
    overlay = yaml.safe_load((DEPLOY / "compose.roles.yml").read_text())
    superuser = superuser_url()
    program, *options = overlay["services"]["roles"]["command"]
    options = [option.replace("/roles.sql", str(DEPLOY / "roles.sql")) for option in options]
    passwords = {"WEB_DATABASE_PASSWORD": "it's", "WORKER_DATABASE_PASSWORD": "b"}
    with psycopg.connect(superuser, autocommit=True) as server:
        try:
            for _ in range(2):
                command = [str(postgres_directory() / program), *options, superuser]
                done = subprocess.run(
                    command, env=os.environ | passwords, capture_output=True, text=True, check=False
                )
                assert (done.returncode, done.stderr) == (0, "")
            granted = manage("grant_database_roles", "fundapi_web", "fundapi_worker")
            assert granted.returncode == 0, granted.stderr
            found = server.execute(
                "SELECT rolname, rolcanlogin, rolsuper, rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid"
                " WHERE rolname LIKE 'fundapi\\_%' ORDER BY 1"
            ).fetchall()
            assert found == [("fundapi_web", True, False, True), ("fundapi_worker", True, False, True)]
        finally:
            for role in ("fundapi_web", "fundapi_worker"):
                server.execute(f"DROP OWNED BY {role}")
                server.execute(f"DROP ROLE {role}")
