"""A camera's noise: its size, its colour, and its bits."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from imagewizard.noise.camera import Development, draw


def flat(value: int, side: int = 128) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def noise(camera: Development, clean: np.ndarray, seed: int = 0) -> np.ndarray:
    return camera.expose(clean, np.random.default_rng(seed)) - clean


# Shot noise alone decides what is left of PLAIN: no contrast curve, no smoothing, hardly any JPEG.
PLAIN = Development(contrast=0.0, smoothing=0.0, colour_smoothing=0.0, quality=100, subsampling="4:4:4")


def test_no_gain_is_no_noise():
    clean = np.arange(128 * 128 * 3, dtype=np.uint32).reshape(128, 128, 3).astype(np.uint8) // 4 + 96
    assert np.abs(noise(replace(PLAIN, gain=0.0), clean)).max() <= 2  # JPEG


def test_the_variance_grows_with_the_gain_and_the_light():
    low, high = (noise(replace(PLAIN, gain=gain), flat(128)).var() for gain in (4.0, 16.0))
    assert high == pytest.approx(4 * low, rel=0.15)
    # Gamma stretches the dark, where the sensor's noise is least; a contrast curve takes most of that back.
    dark, bright = (noise(replace(PLAIN, gain=16.0), flat(value)).var() for value in (10, 200))
    assert dark > bright
    dark, middle = (noise(replace(PLAIN, gain=16.0, contrast=1.0), flat(value)).var() for value in (10, 128))
    assert dark < middle


def test_shot_noise_has_the_deviation_of_the_electrons():
    """A green pixel at 128: linear 0.2159 is 1,768 electrons at gain 4, whose root is 42; as light that is 2.4 %."""
    green = noise(replace(PLAIN, gain=4.0, red=1.0, blue=1.0), flat(128, 256))[:, :, 1]
    # d(sRGB)/d(linear) at 0.2159 is 1.055 / 2.4 * 0.2159^(1 / 2.4 - 1), times 255.
    slope = 255 * 1.055 / 2.4 * 0.2159 ** (1 / 2.4 - 1)
    shot = np.sqrt(0.2159 * 4.0 / 32_768) * slope
    # Half of the green pixels are demosaiced, and the colour matrix mixes all three: as much again, at most twice.
    assert shot < green.std() < 2 * shot


def test_neighbours_correlate_more_the_more_it_smooths():
    def correlation(smoothing: float) -> float:
        luma = noise(Development(gain=32.0, smoothing=smoothing), flat(110)).mean(axis=2)
        return float((luma[:, 1:] * luma[:, :-1]).mean() / luma.var())

    found = [correlation(smoothing) for smoothing in (0.0, 0.5, 1.0, 1.5, 3.0)]
    assert found == sorted(set(found))
    assert found[0] < 0.4 and 0.8 < found[-1] < 1


def test_it_is_a_function_of_generator_and_settings_alone():
    clean = np.random.default_rng(5).integers(0, 256, (40, 56, 3), np.uint8)
    camera = Development(gain=40.0)
    first = camera.expose(clean, np.random.default_rng(1))
    assert np.array_equal(first, camera.expose(clean, np.random.default_rng(1)))
    assert not np.array_equal(first, camera.expose(clean, np.random.default_rng(2)))
    assert first.dtype == np.float32 and np.array_equal(first, np.rint(first)) and first.min() >= 0 <= 255 - first.max()


def test_the_bits_are_those_of_requirements_lock():
    """Another hash means that rows of older runs can no longer be made again: raise RESULTS_VERSION with it."""
    clean = np.add.outer(np.arange(64), 2 * np.arange(96)).astype(np.uint8)[:, :, None] // np.array([1, 2, 3], np.uint8)
    seen = Development(gain=25.0).expose(clean, np.random.Generator(np.random.Philox(key=7)))
    assert hashlib.sha256(seen.astype(np.uint8).tobytes()).hexdigest()[:16] == "840235546d4ef422"


def test_depths_and_grey():
    clean = np.random.default_rng(5).integers(0, 256, (33, 21, 3), np.uint8)
    assert np.array_equal(
        *(Development().expose(each, np.random.default_rng(0)) for each in (clean, clean.astype(np.float32)))
    )
    grey = Development(gain=16.0).expose(flat(90)[:, :, :1], np.random.default_rng(0))
    assert grey.shape == (128, 128, 1) and 1 < grey.std() < 20


def test_demosaicing_in_bands_changes_nothing(monkeypatch):
    clean = np.random.default_rng(5).integers(0, 256, (50, 20, 3), np.uint8)
    whole = Development().expose(clean, np.random.default_rng(0))
    monkeypatch.setattr("imagewizard.noise.camera._BAND", 8)
    assert np.array_equal(whole, Development().expose(clean, np.random.default_rng(0)))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_longer_than_a_jpeg_can_be(channels):
    seen = Development(gain=10.0).expose(np.full((3, 70_000, channels), 77, np.uint8), np.random.default_rng(0))
    assert seen.shape == (3, 70_000, channels) and 40 < seen[:, 65_000:].mean() < 110


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (3, 500)])
def test_small_images(shape):
    seen = Development(gain=10.0).expose(np.full((*shape, 3), 77, np.uint8), np.random.default_rng(0))
    assert seen.shape == (*shape, 3)


def test_drawn_cameras_differ_and_take_pictures():
    cameras = [draw(np.random.default_rng(seed)) for seed in range(50)]
    assert len({camera.gain for camera in cameras}) == 50
    assert {camera.subsampling for camera in cameras} == {"4:4:4", "4:2:2", "4:2:0"}
    levels = [noise(camera, flat(120, 64)).std() for camera in cameras]
    assert min(levels) < 2.5 and max(levels) > 12
