"""The steps of gpu_check in their small form, without a GPU."""

from pathlib import Path

import pytest
import torch

from imagewizard.benchmarks import bench as bench_module
from imagewizard.benchmarks import celebahq, gpu_steps
from imagewizard.benchmarks.bench import Bench


@pytest.fixture(scope="module")
def bench() -> Bench:
    found = Bench()
    if found.gpu:
        pytest.skip("the small form is for machines without a GPU")
    gpu_steps._device(found)
    return found


def test_precision_of_a_bulk_job_loses_almost_nothing(bench: Bench) -> None:
    found = gpu_steps._bfloat16(bench)
    assert abs(found["greatest difference, dB"]) < 0.1
    assert found["under 0.01 dB"] == (abs(found["greatest difference, dB"]) < 0.01)


@pytest.mark.long
def test_the_published_architecture_is_measured(bench: Bench) -> None:
    training = gpu_steps._Training(bench, celebahq.recipe_config(), 1, "celebahq-256")
    assert training.measure()["crops"] == "1 of 64x64" and training.steps_a_second > 0


@pytest.mark.parametrize(
    ("given", "gpu", "told"),
    [
        (False, True, "give --bsds500 and --vgg19"),
        (True, False, "without a GPU it takes hours"),
        (True, True, "how long it takes is not known: train celebahq-256 was not run"),
    ],
)
def test_why_the_recipe_does_not_run(
    given: bool, gpu: bool, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing of the steps but their order and their times is asked for here.
    monkeypatch.setattr(bench_module, "default_device", lambda: torch.device("cuda" if gpu else "cpu"))
    monkeypatch.setattr(bench_module, "default_dtype", lambda device: torch.bfloat16)
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
    listed = {step.name: step for step in gpu_steps.steps(tmp_path if given else None, "a.pth" if given else None)}
    assert listed["recipe"].seconds() == told
    assert (listed["embedded compiled"].seconds() == "without a GPU it takes minutes") == (not gpu)


def test_a_device_with_other_random_numbers_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_steps.device_noise, "_ROUNDS", 9)
    with pytest.raises(ArithmeticError, match="are not numpy's"):
        gpu_steps._generator(bench)


def test_training_steps_are_measured(bench: Bench) -> None:
    training = gpu_steps._Training(bench, gpu_steps._embedded_config(compile=False), 2, "embedded")
    found = training.measure()
    assert found["crops"] == "2 of 64x64" and found["crops a second"] == 2 * found["steps a second"] > 0
    assert training.steps_a_second == found["steps a second"] and found["share of the matrix product"] > 0


def test_share_of_drawing_samples_is_measured(bench: Bench) -> None:
    found = gpu_steps._loop(bench)
    assert found["with its samples, ms"] > found["stand-in step, ms"] >= 1.0 and found["overhead"] > 0
