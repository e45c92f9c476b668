"""Estimates of the noise level on drawn images with known noise."""

import io

import numpy as np
import pytest
from PIL import Image

from imagewizard.noise import level
from imagewizard.noise.level import estimate_sigma

SIGMAS = [5, 10, 15, 25, 50, 75]


def scene(height: int = 256, width: int = 320) -> np.ndarray:
    """Discs of all colours over a gradient, with a fine pattern on a third: edges, flat places and texture."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:height, :width].astype(float)
    image = np.stack([60 + 120 * rows / height, 200 - 90 * columns / width, 90 + 60 * np.sin(rows / 50)], axis=-1)
    for _ in range(60):
        row, column, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(4, 40)
        image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = rng.uniform(20, 235, 3)
    weave = 15 * np.sin(rows * 1.9) * np.sin(columns * 1.3 + rows)
    image += (weave * (columns > 2 * width / 3))[:, :, None]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def noisy(clean: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(11).standard_normal(clean.shape, dtype=np.float32)
    return clean + np.float32(sigma) * noise


def to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[:, :, 1:2], 3, axis=2)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_float_noise_is_found_within_five_percent(sigma):
    assert estimate_sigma(noisy(scene(), sigma)) == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_clipped_and_rounded_noise_is_found_within_ten_percent(sigma):
    image = to_uint8(noisy(scene(), sigma))
    assert estimate_sigma(image) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_grey_images_stored_as_rgb_have_the_noise_of_one_channel(sigma):
    image = grey(noisy(scene(), sigma))
    assert estimate_sigma(image) == pytest.approx(sigma, rel=0.1)
    assert estimate_sigma(to_uint8(image)) == pytest.approx(sigma, rel=0.15)


def test_one_channel_has_the_level_of_three_equal_ones():
    for size in (256, 20):
        image = to_uint8(noisy(grey(scene(size, size)), 15))
        plane = image[:, :, 1:2]
        assert estimate_sigma(plane) == pytest.approx(estimate_sigma(plane.repeat(3, axis=2)))


def test_more_noise_gives_a_higher_estimate():
    levels = [0, 2, 4, 7, 10, 15, 20, 30, 40, 50, 60, 80]
    for make in (noisy, lambda clean, sigma: to_uint8(noisy(clean, sigma))):
        estimates = [estimate_sigma(make(scene(), sigma)) for sigma in levels]
        assert estimates == sorted(estimates)
        assert estimates[0] < 1.0


def test_the_clipped_places_of_a_white_page_do_not_hide_the_noise():
    page = scene()
    page[:, :200] = 255
    page[:, 200:240] = 0
    assert estimate_sigma(to_uint8(noisy(page, 25))) == pytest.approx(25, rel=0.1)


def test_an_image_that_is_white_all_over_still_shows_its_noise():
    image = to_uint8(noisy(np.full((128, 128, 3), 250, np.uint8), 25))
    assert estimate_sigma(image) == pytest.approx(25, rel=0.2)


@pytest.mark.parametrize("sigma", [10, 25])
def test_noise_that_jpeg_removed_from_the_colours_is_found_in_the_brightness(sigma):
    """Subsampled chroma leaves nearly no noise that the channels do not share."""
    file = io.BytesIO()
    Image.fromarray(to_uint8(noisy(scene(), sigma))).save(file, "JPEG", quality=95, subsampling="4:2:0")
    decoded = np.asarray(Image.open(file))
    brightness, clean = (np.asarray(Image.fromarray(image).convert("L"), float) for image in (decoded, scene()))
    left = float(np.std(brightness - clean))
    assert estimate_sigma(decoded) == pytest.approx(left, rel=0.2)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (2, 2), (2, 500), (3, 3), (5, 4), (8, 8), (31, 31), (32, 32), (3, 999)]
)
def test_tiny_images_have_an_estimate(shape):
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8), np.zeros((*shape, 3), np.uint8)]
    images.append(np.full((*shape, 3), 255, np.uint8))
    images.append(noisy(images[1], 25))
    for image in images:
        estimate = estimate_sigma(image)
        assert isinstance(estimate, float)
        assert np.isfinite(estimate)
        assert estimate >= 0
    assert estimate_sigma(images[1]) == estimate_sigma(images[2]) == 0
    assert (estimate_sigma(images[3]) > 0) == (min(shape) >= 3)


@pytest.mark.parametrize("size", [16, 24, 32, 48, 64])
def test_small_images_have_about_the_right_estimate(size):
    crops = [scene()[top : top + size, left : left + size] for top in range(0, 192, 64) for left in range(0, 192, 64)]
    estimates = [estimate_sigma(noisy(crop, 25)) for crop in crops]
    assert np.median(estimates) == pytest.approx(25, rel=0.15)


@pytest.mark.parametrize("value", [0, 77, 255, 100.3])
def test_a_constant_image_has_no_noise(value):
    assert estimate_sigma(np.full((100, 120, 3), value, np.float32)) == pytest.approx(0, abs=1e-3)
    assert estimate_sigma(np.full((100, 120, 3), int(value), np.uint8)) == 0


def test_padding_does_not_hide_the_noise_but_a_drawing_has_none():
    image = to_uint8(noisy(scene(), 20))
    for colour in (0, 114, 255):
        padded = np.pad(image, ((90, 90), (0, 0), (0, 0)), constant_values=colour)
        assert estimate_sigma(padded) == pytest.approx(20, rel=0.05)
    drawing = np.full((256, 256, 3), 255, np.uint8)
    drawing[20:240:20] = drawing[:, 30::50] = (200, 30, 60)
    assert estimate_sigma(drawing) < 0.5


@pytest.mark.parametrize("shape", [(3000, 400), (400, 3000)])
def test_a_large_image_takes_no_more_patches_and_is_covered_to_its_edges(shape):
    far = np.add.outer(np.arange(shape[0]), np.arange(shape[1]))[:, :, None].astype(np.float32)
    patches = level._patches(far, 8) + 127.5
    assert 7_500 < len(patches) <= level.MAX_PATCHES
    assert patches.min() == 0
    assert patches.max() > far.max() - 50


def test_the_estimate_is_a_function_of_the_image_alone():
    image = noisy(scene(), 25)
    before = image.copy()
    np.random.seed(1)
    first = estimate_sigma(image)
    state = np.random.get_state()[1].copy()
    assert estimate_sigma(image) == first
    assert np.array_equal(np.random.get_state()[1], state)
    assert np.array_equal(image, before)
    assert estimate_sigma(np.asfortranarray(image)) == pytest.approx(first, rel=1e-5)


def test_what_is_found_of_white_noise_and_of_none() -> None:
    image = noisy(scene(), 25)
    sigma = estimate_sigma(image)
    assert level.find(image) == level.Found(std=sigma, level=sigma, kind="white", gain=None)
    assert level.find(np.full((64, 64, 3), 7, np.uint8)) == level.Found(std=0.0, level=0.0, kind="none", gain=None)
