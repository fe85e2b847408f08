"""Faults of ``ROLLOUT_SEED`` and ``ROLLOUT_SEED_VARIABLES``, in sentences."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError

from rollout.conf import conf

SWITCHES = ("enabled", "auto_rollback", "track_migrations", "on_hold", "emergency_stop")
# Fields that the tables of the first migration have, each with the types of its values.
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("feature", "description", "timeline"), (str,)),
    **dict.fromkeys(SWITCHES, (bool,)),
    "percentage": (int, float, Decimal, str),
    "hash_version": (int,),
}
# Fields that ``manage.py rollout`` changes, as the warning about a variable says.
CHANGEABLE = ("percentage", "enabled", "timeline", "track_migrations", "auto_rollback", "description")
KEYS = ("variable", "feature", "field", "value")


def faults() -> Iterator[str]:
    """Yield a sentence for each fault."""
    for number, seed in enumerate(conf.seed):
        place = f"ROLLOUT_SEED[{number}]"
        yield from _faults_of_keys(place, seed, needed=("feature", "percentage"), known=TYPES)
        for name in filter(TYPES.__contains__, seed):
            yield from _faults_of_value(place, name, seed[name])
    times = Counter(str(seed.get("feature")) for seed in conf.seed)
    for feature in (feature for feature, count in times.items() if count > 1):
        yield f"ROLLOUT_SEED names {feature} more than once: leave one entry"
    for number, seed in enumerate(conf.seed_variables):
        yield from _faults_of_variable(f"ROLLOUT_SEED_VARIABLES[{number}]", seed)


def _faults_of_variable(place: str, seed: Mapping[str, Any]) -> Iterator[str]:
    wrong_keys = list(_faults_of_keys(place, seed, needed=KEYS, known=KEYS))
    yield from wrong_keys
    if wrong_keys:
        return
    if not isinstance(seed["variable"], str):
        yield f"{place}: variable is {seed['variable']!r}, and should be the name of a variable"
    yield from _faults_of_value(place, "feature", seed["feature"])
    if seed["field"] in CHANGEABLE:
        yield from _faults_of_value(place, seed["field"], seed["value"])
    else:
        yield f"{place}: field is {seed['field']!r}, and should be one of {', '.join(CHANGEABLE)}"


def _faults_of_keys(
    place: str, seed: Mapping[str, Any], *, needed: Collection[str], known: Collection[str]
) -> Iterator[str]:
    if missing := [name for name in needed if name not in seed]:
        yield f"{place} has no {' and no '.join(missing)}"
    if unknown := [name for name in seed if name not in known]:
        yield f"{place} has {', '.join(map(repr, unknown))}, and may have {', '.join(known)}"


def _faults_of_value(place: str, name: str, value: Any) -> Iterator[str]:
    try:
        cleaned(name, value)
    except ValidationError as error:
        yield f"{place}: {name} is {value!r}: {' '.join(error.messages).rstrip('.')}"


def cleaned(name: str, value: Any) -> Any:
    """Return the value of a field as the database has it.

    Raises:
        ValidationError: it is of a wrong type, or the field does not take it.
    """
    types = TYPES[name]
    if not isinstance(value, types) or isinstance(value, bool) != (types == (bool,)):
        raise ValidationError(f"it should be of type {types[0].__name__}")
    # Not imported: a check asks this before the app has models.
    field: Any = apps.get_model("rollout", "Rollout")._meta.get_field(name)
    return field.clean(str(value) if isinstance(value, float) else value, None)
