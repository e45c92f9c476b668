"""images: uint8 RGB arrays out of every kind of file and into every format."""

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from imagewizard.errors import UserError
from imagewizard.images import formats
from imagewizard.images.formats import ImageError, decode, encode
from tests.support.sample_files import encoded, photo, png, write_odd_files

# pytest replaces the process's warning filters, the one that decoding.py sets among them
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

ENOUGH = 1_000_000


def test_the_array_is_writable_contiguous_uint8():
    for data in (png(2, 1, 8, 0, b"\0\7\x09"), png(1, 1, 16, 0, b"\0\0\0"), encoded(Image.new("RGB", (5, 4)), "JPEG")):
        image = decode(data, ENOUGH)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous and image.flags.writeable


def test_odd_files_have_their_sizes(tmp_path):
    sizes = write_odd_files(tmp_path)
    assert {name: decode((tmp_path / name).read_bytes(), ENOUGH).shape for name in sizes} == {
        name: (*size, 3) for name, size in sizes.items()
    }
    assert all(formats.is_image_name(name) for name in sizes)


def test_is_image_name():
    names = ["a.png", "a.JPG", "a.Jpeg", "a.webp", "a.bmp", "a.gif", "a.tif", "x/a.TIFF", "a.txt.png"]
    assert all(formats.is_image_name(name) for name in names)
    assert not any(formats.is_image_name(name) for name in ["a", "png", "a.png.txt", "a.eps", "a.jpgx", "a.png/", ""])


@pytest.mark.parametrize(("format", "quality"), [("png", None), ("png", 1), ("tiff", None), ("webp", None)])
def test_lossless_formats_round_trip(format, quality):
    image = photo(37, 53, seed=0)
    np.testing.assert_array_equal(decode(encode(image, format, quality), ENOUGH), image)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("format", ["jpeg", "jpg", "webp"])
def test_quality_trades_size_for_fidelity(format):
    image = photo(64, 96, seed=0)
    low, high = encode(image, format, 30), encode(image, format, 90)
    assert len(low) < len(high)
    assert psnr(decode(low, ENOUGH), image) + 3 < psnr(decode(high, ENOUGH), image)


def test_jpeg_keeps_all_colour_samples_and_defaults_to_95():
    # alternating red and blue columns are grey to a codec that halves the colour planes
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    data = encode(stripes, "jpeg")
    stored = Image.open(io.BytesIO(data))
    assert (stored.format, JpegImagePlugin.get_sampling(stored)) == ("JPEG", 0)
    assert psnr(decode(data, ENOUGH), stripes) > 30
    assert data == encode(stripes, "jpeg", 95) != encode(stripes, "jpeg", 94)


@pytest.mark.parametrize(("format", "quality"), [("png", 0), ("jpeg", 0), ("webp", 101), ("bmp", None), ("PNG", None)])
def test_settings_that_cannot_be_are_user_errors(format, quality):
    with pytest.raises(UserError, match=r"images\.(format|quality)"):
        encode(np.zeros((2, 2, 3), np.uint8), format, quality)


@pytest.mark.parametrize(("format", "side"), [("webp", 16383), ("jpeg", 65500)])
def test_an_image_too_long_for_its_format(format, side):
    encode(np.zeros((1, side, 3), np.uint8), format)
    with pytest.raises(ImageError, match=f"cannot encode: {side + 1}x1 as {format}; no side may be over {side} pixels"):
        encode(np.zeros((1, side + 1, 3), np.uint8), format)
