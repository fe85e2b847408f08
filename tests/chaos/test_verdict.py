"""Lost, doubled and differing funds are counted as such."""

import pytest

from chaos.verdict import Acknowledgement, Journal, Replay, Verdict, judge, longest_pause

TOLD = Acknowledgement("run-1", '{"id":1}')
GOOD = Replay(created=False, body='{"id":1}')
NOTHING = {"lost": 0, "doubled": 0, "differing": 0, "unexpected": 0, "pending": 0}


def journal(**seen: object) -> Journal:
    return Journal(**{"keys": ["run-1"], "acknowledgements": [TOLD], **seen})  # type: ignore[arg-type]  # fields by name, of any type


@pytest.mark.parametrize(
    ("seen", "funds", "replays", "wrong"),
    [
        pytest.param({}, ["run-1"], {"run-1": GOOD}, {}, id="all is well"),
        pytest.param({}, [], {"run-1": GOOD}, {"lost": 1}, id="the fund is gone"),
        pytest.param(
            {}, ["run-1"], {"run-1": Replay(True, '{"id":2}')}, {"lost": 1}, id="the key is forgotten"
        ),
        pytest.param({}, ["run-1"], {}, {"lost": 1}, id="the key has no answer"),
        pytest.param({}, ["run-1", "run-1"], {"run-1": GOOD}, {"doubled": 1}, id="the fund is there twice"),
        pytest.param(
            {"keys": ["run-1", "run-2"]},
            ["run-1", "run-2", "run-2"],
            {"run-1": GOOD},
            {"doubled": 1},
            id="one that nobody acknowledged is there twice",
        ),
        pytest.param(
            {},
            ["run-1"],
            {"run-1": Replay(False, '{"id":9}')},
            {"differing": 1},
            id="another answer after the storm",
        ),
        pytest.param(
            {"differing": ["run-1"]},
            ["run-1"],
            {"run-1": GOOD},
            {"differing": 1},
            id="another answer within the storm",
        ),
        pytest.param(
            {"unexpected": {"500": 2}},
            ["run-1"],
            {"run-1": GOOD},
            {"unexpected": 2},
            id="answers nobody may get",
        ),
        pytest.param({"pending": 3}, ["run-1"], {"run-1": GOOD}, {"pending": 3}, id="no answer at all"),
    ],
)
def test_a_storm_is_judged_by_what_is_there_when_it_is_over(
    seen: dict[str, object], funds: list[str], replays: dict[str, Replay], wrong: dict[str, int]
) -> None:
    verdict = judge(journal(**seen), funds, replays)
    assert verdict == Verdict(**NOTHING | wrong)
    assert bool(verdict) == (not wrong)


def test_a_fund_that_was_never_acknowledged_may_be_there_or_not() -> None:
    asked = journal(keys=["run-1", "run-2"])
    assert judge(asked, ["run-1"], {"run-1": GOOD})
    assert judge(asked, ["run-1", "run-2"], {"run-1": GOOD})


def test_the_longest_pause_is_between_two_acknowledgements_of_any_clients() -> None:
    told = [Acknowledgement(f"run-{at}", "", at) for at in (7.0, 1.0, 2.5, 9.0)]
    assert longest_pause(journal(acknowledgements=told)) == 4.5
    assert longest_pause(journal(acknowledgements=[])) == 0.0
