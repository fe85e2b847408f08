"""Environment variables: one method for each kind of value, and one sentence for each wrong value.

    env = Variables()
    PORT = env.whole("PORT", 8000, least=1, most=65535)

An empty or blank variable counts as unset. A wrong value raises ImproperlyConfigured: one sentence with the name, the
value and what it should be, which ``exit_in_one_sentence`` prints alone. It never shows a password or another secret.

django-environ reads the environment and, in `fundapi.addresses`, parses URLs. Its casts are not used: to them,
"1s500" is 1500, every word that they do not know is "no", and "$name" is the value of another variable.
"""

import difflib
import ipaddress
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ImproperlyConfigured
from environ.fileaware_mapping import FileAwareMapping

WRONG = 2  # exit status: to the release commands, 1 would say "rolled back or unhealthy"
LONG = 10**9  # maximum of a number without a narrower one: an integer of PostgreSQL and of every library
YEARS = timedelta(days=3650)  # maximum of a duration: the date that far away exists
SHOWN = 100  # characters of a value in a sentence
YES = {"true", "on", "yes", "y", "t", "1", "ok"}
NO = {"false", "off", "no", "n", "f", "0"}
RATE = re.compile(r"[1-9][0-9]{0,8}/(s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)")
READ_ELSEWHERE = {  # by make run, Docker Compose and Django
    *("FUNDAPI_HOME", "DJANGO_SUPERUSER_USERNAME", "DJANGO_SUPERUSER_PASSWORD", "DJANGO_SUPERUSER_EMAIL"),
    *(
        "POSTGRES_PASSWORD",
        "WEB_DATABASE_PASSWORD",
        "WORKER_DATABASE_PASSWORD",
        "WEB_PORTS",
        "DJANGO_SETTINGS_MODULE",
    ),
}
OURS = ("IDEMPOTENCY_", "ROLLOUT_")  # prefixes that nobody else uses
FOREIGN = ("GITHUB_",)  # GitHub Actions sets two dozen
ALIKE, TYPOS_MAX, NAME_MIN = 0.9, 2, 6  # of two names: the ratio of difflib, and lengths
ADDRESS = r"[^@\s<>,]+@[^@\s<>,]+"
HOST = r"(?:[a-z0-9_](?:(?:[a-z0-9_-]|\.(?!\.))*[a-z0-9_])?|\[[0-9a-f:.]+\])"
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_CREDENTIALS = re.compile(r":.*@", re.DOTALL)
# To the end: a "&" in a password that is not escaped looks like the next parameter.
_PARAMETER = re.compile(r"(\w*(?:pass|token|secret)\w*=).*", re.IGNORECASE | re.DOTALL)


class Variables:
    """The reader of an environment, the process's own by default. ``names`` are those that it was asked for."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        # Reads NAME from the file NAME_FILE, where that is set: secrets of containers are files.
        self._environment = FileAwareMapping(os.environ if environment is None else environment, cache=False)
        self.names: set[str] = set()

    def given(self, name: str) -> str:
        """Return the text of a variable, or of the file that NAME_FILE names; "" when it is unset, empty or blank."""
        self.names.add(name)
        try:
            return str(self._environment.get(name, "")).strip()
        except (OSError, ValueError):  # no file, or no UTF-8
            raise wrong(
                f"{name}_FILE", self._environment[f"{name}_FILE"], f"a readable file with the value of {name}"
            ) from None

    def text(
        self, name: str, default: str = "", *, pattern: str = ".*", should: str = "text in one line"
    ) -> str:
        """Return a text of printable characters that matches ``pattern``."""
        text = self.given(name)
        if not (text.isprintable() and re.fullmatch(pattern, text or default)):
            raise wrong(name, text, should, example=default)
        return text or default

    def secret(
        self, name: str, default: str | None = "", *, pattern: str = ".*", should: str = "text in one line"
    ) -> str:
        """Return a text that is never shown. Without a default, the variable is required."""
        text = self.given(name)
        if not text and default is None:
            raise ImproperlyConfigured(f"{name} is not set, and should be {should}.")
        if not (text.isprintable() and re.fullmatch(pattern, text)):
            raise wrong_secret(name, should)
        return text or default or ""

    def secrets(self, name: str) -> list[str]:
        """Return secrets that stand with commas between."""
        return _parts(self.secret(name, should="secrets with commas between"))

    def switch(self, name: str, default: bool) -> bool:  # noqa: FBT001 - the value of the variable, not a flag
        text = self.given(name).lower()
        if text in YES | NO:
            return text in YES
        if text:
            raise wrong(name, self.given(name), "on or off")
        return default

    def whole(self, name: str, default: int, *, least: int = 0, most: int = LONG) -> int:
        """Return a whole number between two bounds, which are allowed too."""
        text = self.given(name)
        if not text:
            return default
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise wrong(name, text, f"a whole number{_between(text, least, most, LONG)}", example=default)
        return int(text)

    def wholes(self, name: str, default: tuple[int, ...], *, most: int = LONG) -> tuple[int, ...]:
        """Return whole numbers with commas between."""

        def read(text: str) -> int:
            if not re.fullmatch("[0-9]{1,18}", text) or int(text) > most:
                raise ValueError(text)
            return int(text)

        should = f"whole numbers{_between(self.given(name), 0, most, LONG)}"
        return tuple(self.words(name, read, should, default, ",".join(map(str, default))))

    def decimal(self, name: str, default: float, *, least: float = 0, most: float = LONG) -> float:
        """Return a number between two bounds, which are allowed too."""
        text = self.given(name)
        if not text:
            return default
        value = _number(text)
        if not least <= value <= most:
            raise wrong(name, text, f"a number{_between(text, least, most, LONG)}", example=f"{default:g}")
        return value

    def seconds(
        self,
        name: str,
        default: timedelta,
        *,
        least: timedelta = timedelta(0),
        most: timedelta = YEARS,
        unit: timedelta = timedelta(seconds=1),
    ) -> timedelta:
        """Return a duration, which is written as a number of seconds, or of another unit."""
        text = self.given(name)
        if not text:
            return default
        value = _number(text)
        if not least / unit <= value <= most / unit:
            what = {timedelta(seconds=1): "seconds", timedelta(days=1): "days"}[unit]
            bounds = _between(text, least / unit, most / unit, YEARS / unit)
            raise wrong(name, text, f"{what}{bounds}", example=f"{default / unit:g}")
        return value * unit

    def days(self, name: str, default: int) -> timedelta:
        """Return a duration of a day at least, which is written as a number of days."""
        day = timedelta(days=1)
        return self.seconds(name, default * day, least=day, unit=day)

    def choice(self, name: str, default: str, choices: Iterable[str]) -> str:
        """Return one of a few words, as it is written in ``choices``; in capitals or not."""
        text = self.given(name)
        known = {word.lower(): word for word in choices}
        if text.lower() not in {*known, ""}:
            raise wrong(name, text, f"one of {', '.join(known.values())}", example=default)
        return known[text.lower()] if text else default

    def rate(self, name: str, default: str) -> str:
        """Return a rate of requests in the notation of Django REST Framework."""
        return self.text(name, default, pattern=RATE.pattern, should="a number for each s, min, hour or day")

    def words(
        self,
        name: str,
        read: Callable[[str], Any],
        should: str,
        default: Iterable[Any] = (),
        example: str = "",
    ) -> list[Any]:
        """Return values with commas between, each read by ``read``, which raises ValueError."""
        text = self.given(name)
        try:
            return [read(part) for part in _parts(text)] or list(default)
        except ValueError:
            raise wrong(name, text, f"{should}, with commas between", example=example) from None

    def hosts(self, name: str) -> list[str]:
        """Return host names without scheme and port; ``.example.com`` stands for a domain with its subdomains."""
        return self.words(name, _host, "host names without scheme and port", example="funds.example.com")

    def origins(self, name: str, *, patterns: bool = False) -> list[str]:
        """Return origins as browsers write them: a scheme, a host, and a port unless it is the scheme's own.

        With ``patterns``, ``https://*.example.com`` stands for every subdomain.
        """
        return self.words(
            name,
            lambda text: _origin(text, patterns=patterns),
            "origins: a scheme and a host, no path" + ("" if patterns else " and no pattern"),
            example="https://app.example.com",
        )

    def url(self, name: str, default: str = "", *, secret: bool = False, example: str = "") -> str:
        """Return the URL of a web server, whose whole text may be a secret."""
        text = self.given(name) or default
        if text and not is_web_url(text):
            should = f"a URL with https:// (or http://) and a host, such as {example or default}"
            raise wrong_secret(name, should) if secret else wrong(name, text, should)
        return text

    def path(self, name: str, *, writable: bool = False) -> Path | None:
        """Return the path of a directory. A ``writable`` one must exist."""
        should = "a directory that exists and can be written" if writable else "the path of a directory"
        text = self.text(name, should=should)
        try:
            path = Path(text).expanduser()
            fits = path.is_dir() and os.access(path, os.W_OK | os.X_OK) if writable else not path.is_file()
        except (OSError, RuntimeError):  # a name that is too long, or ~ of an unknown user
            fits = False
        if text and not fits:
            raise wrong(name, text, should)
        return path if text else None

    def misspelt(self) -> list[str]:
        """Return a sentence for each variable that nobody reads, and whose name looks like one of ours."""
        known = self.names | READ_ELSEWHERE
        found = []
        for name in sorted(set(self._environment.env) - known - {f"{each}_FILE" for each in known}):
            near = [
                each for each in known if each[:1] == name[:1] and abs(len(each) - len(name)) <= TYPOS_MAX
            ]
            meant = difflib.get_close_matches(name, near, 1, ALIKE) if len(name) >= NAME_MIN else []
            if (meant and not name.startswith(FOREIGN)) or name.startswith(OURS):
                hint = f", did you mean {meant[0]}?" if meant else "."
                found.append(f"{name} is set, but no setting has this name{hint}")
        return found


def name_settings() -> None:
    """Name this project's settings to Django, unless the environment names others."""
    os.environ["DJANGO_SETTINGS_MODULE"] = os.environ.get("DJANGO_SETTINGS_MODULE") or "fundapi.settings"


@contextmanager
def exit_in_one_sentence() -> Iterator[None]:
    """End the process with the sentence of a wrong setting alone, without a traceback."""
    try:
        yield
    except Exception as error:
        sentence = wrong_setting(error)
        if sentence is None:
            raise
        sys.stderr.write(f"{sentence}\n")
        sys.exit(WRONG)


def exit_with(child: "subprocess.CompletedProcess[str]") -> None:
    """End like a child process that had wrong settings, with its sentence."""
    if child.returncode == WRONG:
        sys.stderr.write(child.stderr)
        sys.exit(WRONG)


def wrong_setting(error: Exception) -> str | None:
    """Return the sentence of a wrong setting; None when the error is another one."""
    if isinstance(error, ImproperlyConfigured):
        return str(error)
    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
    if missing or (isinstance(error, TypeError) and module.startswith(".")):
        return str(wrong("DJANGO_SETTINGS_MODULE", module, "a module", example="fundapi.settings"))
    return None


def wrong(name: str, text: str, should: str, *, example: object = "") -> ImproperlyConfigured:
    """Return the error of a wrong value: one sentence."""
    such_as = f", such as {example}" if f"{example}" else ""
    return ImproperlyConfigured(f"{name} is '{shown(text)}', and should be {should}{such_as}.")


def wrong_secret(name: str, should: str) -> ImproperlyConfigured:
    """Return the error of a wrong value that must not be shown."""
    return ImproperlyConfigured(f"{name}, a secret that is not shown, should be {should}.")


def not_installed(name: str, error: ImportError) -> ImproperlyConfigured:
    """Return the error of a setting whose packages are missing."""
    return ImproperlyConfigured(
        f"{name} is set, and {error.name} is missing: install requirements/image.txt."
    )


def refused(prefix: str, error: Exception) -> ImproperlyConfigured:
    """Return the error of a library that refuses a variable which it reads itself."""
    return ImproperlyConfigured(f"A variable {prefix}... is wrong: {shown(str(error)).rstrip('.')}.")


def shown(text: str) -> str:
    """Return a value for a message: without passwords, in one line of printable characters, and not too long."""
    text = _PARAMETER.sub(r"\1***", _CREDENTIALS.sub(":***@", text))
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def header_name(text: str) -> str:
    """Return the name of an HTTP header in small letters; raise ValueError for another text."""
    if not re.fullmatch("[A-Za-z0-9-]+", text):
        raise ValueError(text)
    return text.lower()


def regular_expression(text: str) -> str:
    """Return a text that can be one of several regular expressions in one; raise ValueError otherwise."""
    try:
        re.compile(f"|{text}")  # so "(?i)x" is none: flags stand first
    except re.error as error:
        raise ValueError(text) from error
    return text


def mail_address(text: str) -> str:
    """Return a text that is an e-mail address; raise ValueError otherwise."""
    if not re.fullmatch(ADDRESS, text):
        raise ValueError(text)
    return text


def is_web_url(text: str) -> bool:
    url = split(text)
    return url is not None and url.scheme in {"http", "https"} and bool(url.hostname)


def split(text: str) -> SplitResult | None:
    """Return the parts of a URL, or None when it has a wrong port or host, or characters that no URL has."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:  # a port that is no number or too large, or a missing bracket
        return None
    return url if port != 0 and text.isprintable() and " " not in text else None


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _between(text: str, least: float, most: float, ceiling: float) -> str:
    """Return the bounds of a number as words; a common ceiling only where the number is above it."""
    if most < ceiling or _number(text) > most:
        return f" from {least:.15g} to {most:.15g}"
    return f", {least:.15g} or more"


def _number(text: str) -> float:
    """Return a finite number, or NaN, which is in no range."""
    if not re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", text, re.IGNORECASE):
        return math.nan
    return float(text)


def _host(text: str) -> str:
    host = text.lower()
    if not re.fullmatch(rf"\*|\.?{HOST}", host):
        raise ValueError(text)
    return host


def _browser_host(host: str) -> str:
    """Return a host as browsers write it; raise ValueError for an address that they would write in another way."""
    if host.startswith("["):
        address = ipaddress.IPv6Address(host[1:-1])
        if address.ipv4_mapped:  # Python's versions write it differently
            raise ValueError(host)
        return f"[{address}]"
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2]):
        ipaddress.IPv4Address(host)  # as 127.0.0.1 alone: browsers write 127.1 and 0x7f000001 so
    return host


def _origin(text: str, *, patterns: bool) -> str:
    wildcard = r"(?:\*\.)?" if patterns else ""
    found = re.fullmatch(rf"([a-z][a-z0-9+.-]*)://({wildcard}{HOST})(:[1-9][0-9]{{0,4}})?", text.lower())
    if not found or split(text) is None:
        raise ValueError(text)
    scheme, host, port = found.groups(default="")
    if scheme in DEFAULT_PORTS:
        host = _browser_host(host)
    return f"{scheme}://{host}{'' if port == DEFAULT_PORTS.get(scheme) else port}"
