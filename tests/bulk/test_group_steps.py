"""A device's noise, pixels and scores are those of a CPU: the same bits of noise, and scores equal to 1e-6."""

from typing import Any

import numpy as np
import pytest
import torch

from imagewizard.bulk.cpu_steps import CpuSteps
from imagewizard.bulk.gpu_steps import GpuSteps
from imagewizard.bulk.group_steps import GroupSteps
from imagewizard.bulk.groups import Group
from imagewizard.bulk.samples import NoisySample
from imagewizard.bulk.stage_times import StageTimes
from imagewizard.images.picture import Picture
from imagewizard.metrics import METRICS, Reference
from imagewizard.noise.synthetic import Camera, Gaussian, Noise, PoissonGaussian
from tests.support.sample_files import photo

NOISES = [Gaussian(25.0), Gaussian(15.0, 40.0), PoissonGaussian(0.5, 4.0), Camera(), None]
COLOUR = [photo(40, 48, seed) for seed in range(3)]
IMAGES = {
    "colour": COLOUR,
    "grey": [image[:, :, :1] for image in COLOUR],
    "grey in three planes": [image[:, :, :1].repeat(3, axis=2) for image in COLOUR],
    "small": [image[:5, :30] for image in COLOUR],
}


def group(images: list[np.ndarray], noise: Noise | None) -> Group:
    about = [{"image_id": str(number)} for number in range(len(images))]
    return Group([NoisySample(each, Picture(image), noise, None, 1) for each, image in zip(about, images, strict=True)])


def through(steps: GroupSteps, work: Group) -> dict[str, Any]:
    """A group after its steps, with a stand-in for the model: a half of the contrast."""
    steps.prepare(work, StageTimes())
    noisy = steps.noisy(work)
    steps.begin(work)
    work.estimates = [each.expand(3, -1, -1) * 0.5 for each in work.inputs]
    steps.end(work)
    steps.set_pixels(work)
    scores = steps.scores(work) if work.samples[0].noise else []
    return {"noisy": noisy, "images": steps.images(work), "scores": scores}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: (noise and noise.describe()) or "restored")
def test_each_image_is_what_its_noise_and_its_scores_say(kind: str, noise: Noise | None) -> None:
    found = through(CpuSteps(7), group(IMAGES[kind], noise))
    for index, clean in enumerate(IMAGES[kind]):
        noisy = clean.astype(np.float32) if noise is None else noise.add(clean, str(index), 7)
        np.testing.assert_array_equal(found["noisy"][index], noisy[:, :, : found["noisy"][index].shape[2]])
        offset = noise.offset if noise else 0.0
        expected = ((noisy - offset - 127.5) * 0.5 + 127.5).clip(0, 255)
        image = found["images"][index]
        assert image.shape == clean.shape and image.dtype == np.uint8
        assert np.abs(image - expected).max() < 0.51
        for scores, scored in zip(found["scores"][index], (noisy, image), strict=True) if noise else ():
            assert scores == pytest.approx(Reference(clean).scores(scored), abs=1e-9)


def check_device(steps: GroupSteps, kind: str, noise: Noise | None) -> None:
    work, same = group(IMAGES[kind], noise), group(IMAGES[kind], noise)
    found, expected = through(steps, work), through(CpuSteps(7), same)
    np.testing.assert_array_equal(found["noisy"], expected["noisy"])
    np.testing.assert_array_equal(found["images"], expected["images"])
    for pair in zip(found["scores"], expected["scores"], strict=True):
        for here, there in zip(*pair, strict=True):
            assert here.keys() == set(METRICS) and here == pytest.approx(there, abs=1e-6)


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: (noise and noise.describe()) or "restored")
def test_what_a_gpu_computes_is_what_a_cpu_does(kind: str, noise: Noise | None) -> None:
    """The operations that a GPU gets, on the CPU."""
    check_device(GpuSteps(torch.device("cpu"), 7), kind, noise)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: (noise and noise.describe()) or "restored")
def test_a_gpu_does(kind: str, noise: Noise | None) -> None:
    check_device(GpuSteps(torch.device("cuda"), 7), kind, noise)


@pytest.fixture(params=["cpu", "gpu"])
def steps(request: pytest.FixtureRequest) -> GroupSteps:
    return CpuSteps(0) if request.param == "cpu" else GpuSteps(torch.device("cpu"), 0)


def test_sixteen_bits_keep_their_range(steps: GroupSteps) -> None:
    images = [image.astype(np.uint16) * 257 for image in COLOUR]
    work = group(images, None)
    steps.prepare(work, StageTimes())
    np.testing.assert_allclose(steps.noisy(work), np.stack(COLOUR), rtol=1e-6)
    work.estimates = list(work.inputs)
    steps.set_pixels(work)
    np.testing.assert_allclose(np.stack(steps.images(work)), np.stack(images), atol=1)


def test_an_estimate_that_is_not_finite_is_told(steps: GroupSteps) -> None:
    work = group(COLOUR, NOISES[0])
    steps.prepare(work, StageTimes())
    work.estimates = list(work.inputs)
    work.estimates[1] = work.estimates[1] * float("nan")
    with pytest.raises(FloatingPointError, match="not finite"):
        steps.set_pixels(work)
