"""``manage.py check_consistency`` on what the API accepts and stores."""

import json

import pytest

from fundapi.maintenance.consistency import check
from tests.conftest import FUND, Api

NUMBERS = ["1e1000", "-1E+1000", "1e-1000", "9" * 1000, "0." + "1" * 998, "1e999", "12.50", "0", "-0", "1E2"]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: text[:8])
def test_a_number_of_any_length_that_was_accepted_is_consistent(api: Api, number: str) -> None:
    before = check()
    body = json.dumps(FUND)[:-1] + f', "engineResults": {{"a": [{number}]}}}}'
    assert api.create(body=body).status_code == 201
    after = check()
    assert (after.answers, after.problems) == (before.answers + 1, before.problems)
