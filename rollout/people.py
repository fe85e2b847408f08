"""People who always or never get a rollout: as the database keeps them, and as an operator writes them.

Kept is a text of words: ``user:12 group:3 staff``. Ids, so that a renamed user or group stays the same. An operator
writes and reads names: ``user:alice, group:Editors, staff``; ``user:#12`` names a user by id.
"""

import re
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Model

from rollout.blank import is_blank

USER, GROUP = "user:", "group:"
AUTHENTICATED, STAFF, SUPERUSERS = "authenticated", "staff", "superusers"
KINDS = (AUTHENTICATED, STAFF, SUPERUSERS)
SHOULD = f"Write user:NAME, group:NAME, {', '.join(KINDS[:-1])} or {KINDS[-1]}, with commas between."


KEPT = re.compile(rf"(?:user|group):\S+|{'|'.join(KINDS)}")


class NotPeople(ValueError):
    """A text that names somebody who is not there; the message says who."""


def validate(kept: str) -> None:
    """Refuse a text that the database does not keep (a model's validator)."""
    if wrong := [word for word in kept.split() if not KEPT.fullmatch(word)]:
        raise ValidationError(f"{wrong[0]!r} is none of user:ID, group:ID, {', '.join(KINDS)}.")


def read(text: str) -> str:
    """Return what an operator wrote as the database keeps it, each once and in order.

    Raises:
        NotPeople: a name that is unknown, or no name at all.
    """
    parts = (part.strip() for part in re.split(r"[,\n]", text))
    return " ".join(sorted({_read_one(part) for part in parts if not is_blank(part)}))


def _read_one(part: str) -> str:
    if part in KINDS:
        return part
    for prefix in (USER, GROUP):
        if part.startswith(prefix):
            return prefix + str(_find(prefix, part.removeprefix(prefix).strip()))
    raise NotPeople(f"{part!r} is not one of the people. {SHOULD}")


def _find(prefix: str, name: str) -> Any:
    model, field = _named(prefix)
    lookup = {"pk": name[1:]} if name.startswith("#") else {field: name}
    try:
        found = model._default_manager.filter(**lookup).values_list("pk", flat=True).first()
    except (ValueError, ValidationError):  # an id of another kind
        found = None
    if found is None or " " in str(found):
        raise NotPeople(f"There is no {prefix}{name}. {SHOULD}")
    return found


def _named(prefix: str) -> tuple[type[Model], str]:
    """Return the model of a prefix, and the field that names its rows."""
    if prefix == GROUP:
        return apps.get_model("auth", "Group"), "name"
    model = get_user_model()
    return model, model.USERNAME_FIELD


def written(kept: str) -> str:
    """Return what the database keeps as an operator writes it; by id where the name is gone or cannot be written."""
    words = kept.split()
    names = {prefix: _names(prefix, words) for prefix in (USER, GROUP)}
    return ", ".join(_write_one(word, names) for word in words)


def _names(prefix: str, words: list[str]) -> dict[str, str]:
    ids = [word.removeprefix(prefix) for word in words if word.startswith(prefix)]
    if not ids:
        return {}
    model, field = _named(prefix)
    return {str(pk): name for pk, name in model._default_manager.filter(pk__in=ids).values_list("pk", field)}


def _write_one(word: str, names: dict[str, dict[str, str]]) -> str:
    prefix, colon, key = word.partition(":")
    if not colon:
        return word
    name = names[prefix + colon].get(key, "")
    is_writable = bool(name) and name == name.strip() and not re.search(r"[,\n]|^#", name)
    return f"{prefix}:{name if is_writable else '#' + key}"


def words_of(user: Any, *, with_groups: bool) -> frozenset[str]:
    """Return the words that name a signed-in user; the groups cost a query."""
    words = {AUTHENTICATED, f"{USER}{user.pk}"}
    if getattr(user, "is_staff", False):
        words.add(STAFF)
    if getattr(user, "is_superuser", False):
        words.add(SUPERUSERS)
    if with_groups and hasattr(user, "groups"):
        words |= {f"{GROUP}{pk}" for pk in user.groups.values_list("pk", flat=True)}
    return frozenset(words)
