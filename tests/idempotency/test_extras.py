"""The app works without what its extras bring."""

import builtins
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command

from idempotency import metrics, unmeasured
from idempotency.management.commands import purge_idempotency_keys

EXTRAS = ("celery", "prometheus_client", "rest_framework", "rich")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse to import what only an extra brings, and load the modules anew that ask for it."""
    real = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **options)

    kept = {module: dict(vars(module)) for module in (metrics, purge_idempotency_keys)}
    monkeypatch.setattr(builtins, "__import__", refuse)
    for module in kept:
        importlib.reload(module)
    yield
    monkeypatch.undo()
    for module, names in kept.items():
        vars(module).clear()
        vars(module).update(names)


@pytest.mark.usefixtures("bare")
def test_metrics_measure_nothing_without_prometheus_client() -> None:
    assert isinstance(metrics.requests, unmeasured.Unmeasured)
    metrics.declare("order-create")
    metrics.observe("order-create", "key_reused")
    with metrics.purge_duration.time(), metrics.purge_failures.count_exceptions():
        metrics.purge_succeeded.labels("idempotency_store").set(1.0)


@pytest.mark.usefixtures("bare", "database")
def test_the_purge_has_no_bar_without_rich(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("purge_idempotency_keys")
    assert capsys.readouterr().out.endswith(" expired keys deleted.\n")
