"""Whoever can write to Valkey can tell browsers what they like, and run nothing here."""

import pickle
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from kombu.exceptions import ContentDisallowed
from kombu.serialization import loads, prepare_accept_content

from fundapi.celery import app
from tests.eventually import eventually


class Planted:
    """Pickled, it makes a file of whoever unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_what_somebody_has_put_into_the_cache_is_never_run(database: None, tmp_path: Path) -> None:
    key, mark = uuid.uuid4().hex, tmp_path / "was-run"
    planted = pickle.dumps(Planted(mark))
    cache._cache.get_client().set(cache.make_key(key), planted, ex=60)  # type: ignore[attr-defined]
    # A cache whose circuit is open is empty for a second.
    assert eventually(lambda: cache.get(key)) == planted
    assert not mark.exists()
    pickle.loads(planted)
    assert mark.exists()  # or this test would say nothing


def test_a_worker_takes_no_task_that_is_pickled(tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    with pytest.raises(ContentDisallowed):
        loads(
            pickle.dumps(Planted(mark)),
            "application/x-python-serialize",
            "binary",
            accept=prepare_accept_content(app.conf.accept_content),
        )
    assert not mark.exists()
