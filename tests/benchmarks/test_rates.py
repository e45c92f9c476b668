"""What follows from the measured rates."""

from dataclasses import replace

import pytest

from imagewizard.benchmarks.rates import Roofline
from tests.support.bench import DEVICE, MODEL


def test_a_roofline_is_operations_over_operations() -> None:
    assert Roofline(2e9, 1e12, "float32").images_per_second == 500.0


def test_the_pipeline_over_its_devices() -> None:
    assert MODEL.over_device is None
    assert DEVICE.over_device == pytest.approx(200.0 * 4.0 / 1000)
    assert replace(DEVICE, actors=2).over_device == pytest.approx(0.4)


def test_cores_beside_a_device() -> None:
    assert DEVICE.beside_ms == 9.0, "a sleep takes no CPU, so all is beside it"
    assert MODEL.beside_ms == 50.0 - 41.0, "without the model's stage"
    assert replace(MODEL, on_cpu=False).beside_ms == 50.0, "a GPU's stage is the CPU's part of it"
    assert DEVICE.cores(1000.0) == 9.0
    assert DEVICE.busy_cores == pytest.approx(9.0 * 200 / 1000)


def test_what_is_not_known_is_not_told() -> None:
    threaded = replace(MODEL, threads=2)  # their CPU time is not that of the stage
    unwatched = replace(DEVICE, run=replace(DEVICE.run, cpu_ms=None))
    assert threaded.beside_ms is threaded.cores(250.0) is None
    assert unwatched.beside_ms is unwatched.cores(250.0) is unwatched.busy_cores is None


def test_the_cost_of_a_million_images() -> None:
    assert DEVICE.cost_per_million(3.6) == pytest.approx(5.0), "5,000 s at a thousandth a second"
