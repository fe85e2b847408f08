"""Addresses of PostgreSQL, Valkey and the mail server: URLs in variables, checked without connecting.

What connects later also checks here, so this module has no lists of options: libpq for PostgreSQL, redis-py for Valkey.
"""

from typing import Any
from urllib.parse import parse_qs, quote, unquote

import environ
import psycopg
import redis
from psycopg.pq import Conninfo, PGconn

from fundapi.variables import Variables, split, wrong

POSTGRES = "postgres", "postgresql", "pgsql", "psql"
NAME_MAX = 63  # bytes of the name of a database
WHOLE = {"connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
MAIL = "smtp", "smtps", "smtp+tls", "smtp+ssl"
NO_MAIL = "consolemail", "dummymail", "memorymail"


def database(env: Variables, name: str, default: str) -> dict[str, Any]:
    """Return Django's settings of the PostgreSQL database that a URL names."""
    text = env.given(name) or default
    should = "the URL of a PostgreSQL database"
    example = "postgres://user:password@db.example.com:5432/fundapi"
    if text.partition("://")[0] not in POSTGRES or not text.isprintable():
        raise wrong(name, text, should, example=example)
    try:
        found: dict[str, Any] = environ.Env.db_url_config(text)
    except ValueError:  # a port that is no number, or a missing bracket: mostly characters of a password
        escaped = f"{should} (write @, /, ? and # in a password as %40, %2F, %3F and %23)"
        raise wrong(name, text, escaped, example=example) from None
    options = found.get("OPTIONS", {})
    if not (found["NAME"] or "service" in options):
        raise wrong(name, text, f"{should} with a name", example=example)
    if len(found["NAME"].encode()) > NAME_MAX:
        raise wrong(name, text, f"{should} whose name has {NAME_MAX} bytes at most", example=example)
    if problem := _problem(options, str(found["PORT"])):
        raise wrong(name, text, f"{should} with options of libpq ({problem})", example=example)
    # `dbshell` hands psql the host alone, not the options. A socket's directory can only be an option of a URL.
    found["HOST"] = options.pop("host", found["HOST"])
    return found


def _problem(options: dict[str, Any], ports: str) -> str:
    """Return the fault of connection options in libpq's words, or ""."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    if unknown := sorted(set(options) - known):
        return f"there is no {unknown[0]}"
    if numbers := [key for key in WHOLE & set(options) if not isinstance(options[key], int)]:
        return f"{numbers[0]} is no whole number"
    if not all(port.isdecimal() and 0 < int(port) < 2**16 for port in ports.split(",") if port):
        return "the port is none"
    # No socket is there, so this fails at once, after libpq has read all options.
    nowhere = psycopg.conninfo.make_conninfo(
        "", **options | {"host": "/nonexistent", "hostaddr": "", "port": ""}
    )
    message = PGconn.connect_start(nowhere.encode()).error_message.decode(errors="replace").strip()
    return "" if "/nonexistent" in message else message.splitlines()[0]


def valkey(env: Variables, name: str, default: str, options: dict[str, Any]) -> str:
    """Return the URL of a Redis or Valkey server."""
    text = env.given(name) or default
    should = "a URL with redis://, rediss:// or unix:// and the number of a database"
    example = "redis://cache.example.com:6379/0"
    if not _is_valkey(text, options):
        raise wrong(name, text, should, example=example)
    return text


def _is_valkey(text: str, options: dict[str, Any]) -> bool:
    url = split(text)
    if url is None:
        return False
    numbers = parse_qs(url.query).get("db", [])
    if url.scheme != "unix":
        numbers.append(unquote(url.path.strip("/")) or "0")
    place = url.path.strip("/") if url.scheme == "unix" else url.hostname
    if not place or not all(number.isdecimal() and int(number) < 2**16 for number in numbers):
        return False
    try:
        redis.ConnectionPool.from_url(text, **options).make_connection()  # connects later
    except (ValueError, TypeError, redis.RedisError):
        return False
    return True


def broker(url: str) -> tuple[str, dict[str, Any] | None]:
    """Return the URL of a Redis or Valkey server as Celery writes it, and its options of TLS (``None``: no TLS).

    Celery ignores `?db=`, does not know `unix://`, and accepts any certificate unless told to verify it.
    """
    options: dict[str, Any] = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]  # redis-py
    name, password = (quote(options.get(part) or "", safe="") for part in ("username", "password"))
    user = f"{name}:{password}@" if name or password else ""
    number = options.get("db", 0)
    if "path" in options:
        return f"redis+socket://{user}{quote(options['path'])}?virtual_host={number}", None
    host = f"[{options['host']}]" if ":" in options["host"] else options["host"]
    found = f"://{user}{host}:{options.get('port', 6379)}/{number}"
    if not url.startswith("rediss:"):
        return f"redis{found}", None
    tls = {option: value for option, value in options.items() if option.startswith("ssl_")}
    return f"rediss{found}", {"ssl_cert_reqs": "required"} | tls


def mail(env: Variables, name: str, default: str) -> dict[str, Any]:
    """Return Django's settings of the mail server that a URL names; what it does not say keeps Django's default."""
    text = env.given(name) or default
    schemes = ", ".join(f"{scheme}://" for scheme in MAIL)
    should = f"a URL with one of {schemes} and a host, without options, or {default}"
    url = split(text)
    if (
        url is None
        or url.scheme not in MAIL + NO_MAIL
        or (url.scheme in MAIL and not url.hostname)
        or url.query
    ):
        raise wrong(name, text, should, example="smtp+tls://user:password@mail.example.com:587")
    found = environ.Env.email_url_config(text)
    return {key: value for key, value in found.items() if key.startswith("EMAIL_") and value is not None}
