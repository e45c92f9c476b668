"""The steps of gpu_check in their small form, without a GPU."""

import time

import pytest

from imagewizard.benchmarks import gpu_steps
from imagewizard.benchmarks.gpu_steps import Bench


@pytest.fixture(scope="module")
def bench() -> Bench:
    found = Bench()
    if found.gpu:
        pytest.skip("the small form is for machines without a GPU")
    gpu_steps._device(found)
    return found


def test_rate_is_in_calls_per_second(bench: Bench) -> None:
    calls: list[int] = []
    started = time.perf_counter()
    rate = bench.rate(lambda: calls.append(1), 0.8)  # an eighth of this without a GPU
    elapsed = time.perf_counter() - started
    assert (len(calls) - 2) / elapsed <= rate <= (len(calls) - 2) / 0.1


def test_precision_of_a_bulk_job_loses_almost_nothing(bench: Bench) -> None:
    assert abs(gpu_steps._bfloat16(bench)["greatest difference, dB"]) < 0.1


def test_training_steps_are_measured(bench: Bench) -> None:
    training = gpu_steps._Training(bench, gpu_steps._embedded_config(compile=False), 2, "embedded")
    found = training.measure()
    assert found["crops"] == "2 of 96x96" and found["crops a second"] == 2 * found["steps a second"] > 0
    assert training.steps_a_second == found["steps a second"] and found["share of the matrix product"] > 0


def test_share_of_drawing_samples_is_measured(bench: Bench) -> None:
    found = gpu_steps._loop(bench)
    assert found["with its samples, ms"] > found["stand-in step, ms"] >= 1.0 and 0 < found["overhead"] < 1
