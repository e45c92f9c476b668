"""The steps of gpu_check about a bulk job in their small form, without a GPU."""

import pytest

from imagewizard.benchmarks import gpu_bulk
from imagewizard.benchmarks.bench import Bench


@pytest.fixture(scope="module")
def bench() -> Bench:
    found = Bench()
    if found.gpu:
        pytest.skip("the small form is for machines without a GPU")
    return found


def test_noise_and_scores_of_a_device_are_right(bench: Bench) -> None:
    found = gpu_bulk.check_steps(bench)
    assert found["noise: numpy's bits"] and found["scores: greatest difference"] < 1e-9


def test_a_device_with_other_noise_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_bulk.GpuSteps, "noisy", lambda self, group: [each.numpy() + 1e-5 for each in group.noisy])
    with pytest.raises(ArithmeticError, match="noise is not numpy's"):
        gpu_bulk.check_steps(bench)


def test_a_device_with_other_scores_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = gpu_bulk.GpuSteps.scores

    def off(self: gpu_bulk.GpuSteps, group: gpu_bulk.Group) -> list:
        return [(noisy | {"psnr": noisy["psnr"] + 2e-6}, denoised) for noisy, denoised in scores(self, group)]

    monkeypatch.setattr(gpu_bulk.GpuSteps, "scores", off)
    with pytest.raises(ArithmeticError, match="scores are not scikit-image's: 2"):
        gpu_bulk.check_steps(bench)


def test_the_whole_pipeline_is_timed(bench: Bench) -> None:
    found = gpu_bulk.pipeline(bench, "embedded")
    assert found["images"] >= 8 and found["images a second"] > 0
    for stage in ("read", "decode", "noise", "denoise", "score"):
        assert found[f"CPU ms an image, {stage}"] > 0


@pytest.mark.long
def test_so_is_that_of_the_published_architecture(bench: Bench) -> None:
    assert gpu_bulk.pipeline(bench, "celebahq-256")["images"] >= 8
