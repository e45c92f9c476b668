"""Rates are measured in calls a second."""

import time

from imagewizard.benchmarks.bench import Bench


def test_rate_is_in_calls_per_second() -> None:
    bench = Bench()
    calls: list[int] = []
    started = time.perf_counter()
    rate = bench.rate(lambda: calls.append(1), 0.8)  # an eighth of this without a GPU
    elapsed = time.perf_counter() - started
    assert (len(calls) - 2) / elapsed <= rate <= (len(calls) - 2) / 0.1
