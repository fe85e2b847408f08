"""Every combination of switches, by one committed table, in Python. Node runs it too (tests/js/evaluation.test.js)."""

import json
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from rollout.evaluation import Config, Evaluation, Reason, as_stop, as_switch, evaluate, is_live

TABLE = json.loads(Path(__file__).with_name("precedence.json").read_text())
ROWS: list[dict[str, Any]] = [dict(zip(TABLE["columns"], row, strict=True)) for row in TABLE["rows"]]
OVERRIDES = {None: None, "0": False, "1": True}
ASSIGNED = {None: None, "never": False, "always": True}


def config(**fields: Any) -> Config:
    return Config(
        **{
            "feature": TABLE["feature"],
            "enabled": True,
            "percentage": Decimal(TABLE["percentage"]),
            "emergency_stop": False,
            "hash_version": TABLE["hashVersion"],
            **fields,
        }
    )


def test_the_table_has_every_combination_once() -> None:
    switches, flags = (False, True), (None, "0", "1")
    every = set(product(switches, switches, switches, flags, flags, switches, switches, ASSIGNED))
    assert len(TABLE["rows"]) == len(every)
    assert {tuple(row[:-2]) for row in TABLE["rows"]} == every


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_strongest_switch_decides(row: dict[str, Any]) -> None:
    decided = evaluate(
        config(emergency_stop=row["serverStop"], enabled=row["enabled"]),
        TABLE["inside"] if row["inPercentage"] else TABLE["outside"],
        emergency=row["urlEmergency"] or row["storedEmergency"],
        url_override=OVERRIDES[row["urlOverride"]],
        stored_override=OVERRIDES[row["storedOverride"]],
        assigned=ASSIGNED[row["assigned"]],
    )
    assert decided == Evaluation(on=row["on"], reason=Reason(row["reason"]))


@pytest.mark.parametrize(("value", "stop", "override"), TABLE["spellings"], ids=map(repr, TABLE["spellings"]))
def test_a_stop_obeys_every_spelling_of_yes(value: Any, *, stop: bool, override: str | None) -> None:
    assert (as_stop(value), as_switch(value)) == (stop, OVERRIDES[override])


def test_only_an_enabled_unstopped_rollout_above_0_is_live() -> None:
    assert is_live(config())
    assert is_live(config(percentage=Decimal("0.01")))
    assert not is_live(config(percentage=Decimal(0)))
    assert not is_live(config(enabled=False))
    assert not is_live(config(emergency_stop=True))


def test_without_a_configuration_nothing_turns_a_feature_on_and_the_switches_still_say_why() -> None:
    uuid = TABLE["inside"]
    assert evaluate(None, uuid, url_override=True, assigned=True) == Evaluation(
        on=False, reason=Reason.UNKNOWN
    )
    assert evaluate(None, uuid, url_override=False) == Evaluation(on=False, reason=Reason.OPT_OUT)
    assert evaluate(None, uuid, emergency=True) == Evaluation(on=False, reason=Reason.EMERGENCY_STOP)


def test_who_has_no_key_gets_it_when_everybody_does() -> None:
    assert evaluate(config(percentage=Decimal(100)), None) == Evaluation(on=True, reason=Reason.PERCENTAGE)
    assert evaluate(config(percentage=Decimal("99.99")), None) == Evaluation(on=False, reason=Reason.UNKNOWN)
    assert evaluate(config(percentage=Decimal(100), hash_version=3), None).on is False
    assert evaluate(config(percentage=Decimal(0)), None, assigned=True).reason == Reason.ALWAYS
