"""Each environment variable: a value is read as it says, or refused in one sentence that names it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fundapi import addresses
from fundapi.settings import A_KEY
from fundapi.settings import env as read
from fundapi.variables import Variables, shown
from tests.servers import PROJECT, manage

EXAMPLE = (PROJECT / ".env.example").read_text()
DOCUMENTED = re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE)
ANOTHER_S = {  # read in the tree, and set by nobody who runs it
    *("DJANGO_SETTINGS_MODULE", "USER", "PGPASSWORD", "NOTIFY_SOCKET", "PATH"),
}
VALUES = {
    "nonsense": "1s500 |;*",
    "word": "enabled",
    "number": "7",
    "huge": "9" * 400,
    "large": "1e308",
    "negative": "-1",
    "nan": "nan",
    "infinite": "inf",
    "fraction": "0.5",
    "reference": "$SECRET_KEY",
    "control": "a\x01\nb",
    "no text": "\udcff",
    "digits": "١٢",
}
SECRET = "s3cr3t"
# Reads the settings anew for each [name, value] of the JSON on stdin: one process, as none of them is ever started.
READ = """
import importlib, json, os, sys, warnings
warnings.simplefilter("error")
import fundapi.settings
from django.core.exceptions import ImproperlyConfigured
from fundapi.embedded.home import Home
unset = dict(os.environ)
said = []
for values in json.load(sys.stdin):
    os.environ.update(values)
    try:
        importlib.reload(fundapi.settings)
        Home.from_environment()
        said.append("")
    except ImproperlyConfigured as error:
        said.append(str(error))
    except Exception as error:
        said.append(f"Traceback: {values} {error!r}")
    os.environ.clear()
    os.environ.update(unset)
json.dump(said, sys.stdout)
"""


def environment() -> dict[str, str]:
    """The test run's environment without our variables, but with a secret key."""
    return {name: value for name, value in os.environ.items() if name not in {*DOCUMENTED} - {"SECRET_KEY"}}


def readings(cases: list[dict[str, str]]) -> list[str]:
    """Return for each environment the sentence that refuses it, or ""."""
    said: list[str] = json.loads(
        subprocess.run(
            [sys.executable, "-c", READ],
            input=json.dumps(cases),
            cwd=PROJECT,
            env={name: os.environ[name] for name in ("PATH", "SECRET_KEY")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    return said


def test_every_variable_of_the_tree_is_documented_and_every_documented_one_is_read() -> None:
    files = [
        PROJECT / "manage.py",
        *(PROJECT / "fundapi").rglob("*.py"),
        *(PROJECT / "rollout").rglob("*.py"),
    ]
    code = "".join(path.read_text() for path in files)
    asked = set(re.findall(r'os\.environ(?:\.get\(|\.setdefault\(|\.pop\(|\[)\s*"([A-Z_]+)"', code))
    asked |= set(re.findall(r'(?:given|path)\("([A-Z_]+)"', code))
    asked |= set(re.findall(r"\$\{([A-Z_]+)", (PROJECT / "docker-compose.yml").read_text()))
    asked |= {f"DJANGO_SUPERUSER_{field}" for field in ("USERNAME", "EMAIL", "PASSWORD")}
    assert set(DOCUMENTED) == read.names | asked - ANOTHER_S
    assert len(DOCUMENTED) == len(set(DOCUMENTED))


def test_every_value_of_every_variable_is_read_or_refused_in_one_sentence() -> None:
    cases = [(name, value) for name in DOCUMENTED for value in VALUES.values()]
    said = readings([{name: value} for name, value in cases])
    refused = 0
    for (name, _), sentence in zip(cases, said, strict=True):
        assert "Traceback" not in sentence
        if sentence:
            refused += 1
            assert re.fullmatch(r"[^\n]*\.", sentence), sentence
            assert name in sentence
            assert sentence.isprintable()
    assert refused > len(cases) / 2


def test_an_empty_or_blank_variable_is_an_unset_one() -> None:
    blank = [{name: value} for name in DOCUMENTED for value in ("", "  ", "\t\n") if name != "SECRET_KEY"]
    assert set(readings(blank)) == {""}
    assert readings([dict.fromkeys(set(DOCUMENTED) - {"SECRET_KEY"}, "")]) == [""]


def test_the_example_without_its_hashes_starts(database: None) -> None:
    values = dict(re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    places = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "FUNDAPI_HOME")
    run = manage("check", **{name: value for name, value in values.items() if name not in places})
    assert (run.returncode, run.stderr) == (0, "")


WRONG = [
    ("ALLOWED_HOSTS", "https://funds.example.com"),
    ("ALLOWED_HOSTS", "funds.example.com:8000"),
    ("CORS_ALLOWED_ORIGINS", "https://app.example.com/path"),
    ("CORS_ALLOWED_ORIGINS", "https://*.example.com"),
    ("CORS_ALLOWED_ORIGINS", "app.example.com"),
    ("CORS_ALLOWED_ORIGINS", "https://app.example.com:99999"),
    ("CORS_ALLOWED_ORIGINS", "https://app.example.com:0443"),
    ("CORS_ALLOWED_ORIGINS", "*"),
    ("CORS_ALLOWED_ORIGINS", "https://app..example.com"),
    ("CORS_ALLOWED_ORIGINS", "http://127.1:3000"),
    ("CORS_ALLOWED_ORIGINS", "http://[::ffff:127.0.0.1]"),
    ("ALLOWED_HOSTS", "funds..example.com"),
    ("CSRF_TRUSTED_ORIGINS", "app.example.com"),
    ("CSRF_TRUSTED_ORIGINS", "https://app.example.com/"),
    ("DATABASE_POOL_SIZE", "1"),
    ("DATABASE_STATEMENT_TIMEOUT", "99999999"),
    ("DATABASE_URL", "mysql://db/fundapi"),
    ("DATABASE_URL", "sqlite:///fundapi.db"),
    ("DATABASE_URL", "postgres://db/"),
    ("DATABASE_URL", "postgres://db:99999/fundapi"),
    ("DATABASE_URL", "postgres://db/fundapi?sslmode=maybe"),
    ("DATABASE_URL", "postgres://db/fundapi?connect_timeout=soon"),
    ("DATABASE_URL", "postgres://db/fundapi?isolation_level=4"),
    ("DATABASE_URL", "postgres://db/" + "f" * 64),
    ("DATABASE_URL", "postgres://a,,b/fundapi"),
    ("DATABASE_URL", "postgres://a:5432,b:none/fundapi"),
    ("DATABASE_URL", "postgres://a:5432,b:0/fundapi"),
    ("DATABASE_URL", "postgres://a:5432,[::1/fundapi"),
    ("DATABASE_URL", "postgres://a,b/fundapi?target_session_attrs=leader"),
    ("DATABASE_URL", "postgres://a,b/fundapi?load_balance_hosts=yes"),
    ("DATABASE_URL", "postgres:///fundapi?host=a,b,c&port=5432,5433"),
    ("DATABASE_URL", "postgres:///fundapi?host=a&port=none"),
    ("DATABASE_URL", "postgres:///fundapi?host=a&host=b"),
    ("DATABASE_URL", "postgres://a, b/fundapi"),
    ("DATABASE_URL", "postgres://a;b/fundapi"),
    ("DATABASE_URL", "postgres://a,b/fundapi?hostaddr=192.0.2.1"),
    ("DATABASE_URL", "postgres://a,b/fundapi?target_session_attrs=standby"),
    ("DEBUG", "yes please"),
    ("DEFAULT_FROM_EMAIL", "nobody"),
    ("EMAIL_URL", "smtp://"),
    ("ENVIRONMENT", "a" * 101),
    ("FUNDAPI_HOME", "~nobody-here/x"),
    ("FUND_CREATE_RATE", "600/month"),
    ("FUND_CREATE_RATE", "0/minute"),
    ("FUND_CREATE_RATE", "10/ms"),
    ("GITHUB_API_URL", "api.github.com"),
    ("GITHUB_REPOSITORY", "name"),
    ("GIT_REMOTE", "--upload-pack=x"),
    ("IDEMPOTENCY_WAITERS_MAX", "4"),
    ("IDEMPOTENCY_WAIT_MAX", "5"),
    ("LOG_FORMAT", "jsn"),
    ("PORT", "99999"),
    ("PROMETHEUS_MULTIPROC_DIR", "/nonexistent"),
    ("REDIS_URL", "redis+socket:///tmp/valkey.sock"),
    ("REDIS_URL", "redis://cache/first"),
    ("REDIS_URL", "redis://cache/0?timeout=5"),
    ("REDIS_URL", "redis://a:6379,b:6379/0"),
    ("REDIS_URL", "sentinel://a:26379,b:26379/0"),
    ("REDIS_URL", "sentinel://a,b:none/0?service=mymaster"),
    ("REDIS_URL", "sentinel://a,b:99999/0?service=mymaster"),
    ("REDIS_URL", "sentinel://a,,b/0?service=mymaster"),
    ("REDIS_URL", "sentinel://a,[::1/0?service=mymaster"),
    ("REDIS_URL", "sentinel:///0?service=mymaster"),
    ("REDIS_URL", "sentinel://a, b/0?service=mymaster"),
    ("REDIS_URL", "sentinel://a,b/0?service=mymaster&sentinel_username"),
    ("REDIS_URL", "sentinel://a,b/0?service=mymaster#two"),
    ("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", "("),
    ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "x-a, (?i)x-b"),
    ("REDIS_URL", "sentinel://a,b/first?service=mymaster"),
    ("REDIS_URL", "sentinel://a,b/0?service=mymaster&timeout=5"),
    ("REDIS_URL", "sentinel://a:26379;sentinel://b:26379/0"),
    ("REDIS_URL", "sentinels://a/0?service=mymaster"),
    ("ROLLOUT_ADMIN_URL", "funds.example.com"),
    ("ROLLOUT_ALERT_EMAILS", "ops@example.com,ops"),
    ("ROLLOUT_STEPS", "50,10"),
    ("ROLLOUT_TICKET_TTL", "59"),
    ("STATIC_ROOT", "/etc/passwd"),
    ("USE_FUND_STORE_ROLLOUT", "10.5"),
    ("USE_FUND_STORE_ROLLOUT", "200"),
    ("WEB_CONCURRENCY", "0"),
    ("WEB_HOST", "everywhere"),
    ("WEB_QUEUE_SECONDS", "1s500"),
    ("SECRET_KEY_FILE", "/nonexistent"),
]


@pytest.fixture(scope="module")
def sentences() -> dict[tuple[str, str], str]:
    return dict(zip(WRONG, readings([{name: value} for name, value in WRONG]), strict=True))


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_with_its_name_and_itself(
    sentences: dict[tuple[str, str], str], name: str, value: str
) -> None:
    assert sentences[name, value].replace("'", "").startswith(f"{name} is {value[:60]}")


SECRETS = {
    "DATABASE_URL": f"mysql://fundapi:{SECRET}@db/fundapi",
    "EMAIL_URL": f"smpt://fundapi:{SECRET}@mail",
    "GIT_REMOTE": f"https://x:{SECRET}@example.com /x",
    "GITHUB_TOKEN": f"{SECRET}\x01",
    "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization: Bearer {SECRET}",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"api-key={SECRET};",
    "REDIS_URL": f"redis://:{SECRET}@cache/x",
    "ROLLOUT_ADMIN_URL": f"ftp://x:{SECRET}@example.com",
    "ROLLOUT_WEBHOOK_SECRET": SECRET,
    "ROLLOUT_WEBHOOK_URL": f"hooks.example.com/{SECRET}",
    "SECRET_KEY": f"{SECRET}\x01",
    "SECRET_KEY_FALLBACKS": f"{SECRET}\x01",
}


def test_no_sentence_shows_a_secret() -> None:
    """Nor a URL with characters in its password that end it early."""
    odd = [f"postgres://fundapi:a{mark}{SECRET}@db:x/fundapi" for mark in "/#?@ "]
    said = readings(
        [
            *({name: value} for name, value in SECRETS.items()),
            *({"DATABASE_URL": url} for url in odd),
            {"DATABASE_URL": f"postgres://db/fundapi?password={SECRET}&sslmode=maybe"},
            {"REDIS_URL": f"redis://cache/0?password={SECRET}&x=y"},
            {"REDIS_URL": f"sentinel://u:{SECRET}@a,b/0?sentinel_password={SECRET}"},
            {"REDIS_URL": f"sentinel://u:{SECRET}@a,u:{SECRET}@b/0?service=mymaster"},
            {"REDIS_URL": f"sentinel://a/0?service=mymaster&sentinel_password=x&{SECRET}"},
            {"HTTPS": "on", "SECRET_KEY": SECRET},
        ]
    )
    assert [sentence for sentence in said if not sentence or SECRET in sentence] == []
    for name, sentence in zip(SECRETS, said, strict=False):
        assert sentence.startswith(name)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"DATABASE_STATEMENT_TIMEOUT": "2"},
            "IDEMPOTENCY_WAIT_MAX is '2', and should be less than DATABASE_STATEMENT_TIMEOUT, which is 2.",
        ),
        (
            {"ROLLOUT_SCORE_GREEN_MAX": "15"},
            "ROLLOUT_SCORE_GREEN_MAX is 15, and should be less than ROLLOUT_ERROR_THRESHOLD, which is 15.",
        ),
        (
            {"ROLLOUT_WEBHOOK_URL": "https://hooks.example.com/T0K3N"},
            f"ROLLOUT_WEBHOOK_SECRET is not set, and with ROLLOUT_WEBHOOK_URL should be {A_KEY}.",
        ),
        (
            {"HTTPS": "on", "SECRET_KEY": "short"},
            "SECRET_KEY, a secret that is not shown, should be 50 or more random characters, and has 5.",
        ),
        ({"SECRET_KEY": " "}, "SECRET_KEY is not set, and should be 50 or more random characters."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_variables_that_contradict_each_other_are_refused(values: dict[str, str], says: str) -> None:
    assert readings([values]) == [says]


def test_a_right_value_is_read_as_it_says() -> None:
    env = Variables(
        {
            "SWITCH": "Yes",
            "OTHER_SWITCH": "OFF",
            "KEY": "$SWITCH",
            "LEVEL": "info",
            "ADDRESSES": "http://[0:0:0:0:0:0:0:1]:3000, http://[2001:DB8:0::01], http://127.0.0.1",
            "ORIGINS": "https://App.Example.com:443, http://localhost:5173,",
            "PATTERNS": "https://*.example.com",
            "HOSTS": "Funds.example.com,.example.org,[::1]",
            "RATE": "10/min",
            "PERCENTS": "5, 25,100",
            "BLANK": " ",
        }
    )
    assert env.switch("SWITCH", default=False) is True
    assert env.switch("OTHER_SWITCH", default=True) is False
    assert env.secret("KEY") == "$SWITCH"
    assert env.choice("LEVEL", "ERROR", ("INFO", "ERROR")) == "INFO"
    assert env.origins("ORIGINS") == ["https://app.example.com", "http://localhost:5173"]
    assert env.origins("ADDRESSES") == ["http://[::1]:3000", "http://[2001:db8::1]", "http://127.0.0.1"]
    assert env.origins("PATTERNS", patterns=True) == ["https://*.example.com"]
    assert env.hosts("HOSTS") == ["funds.example.com", ".example.org", "[::1]"]
    assert env.rate("RATE", "600/minute") == "10/min"
    assert env.wholes("PERCENTS", (10, 100)) == (5, 25, 100)
    assert env.whole("BLANK", 7) == 7


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a key\n")
    env = Variables({"SECRET_KEY_FILE": str(tmp_path / "key"), "SECRET_KEY": "another"})
    assert env.secret("SECRET_KEY", None) == "a key"


def test_options_of_the_database_are_kept() -> None:
    url = "postgres://db/fundapi?sslmode=require&options=-c%20search_path%3Dfunds"
    found: dict[str, Any] = addresses.database(Variables({"URL": url}), "URL", "")
    assert found["OPTIONS"] == {"sslmode": "require", "options": "-c search_path=funds"}


def test_the_directory_of_a_socket_is_the_host() -> None:
    """So that `manage.py dbshell` finds it."""
    url = "postgres://fundapi@/fundapi?host=/run/postgresql"
    found: dict[str, Any] = addresses.database(Variables({"URL": url}), "URL", "")
    assert (found["HOST"], found["OPTIONS"]) == ("/run/postgresql", {})


@pytest.mark.parametrize(
    ("url", "hosts", "ports", "options"),
    [
        ("u:p,@h1:5432,h2:5433/db", "h1,h2", "5432,5433", {"target_session_attrs": "read-write"}),
        ("h1:5433,h2/db", "h1,h2", "5433,5432", {"target_session_attrs": "read-write"}),
        (
            "[::1],[2001:db8::1]:5433/db?load_balance_hosts=random&target_session_attrs=any",
            *("::1,2001:db8::1", "5432,5433"),
            {"load_balance_hosts": "random", "target_session_attrs": "any"},
        ),
        ("/db?host=/run/a,/run/b&port=5433", "/run/a,/run/b", "5433", {"target_session_attrs": "read-write"}),
        ("[::1]:5433/db", "::1", "5433", {}),
        ("%2Frun%2Fpostgresql/db", "/run/postgresql", "", {}),
        ("u:p#q@%2FRun%2Fa:5433,b/db", "/Run/a,b", "5433,5432", {"target_session_attrs": "read-write"}),
        ("a:5433,b/db?host=c,d", "c,d", "5433,5432", {"target_session_attrs": "read-write"}),
    ],
)
def test_several_hosts_have_a_port_each_and_writes_go_to_the_one_that_takes_them(
    url: str, hosts: str, ports: str, options: dict[str, str]
) -> None:
    found: dict[str, Any] = addresses.database(Variables({"URL": f"postgres://{url}"}), "URL", "")
    assert (found["HOST"], found["PORT"], found["OPTIONS"]) == (hosts, ports, options)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ROLLOUT_EROR_THRESHOLD", "did you mean ROLLOUT_ERROR_THRESHOLD?"),
        ("ROLLOUT_CONFIRM", "ROLLOUT_CONFIRM is set, but no setting has this name."),
        ("ALLOWED_HOST", "did you mean ALLOWED_HOSTS?"),
        ("GITHUB_REPOSITORY_ID", ""),
        ("SECRET_KEY_FILE", ""),
    ],
)
def test_a_misspelt_name_is_told_with_the_nearest(name: str, says: str) -> None:
    env = Variables({name: ""})
    env.names = read.names
    assert says in "".join(env.misspelt())
    assert bool(says) == bool(env.misspelt())


def test_a_long_value_is_shown_in_part() -> None:
    assert shown("x" * 5000) == "x" * 100 + "…"


def alone(*arguments: str, **values: str) -> str:
    """Run a program with wrong settings; return what it has written, on stderr."""
    run = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=environment() | {"DATABASE_URL": "postgres:///x", "REDIS_URL": "redis://127.0.0.1:9/0"} | values,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (run.returncode, run.stdout) == (2, "")
    return run.stderr


PROGRAMS = [
    ("manage.py", "check"),
    ("manage.py", "rollout", "status", "USE_FUND_STORE"),
    ("-m", "fundapi.web.serve"),
    ("-m", "celery", "-A", "fundapi", "worker"),
    ("-m", "celery", "-A", "fundapi", "beat"),
    ("-m", "fundapi.embedded.prepare"),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_every_program_prints_the_sentence_alone(program: tuple[str, ...]) -> None:
    said = "HTTPS is 'enabled', and should be on or off.\n"
    assert alone(*program, HTTPS="enabled", DJANGO_SETTINGS_MODULE="") == said


def test_settings_that_do_not_exist_are_named() -> None:
    says = "DJANGO_SETTINGS_MODULE is 'fundapi.setings', and should be a module, such as fundapi.settings.\n"
    assert alone("manage.py", "check", DJANGO_SETTINGS_MODULE="fundapi.setings") == says


def test_the_django_user_of_make_run_is_checked() -> None:
    for field, value in (("USERNAME", "x" * 300), ("EMAIL", "two words")):
        name = f"DJANGO_SUPERUSER_{field}"
        said = alone("-m", "fundapi.embedded.prepare", **{name: value})
        assert said.startswith(f"{name} is '{value[:60]}")
        assert len(said.splitlines()) == 1
