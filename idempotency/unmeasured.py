"""Stand-ins for metrics where prometheus-client is not installed: they take every call, and measure nothing."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self


class Unmeasured:
    def __init__(self, *_description: Any, **_options: Any) -> None: ...

    def labels(self, *_values: str) -> Self:
        return self

    def inc(self, _amount: float = 1) -> None: ...

    def set(self, _value: float) -> None: ...

    def observe(self, _value: float) -> None: ...

    def time(self) -> AbstractContextManager[None]:
        return nullcontext()

    def count_exceptions(self) -> AbstractContextManager[None]:
        return nullcontext()


Counter = Gauge = Histogram = GaugeMetricFamily = Metric = Unmeasured
