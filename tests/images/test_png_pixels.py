"""PNGs that are written without Pillow: Pillow, libpng and libvips read the same pixels from them."""

import io

import imagecodecs
import numpy as np
import pytest
import pyvips
from PIL import Image

from imagewizard.images import png_pixels
from imagewizard.images.png_chunks import Chunks
from tests.support.sample_files import photo

RANDOM = np.random.default_rng(0)


def read(data: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(data)) as image:
        pillows = np.asarray(image)
    return [pillows, imagecodecs.png_decode(data), pyvips.Image.new_from_buffer(data, "", fail=True).numpy()]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (37, 53), (300, 400)])
def test_readers_see_the_same_pixels(shape: tuple[int, int], channels: int) -> None:
    samples = RANDOM.integers(0, 256, (*shape, channels), dtype=np.uint8)
    for found in read(png_pixels.write(samples)):
        assert np.array_equal(found.reshape(samples.shape), samples)


@pytest.mark.parametrize("band", [1, 100, 53 * 3 * 2, 53 * 3 * 36, 53 * 3 * 37])
def test_bands_make_up_the_picture(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = RANDOM.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    whole = png_pixels.write(samples)
    monkeypatch.setattr(png_pixels, "_BAND", band)
    assert png_pixels.write(samples) == whole


def test_a_view_is_written_as_it_looks() -> None:
    samples = RANDOM.integers(0, 256, (40, 50, 4), dtype=np.uint8)[::2, ::-1, 1:4]
    assert np.array_equal(read(png_pixels.write(samples))[0], samples)


def test_long_pixel_data_is_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    whole = png_pixels.write(samples)
    monkeypatch.setattr(png_pixels, "_MOST", 1000)
    data = png_pixels.write(samples)
    assert data.count(b"IDAT") == 7 and len(data) == len(whole) + 6 * 12  # length, kind and checksum
    assert Chunks.read(data).pixels == data
    assert all(np.array_equal(found, samples) for found in read(data))


def test_a_photograph_is_smaller_than_pillows_fastest() -> None:
    samples, stream = photo(200, 300, 0), io.BytesIO()
    Image.fromarray(samples).save(stream, "PNG", compress_level=1)
    assert len(png_pixels.write(samples)) < len(stream.getvalue())
