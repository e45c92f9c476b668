"""What is found of the noise in drawn images: white, a camera's, or none."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from imagewizard.noise import level
from imagewizard.noise.camera import Development
from imagewizard.noise.effective import effective_level
from imagewizard.noise.finder import CELL, FLOOR, CellNoise
from imagewizard.noise.level import NOTHING, Found, find
from tests.support.scenes import noisy, scene, to_uint8


def grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[:, :, 1:2], 3, axis=2)


@pytest.mark.parametrize("sigma", [5, 10, 15, 25, 50, 75])
@pytest.mark.parametrize("finish", [np.asarray, to_uint8], ids=["float", "8 bits"])
def test_white_noise_has_its_own_deviation_as_level(sigma, finish):
    for is_grey in (False, True):
        clean = scene()
        found = find(finish(grey(noisy(clean, sigma)) if is_grey else noisy(clean, sigma)))
        assert found.kind == "white"
        assert found.std == found.level == pytest.approx(sigma, rel=0.1)


def test_one_channel_has_the_level_of_three_equal_ones():
    for size in (256, 20):
        plane = to_uint8(noisy(scene(size, size)[:, :, :1], 15))
        assert find(plane) == find(plane.repeat(3, axis=2))


@pytest.mark.parametrize("gain", [16, 64])
def test_the_noise_of_a_camera_has_a_level_above_its_deviation(gain):
    camera, rng = Development(gain=gain, smoothing=0.7), np.random.default_rng(0)
    seen, without = (each.expose(scene(384, 384), rng) for each in (camera, replace(camera, gain=0.0)))
    found = find(seen)
    assert found.kind == "camera"
    assert found.std == pytest.approx(np.std(seen - without), rel=0.4)
    assert 0.6 < found.level / effective_level(seen - without) < 2
    assert found.level > 1.2 * found.std


def found_where(monkeypatch, std, told, doubt, exact):
    """What is found where the network reads (std, told, doubt) in each cell, and the eigenvalues say `exact`."""

    def read(images):
        shape = (len(images), images.shape[2] // CELL, images.shape[3] // CELL)
        logs = math.log(std + FLOOR), math.log(told + FLOOR), math.log(doubt)
        return CellNoise(*(torch.full(shape, log) for log in logs))

    monkeypatch.setattr(level, "_finder", lambda device: read)
    monkeypatch.setattr(level.white, "sigma", lambda tiles, counted: exact)
    return find(noisy(scene(64, 64), 10))


def test_the_level_rises_with_the_smear_and_falls_with_the_doubt(monkeypatch):
    sure = found_where(monkeypatch, 4.0, 9.0, 0.3, 0.2)
    assert (sure.kind, sure.std, sure.level) == ("camera", pytest.approx(4.0, rel=1e-4), pytest.approx(13.5, rel=1e-4))
    assert found_where(monkeypatch, 4.0, 9.0, 0.8, 0.2).level == pytest.approx(13.5 * 0.4 / 0.8, rel=1e-4)
    assert found_where(monkeypatch, 4.0, 4.0, 0.3, 0.2).level == pytest.approx(4.0, rel=1e-4)


@pytest.mark.parametrize(
    ("exact", "kind"), [(None, "camera"), (1.3, "camera"), (1.4, "white"), (9.9, "white"), (10.1, "camera")]
)
def test_noise_is_white_where_the_eigenvalues_say_about_the_same(monkeypatch, exact, kind):
    found = found_where(monkeypatch, 4.0, 9.0, 0.3, exact)
    assert found.kind == kind
    assert found.std == pytest.approx(exact if kind == "white" else 4.0, rel=1e-4)


def test_noise_that_nobody_sees_is_none(monkeypatch):
    assert found_where(monkeypatch, 0.79, 3.0, 0.3, 0.7).kind == "none"
    assert found_where(monkeypatch, 0.81, 3.0, 0.3, 0.1).kind == "camera"
    weak = found_where(monkeypatch, 0.9, 3.0, 0.3, 0.5)
    assert (weak.kind, weak.std, weak.level) == ("none", 0.5, 0.0)


def test_a_gpu_without_memory_leaves_the_work_to_the_cpu(monkeypatch):
    # A stand-in for a GPU: there may be none, and none fills up at a test's wish.
    asked, on_cpu = [], level._find

    def without_memory(image, alpha, device):
        asked.append(device.type)
        if device.type == "cuda":
            raise torch.OutOfMemoryError
        return on_cpu(image, alpha, device)

    image = to_uint8(noisy(scene(64, 64), 20))
    expected = find(image)
    monkeypatch.setattr(level, "_find", without_memory)
    assert find(image, device=torch.device("cuda")) == expected
    assert asked == ["cuda", "cpu"]
    assert find(image, device=torch.device("mps")) == expected  # which lacks float64
    assert asked[2:] == ["cpu"]


def test_more_noise_gives_a_higher_level():
    for make in (noisy, lambda clean, sigma: to_uint8(noisy(clean, sigma))):
        levels = [find(make(scene(), sigma)).level for sigma in (0, 4, 8, 15, 25, 40, 60, 80)]
        assert levels == sorted(levels)
    cameras = [Development(gain=gain).expose(scene(), np.random.default_rng(0)) for gain in (2, 16, 64, 256)]
    levels = [find(seen).level for seen in cameras]
    assert levels == sorted(levels)


def test_pages_borders_and_transparency_do_not_count():
    photo = to_uint8(noisy(scene(), 25))
    for colour in (0, 114, 255):
        page = np.pad(photo, ((300, 0), (90, 90), (0, 0)), constant_values=colour)
        assert find(page).level == pytest.approx(25, rel=0.1)
    alpha = np.zeros(photo.shape[:2], np.uint8)
    alpha[:, :100] = 255
    hidden = photo.copy()
    hidden[:, 100:] = to_uint8(noisy(scene(), 75))[:, 100:]
    assert find(hidden, alpha).level == pytest.approx(25, rel=0.1)
    assert find(hidden).level > 30


def test_a_small_picture_on_a_page_is_found_wherever_it_is():
    for top, left in ((80, 80), (100, 240), (300, 410)):
        page = np.full((512, 512, 3), 255, np.uint8)
        page[top : top + 64, left : left + 64] = to_uint8(noisy(scene(64, 64), 20))
        assert find(page).level == pytest.approx(20, rel=0.25)


def test_where_too_little_varies_no_level_is_found():
    dot = np.full((200, 200, 3), 255, np.uint8)
    dot[90:97, 90:97] = np.random.default_rng(0).integers(0, 256, (7, 7, 3))
    assert find(dot) == NOTHING == Found(None, None, "none", None)
    for value in (0, 77, 255):
        assert find(np.full((100, 120, 3), value, np.uint8)) == NOTHING
    photo = to_uint8(noisy(scene(), 25))
    assert find(photo, np.zeros(photo.shape[:2], np.uint8)) == NOTHING


def test_a_drawing_has_hardly_any_noise():
    drawing = np.full((256, 256, 3), 255, np.uint8)
    drawing[20:240:20] = drawing[:, 30::50] = (200, 30, 60)
    assert (find(drawing).level or 0) < 3


@pytest.mark.parametrize("sigma", [10, 25])
def test_noise_behind_a_jpeg_is_found(sigma):
    file = io.BytesIO()
    Image.fromarray(to_uint8(noisy(scene(), sigma))).save(file, "JPEG", quality=90, subsampling="4:2:0")
    decoded = np.asarray(Image.open(file))
    left = decoded.astype(np.float32) - scene()
    assert find(decoded).level == pytest.approx(effective_level(left), rel=0.5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (2, 500), (3, 3), (5, 4), (8, 8), (31, 31), (3, 999)])
def test_tiny_images(shape):
    images = [np.random.default_rng(2).integers(0, 256, (*shape, channels), dtype=np.uint8) for channels in (1, 3)]
    for image in [*images, noisy(images[1], 25)]:
        found = find(image)
        assert found == NOTHING or (np.isfinite([found.std, found.level]).all() and min(found.std, found.level) >= 0)


@pytest.mark.parametrize("size", [24, 32, 48, 64])
def test_small_images_have_about_the_right_level(size):
    crops = [scene()[top : top + size, left : left + size] for top in range(0, 192, 64) for left in range(0, 192, 64)]
    levels = [find(noisy(crop, 25)).level for crop in crops]
    assert np.median(levels) == pytest.approx(25, rel=0.2)


def test_a_large_image_is_read_in_tiles_all_over_it():
    large = to_uint8(noisy(np.tile(scene(), (5, 4, 1)), 20))
    tiles, opaque = level._tiles(large, None, level.SHARE)
    assert tiles.shape == (level.MOST_TILES, 3, level.TILE, level.TILE) and opaque.all()
    assert find(large).level == pytest.approx(20, rel=0.1)
    far = np.add.outer(np.arange(3000), np.arange(400))[:, :, None].astype(np.float32)
    tiles, _ = level._tiles(far, None, level.SHARE)
    assert tiles.min() == 0 and tiles.max() > far.max() - 2 * 8


def test_noise_that_grows_with_brightness_has_a_gain():
    ramp = np.broadcast_to(np.linspace(20, 220, 320, dtype=np.float32)[None, :, None], (256, 320, 3))
    noise = np.random.default_rng(0).standard_normal(ramp.shape, np.float32)
    growing, even = find(ramp + noise * np.sqrt(0.8 * ramp)), find(ramp + 9 * noise)
    assert growing.gain == pytest.approx(0.8, rel=0.4)
    assert abs(even.gain) < 0.15
    assert find(100 + 9 * noise).gain is None  # of one brightness


def test_the_result_is_a_function_of_the_image_alone():
    image = noisy(scene(), 25)
    before, state = image.copy(), np.random.get_state()[1].copy()
    first = find(image)
    assert find(image) == first and np.array_equal(image, before)
    assert np.array_equal(np.random.get_state()[1], state)
    assert find(np.asfortranarray(image)).std == pytest.approx(first.std, rel=1e-5)
