"""The forward steps of gpu_check in their small form, without a GPU."""

import os
from pathlib import Path

import pytest

from imagewizard.benchmarks import celebahq, gpu_forward
from imagewizard.benchmarks.bench import Bench
from imagewizard.diffusion import compile_cache
from tests.support.models import tiny_unet


@pytest.fixture
def bench() -> Bench:
    found = Bench()
    if found.gpu:
        pytest.skip("the small form is for machines without a GPU")
    found.matrix_rate = 1e10
    return found


def test_the_bare_rate_and_that_of_one_shape_are_measured(bench: Bench) -> None:
    found = gpu_forward.measure(bench, gpu_forward.embedded(), 2)
    assert found["images"] == "2 of 64x64" and found["batch size that is measured"] == 1
    for form in ("eager", "graph"):
        assert found[f"{form}, images a second"] > 0
        assert found[f"{form}, share of product"] * 1e10 == pytest.approx(found[f"{form}, TFLOP/s"] * 1e12)


@pytest.mark.long
def test_the_published_architecture_is_measured(bench: Bench) -> None:
    assert gpu_forward.measure(bench, celebahq.unet(), 1)["eager, TFLOP/s"] > 0


@pytest.mark.long
def test_compiling_is_measured_and_the_second_time_it_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path))
    monkeypatch.delenv(gpu_forward.TRITON_VARIABLE, raising=False)
    found = gpu_forward.measure_compiled(bench, tiny_unet(), 2)
    assert 0 < found["seconds with a warm cache"] < found["seconds to compile"]  # else the cache was not used
    assert found["compiled, images a second"] > 0
    assert os.environ[compile_cache.VARIABLE] == str(tmp_path) and not list(tmp_path.iterdir())
    assert gpu_forward.TRITON_VARIABLE not in os.environ
