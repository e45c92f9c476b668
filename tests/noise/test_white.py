"""Estimates of white noise on drawn images with known noise."""

import numpy as np
import pytest
import torch

from imagewizard.noise import finder, white
from tests.support.scenes import noisy, scene, to_uint8

SIGMAS = [5, 10, 15, 25, 50, 75]


def tiles(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.astype(np.float32).transpose(2, 0, 1)))[None]


def sigma(image: np.ndarray) -> float | None:
    whole = tiles(image)
    return white.sigma(whole, finder.varied(whole))


@pytest.mark.parametrize("level", SIGMAS)
def test_float_noise_is_found_within_five_percent(level):
    assert sigma(noisy(scene(), level)) == pytest.approx(level, rel=0.05)
    assert sigma(noisy(scene()[:, :, :1], level)) == pytest.approx(level, rel=0.1)


@pytest.mark.parametrize("level", SIGMAS)
def test_clipped_and_rounded_noise_is_found_within_ten_percent(level):
    assert sigma(to_uint8(noisy(scene(), level))) == pytest.approx(level, rel=0.1)
    assert sigma(to_uint8(noisy(scene()[:, :, :1], level))) == pytest.approx(level, rel=0.15)


def test_more_noise_gives_a_higher_estimate():
    levels = [0, 2, 4, 7, 10, 15, 20, 30, 40, 50, 60, 80]
    for make in (noisy, lambda clean, level: to_uint8(noisy(clean, level))):
        estimates = [sigma(make(scene(), level)) for level in levels]
        assert estimates == sorted(estimates)
        assert estimates[0] < 1.0


def test_the_clipped_places_of_a_page_do_not_hide_the_noise():
    page = scene()
    page[:, :200] = 255
    page[:, 200:240] = 0
    assert sigma(to_uint8(noisy(page, 25))) == pytest.approx(25, rel=0.1)


def test_an_image_that_is_white_all_over_still_shows_its_noise():
    image = to_uint8(noisy(np.full((128, 128, 3), 250, np.uint8), 25))
    assert sigma(image) == pytest.approx(25, rel=0.2)


def test_pixels_that_do_not_count_have_no_say():
    image = noisy(scene(), 10)
    image[:, 160:] = noisy(scene(), 60)[:, 160:]
    whole = tiles(image)
    counted = torch.ones(whole.shape[0], *whole.shape[2:], dtype=torch.bool)
    counted[:, :, 160:] = False
    assert white.sigma(whole, counted) == pytest.approx(10, rel=0.05)


def test_tiles_are_read_as_one_image():
    image = noisy(scene(), 25)
    halves = torch.cat([tiles(image[:, :160]), tiles(image[:, 160:])])
    assert white.sigma(halves, finder.varied(halves)) == pytest.approx(sigma(image), rel=0.03)


@pytest.mark.parametrize("shape", [(1, 1), (2, 500), (3, 3), (8, 8), (16, 20)])
def test_too_few_patches_are_no_estimate(shape):
    image = noisy(np.full((*shape, 1), 100, np.uint8), 25)
    assert sigma(image) is None


def test_a_large_image_takes_no_more_patches_and_is_covered_to_its_edges():
    far = np.add.outer(np.arange(3000), np.arange(400))[:, :, None].astype(np.float32)
    whole = tiles(far)
    patches = white._patches(whole, torch.ones(1, 3000, 400, dtype=torch.bool), 8) + 127.5
    assert 0.5 * white.MOST_PATCHES < patches.shape[1] <= white.MOST_PATCHES
    assert patches.min() == 0 and patches.max() > far.max() - 50
