"""Addresses of PostgreSQL, Valkey and the mail server: URLs in variables, checked without connecting.

What connects later also checks here, so this module has no lists of options: libpq for PostgreSQL, redis-py for Valkey.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

import environ
import psycopg
import redis
from psycopg.pq import Conninfo, PGconn

from fundapi.variables import HOST, Variables, split, wrong

POSTGRES = "postgres", "postgresql", "pgsql", "psql"
PORT = 5432
NAME_MAX = 63  # bytes of the name of a database
WHOLE = {"connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
READERS = "read-only", "standby", "prefer-standby"  # of target_session_attrs: no fund could be created
SENTINELS = {"sentinel": "redis", "sentinel+tls": "rediss"}  # schemes, and those of the servers behind
SENTINEL_PORT = 26379
MAIL = "smtp", "smtps", "smtp+tls", "smtp+ssl"
NO_MAIL = "consolemail", "dummymail", "memorymail"


def database(env: Variables, name: str, default: str) -> dict[str, Any]:
    """Return Django's settings of the PostgreSQL database that a URL names."""
    text = env.given(name) or default
    should = "the URL of a PostgreSQL database"
    example = "postgres://user:password@db.example.com:5432/fundapi"
    if text.partition("://")[0] not in POSTGRES or not text.isprintable():
        raise wrong(name, text, should, example=example)
    bare, hosts = _without_hosts(text)
    try:
        found: dict[str, Any] = environ.Env.db_url_config(bare)
        places = _places(hosts)
    except ValueError:  # a port that is no number, or a missing bracket: mostly characters of a password
        escaped = f"{should} (write @, /, ? and # in a password as %40, %2F, %3F and %23)"
        raise wrong(name, text, escaped, example=example) from None
    options = found.setdefault("OPTIONS", {})
    # `dbshell` hands these to psql. An option comes before the host of the URL, as libpq has it.
    found["HOST"], found["PORT"] = (
        str(options.pop(name, place)) for name, place in zip(("host", "port"), places, strict=True)
    )
    if not (found["NAME"] or "service" in options):
        raise wrong(name, text, f"{should} with a name", example=example)
    if len(found["NAME"].encode()) > NAME_MAX:
        raise wrong(name, text, f"{should} whose name has {NAME_MAX} bytes at most", example=example)
    problems = chain(_wrong_hosts(options, found["HOST"], found["PORT"]), _wrong_options(options, bare))
    if problem := next(problems, ""):
        raise wrong(name, text, f"{should} with options of libpq ({problem})", example=example)
    # Of several hosts, the one that takes writes.
    if "," in found["HOST"]:
        options.setdefault("target_session_attrs", "read-write")
    return found


def _without_hosts(url: str) -> tuple[str, str]:
    """Return a URL with one host that means nothing, and the hosts that it had.

    Python reads no brackets of IPv6 among several hosts, and django-environ mixes up their ports.
    """
    scheme, _, rest = url.partition("://")
    place, *_ = re.split("[/?]", rest, maxsplit=1)
    user, at, hosts = place.rpartition("@")
    return (f"{scheme}://{user}{at}unknown{rest[len(place) :]}" if hosts else url), hosts


def _places(names: str) -> tuple[str, str]:
    """Return hosts and ports, with commas between; "" for what is not said. Raises ValueError.

    %2F, of the directory of a socket, is read here.
    """
    ports = [urlsplit(f"//{name}").port for name in names.split(",")]
    # urlsplit would write a directory in small letters.
    hosts = [unquote(re.sub(r":[0-9]*$", "", name).strip("[]")) for name in names.split(",")]
    if ports.count(None) == len(ports):
        return ",".join(hosts), ""
    return ",".join(hosts), ",".join(f"{PORT if port is None else port}" for port in ports)


def _wrong_hosts(options: dict[str, Any], hosts: str, ports: str) -> Iterator[str]:
    """Yield faults of hosts and ports."""
    if not all(port.isdecimal() and 0 < int(port) < 2**16 for port in ports.split(",") if port):
        yield "a port is a number from 1 to 65535"
    names = hosts.split(",")
    if len(names) > 1 and not all(names):
        yield "a host is missing"
    if strange := [name for name in names if name and not _is_host(name)]:
        yield f"'{strange[0]}' is no host"
    if len(ports.split(",")) not in {1, len(names)}:
        yield f"{len(ports.split(','))} ports for {len(names)} hosts"
    addresses = f"{options.get('hostaddr', hosts)}".split(",")
    if hosts and len(addresses) != len(names):
        yield f"{len(addresses)} hostaddr for {len(names)} hosts"


def _wrong_options(options: dict[str, Any], url: str) -> Iterator[str]:
    """Yield faults of connection options, in libpq's words where it has some."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    if unknown := sorted(set(options) - known):
        yield f"there is no {unknown[0]}"
    query = parse_qs(urlsplit(url.replace("#", "%23")).query)
    if twice := [name for name, values in query.items() if len(values) > 1]:
        yield f"{twice[0]} is there twice: write commas between hosts"
    if numbers := [key for key in WHOLE & set(options) if not isinstance(options[key], int)]:
        yield f"{numbers[0]} is no whole number"
    if options.get("target_session_attrs") in READERS:
        yield f"target_session_attrs={options['target_session_attrs']} asks for a server that takes no writes"
    # No socket is there, so this fails at once, after libpq has read all options.
    nowhere = psycopg.conninfo.make_conninfo(
        "", **options | {"host": "/nonexistent", "hostaddr": "", "port": ""}
    )
    message = PGconn.connect_start(nowhere.encode()).error_message.decode(errors="replace").strip()
    if "/nonexistent" not in message:
        yield message.splitlines()[0]


def _is_host(text: str) -> bool:
    """Return whether a text is a host's name or address, or the directory of a socket."""
    if text.startswith(("/", "@")):
        return True
    if ":" not in text:
        return bool(re.fullmatch(rf"{HOST}\.?", text.lower()))
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def valkey(env: Variables, name: str, default: str, options: dict[str, Any]) -> str:
    """Return the URL of a Redis or Valkey server, or of the sentinels that name it."""
    text = env.given(name) or default
    should = "a URL with redis://, rediss://, unix:// or sentinel:// and the number of a database"
    example = "redis://cache.example.com:6379/0"
    if text.partition("://")[0] in SENTINELS:
        should = "the addresses of sentinels, with commas between, the number of a database and the name of a service"
        example = "sentinel://a.example.com,b.example.com:26379/0?service=mymaster"
    if not _is_valkey(text, options):
        raise wrong(name, text, should, example=example)
    return text


def _is_valkey(text: str, options: dict[str, Any]) -> bool:
    try:
        guards = sentinels(text)
        address = guards.server if guards else text
        redis.ConnectionPool.from_url(address, **options).make_connection()  # connects later
        if guards:
            redis.Redis(**options | guards.options).connection_pool.make_connection()
    except (ValueError, TypeError, redis.RedisError):
        return False
    url = split(address)
    if url is None or url.fragment or not text.isprintable():
        return False
    numbers = parse_qs(url.query).get("db", [])
    if url.scheme != "unix":
        numbers.append(unquote(url.path.strip("/")) or "0")
    place = url.path.strip("/") if url.scheme == "unix" else url.hostname
    return bool(place) and all(number.isdecimal() and int(number) < 2**16 for number in numbers)


@dataclass
class Sentinels:
    """Sentinels of a URL, which name the primary of a service to whoever connects."""

    hosts: list[tuple[str, int]]
    service: str
    options: dict[str, Any]  # redis-py's, of connections to them; to the servers, those of the next
    server: str  # the URL of a server behind them, whose host means nothing


def sentinels(url: str) -> Sentinels | None:
    """Return the sentinels of a URL, or None when it names a server. Raises ValueError."""
    if url.partition("://")[0] not in SENTINELS:
        return None
    bare, places = _without_hosts(url)
    parts = urlsplit(bare)
    user, at, _ = parts.netloc.rpartition("@")
    hosts = [host for host in map(split, (f"//{place}" for place in places.split(","))) if host]
    # "+" is itself, as it is in a password before the hosts. A "&" or "@" that is not escaped would cut one off.
    options = parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=True)
    query = dict(options)
    service = query.pop("service", "")
    if (
        not service
        or "@" in user
        or len(hosts) <= places.count(",")
        or not all(each.hostname for each in hosts)
    ):
        raise ValueError(url)
    own = {name: query.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    server = parts._replace(
        scheme=SENTINELS[parts.scheme], netloc=f"{user}{at}unknown", query=urlencode(query)
    ).geturl()
    if tls := _tls(server):
        own |= {"ssl": True} | tls
    return Sentinels(
        [(f"{host.hostname}", host.port or SENTINEL_PORT) for host in hosts], service, own, server
    )


def _tls(url: str) -> dict[str, Any]:
    """Return options of TLS, which verify the certificate unless the URL says otherwise; {} without TLS."""
    options: dict[str, Any] = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]  # redis-py
    tls = {option: value for option, value in options.items() if option.startswith("ssl_")}
    return {"ssl_cert_reqs": "required"} | tls if url.startswith("rediss:") else {}


def broker(url: str) -> tuple[str, dict[str, Any] | None]:
    """Return the URL of a Redis or Valkey server as Celery writes it, and its options of TLS (``None``: no TLS).

    Celery ignores `?db=`, does not know `unix://`, and accepts any certificate unless told to verify it.
    """
    guards = sentinels(url)
    server = guards.server if guards else url
    options: dict[str, Any] = redis.connection.parse_url(server)  # type: ignore[no-untyped-call]  # redis-py
    name, password = (quote(options.get(part) or "", safe="") for part in ("username", "password"))
    user = f"{name}:{password}@" if name or password else ""
    number = options.get("db", 0)
    if "path" in options:
        return f"redis+socket://{user}{quote(options['path'])}?virtual_host={number}", None
    tls = _tls(server)
    places = guards.hosts if guards else [(options["host"], options.get("port", 6379))]
    scheme = "sentinel" if guards else "rediss" if tls else "redis"
    return ";".join(f"{scheme}://{user}{_place(*each)}/{number}" for each in places), tls or None


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def broker_sentinels(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return Celery's transport options for a URL of sentinels, to which connections have ``options``; else {}."""
    guards = sentinels(url)
    if guards is None:
        return {}
    return {"master_name": guards.service, "sentinel_kwargs": options | guards.options}


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
