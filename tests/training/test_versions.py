"""Noisy versions of training images: which there are, and that they depend on seed, image and number alone."""

import numpy as np
import pytest

from imagewizard.config.train import TrainImage
from imagewizard.noise.effective import effective_level
from imagewizard.training import versions
from tests.support.sample_files import photo

CLEAN = photo(48, 60, 1)


def test_photographs_depend_on_the_seed_the_image_and_the_number() -> None:
    names = [("a.png", 0, 0), ("a.png", 1, 0), ("b.png", 0, 0), ("a.png", 0, 1)]
    found = [versions.photographed(CLEAN, *name) for name in names]
    again = [versions.photographed(CLEAN, *name) for name in reversed(names)][::-1]
    assert all(np.array_equal(a.pixels, b.pixels) and a.sigmas == b.sigmas for a, b in zip(found, again, strict=True))
    assert len({each.pixels.tobytes() for each in found}) == 4
    assert all(each.pixels.dtype == np.uint8 and each.pixels.shape == CLEAN.shape for each in found)
    assert all(0.5 < np.abs(each.pixels.astype(float) - CLEAN).mean() < 60 for each in found)


def test_levels_are_those_of_the_noise_in_colour_and_in_grey() -> None:
    rng = np.random.default_rng(0)
    noisy = (np.full((240, 240, 3), 128) + np.rint(rng.normal(0, 20, (240, 240, 3)))).astype(np.uint8)
    found = versions.version(noisy, np.full((240, 240, 3), 128, np.uint8))
    assert found.pixels is noisy
    assert found.sigmas[0] == effective_level(noisy.astype(np.float32) - 128)
    luma = np.hypot(np.hypot(0.299, 0.587), 0.114)
    assert found.sigmas == pytest.approx((20.0, 20.0 * luma), rel=0.04)


def test_numbers_and_shares_of_versions() -> None:
    single, pair = TrainImage("a", "a.png"), TrainImage("b", "b.png", "noisy/b.png")
    assert [versions.count(single, camera) for camera in (0.0, 0.3)] == [0, versions.PHOTOGRAPHS]
    assert [versions.share(single, camera) for camera in (0.0, 0.3)] == [0.0, 0.3]
    assert [(versions.count(pair, camera), versions.share(pair, camera)) for camera in (0.0, 0.3)] == [(1, 1.0)] * 2
