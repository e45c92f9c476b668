"""avif: every depth and mode that libavif writes, orientation, and files that are cut off."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from imagewizard.images import avif
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import decode
from tests.support.sample_files import camera_exif, encoded, icc_profile, photo

ENOUGH = 1_000_000
PHOTO = photo(40, 56, seed=5)


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossless_of_every_depth(bits, channels):
    values = np.random.default_rng(0).integers(0, 2**bits, (20, 30, channels)).astype("u1" if bits == 8 else "u2")
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    data = imagecodecs.avif_encode(values.squeeze(), level=100, bitspersample=bits)
    assert avif.bits(data) == bits
    picture = decode(data, ENOUGH, True)
    white = 255 if bits == 8 else 65535
    spread = np.floor(values * (white / (2**bits - 1)) + 0.5)
    np.testing.assert_array_equal(picture.pixels[:, :, 0], spread[:, :, 0])
    if channels > 2:
        np.testing.assert_array_equal(picture.pixels, spread[:, :, :3])
    if channels in (2, 4):
        np.testing.assert_array_equal(picture.alpha, spread[:, :, -1])


def test_what_lies_beside_the_pixels():
    data = encoded(
        Image.fromarray(PHOTO), "AVIF", quality=90, icc_profile=icc_profile("RGB "), exif=camera_exif(Orientation=6)
    )
    picture = decode(data, ENOUGH, True)
    assert picture.pixels.shape == (56, 40, 3)  # turned, as the file's own orientation says
    assert (
        picture.metadata.icc == icc_profile("RGB ")
        and picture.metadata.exif is not None
        and b"Maker" in picture.metadata.exif
    )
    upright = np.rot90(PHOTO, -1)
    assert np.abs(picture.pixels.astype(int) - upright).mean() < 6
    with pytest.raises(ImageError, match="too many pixels: 56x40"):
        decode(data, 2239, True)


def test_damaged_exif_costs_no_image():
    data = encoded(Image.fromarray(PHOTO), "AVIF", quality=100, exif=camera_exif())
    sound = decode(data, ENOUGH, True)
    assert sound.metadata.exif and not sound.notes
    start = data.rindex(b"Exif\0\0") + 6
    picture = decode(data[:start] + bytes(4) + data[start + 4 :], ENOUGH, True)
    np.testing.assert_array_equal(picture.pixels, sound.pixels)
    assert picture.metadata.exif is None and picture.notes == ("without EXIF (it is damaged)",)


def test_the_first_image_of_many():
    images = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = encoded(images[0], "AVIF", save_all=True, append_images=images[1:], quality=100)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert decode(data, ENOUGH, True).pixels[8, 8].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_coding_points():
    data = encoded(Image.fromarray(PHOTO), "AVIF")
    assert avif.coding_points(data) == (1, 13)  # sRGB
    assert avif.coding_points(b"") is None and avif.bits(b"") == 8


@pytest.mark.parametrize("bits", [8, 10])
def test_a_cut_file_is_truncated(bits):
    data = imagecodecs.avif_encode(PHOTO if bits == 8 else PHOTO.astype("u2") * 4, level=90, bitspersample=bits)
    for length in (12, 60, len(data) // 2, len(data) - 1):
        with pytest.raises(ImageError, match="truncated file: the AVIF ends before its pixels do"):
            decode(data[:length], ENOUGH, True)
