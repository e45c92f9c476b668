"""jpeg: samples of other than 8 bits, kinds that are not decoded, and files that lack their end marker."""

import io
import time

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from imagewizard.images import jpeg
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import decode
from tests.support.sample_files import camera_exif, encoded, icc_profile, photo

ENOUGH = 1_000_000
PHOTO = photo(40, 56, seed=5)
END = b"\xff\xd9"


def reason(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, ENOUGH, True)
    return str(caught.value)


def scaled(values: np.ndarray, bits: int) -> np.ndarray:
    """round(white v / (2^bits - 1)), in floating point."""
    white = 255 if bits < 8 else 65535
    return np.atleast_3d(np.floor(values.astype(float) * white / (2**bits - 1) + 0.5))


# ------------------------------------------------------------------------------------------------------------- depths


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_of_every_depth_is_spread_to_white(bits, channels):
    values = np.random.default_rng(0).integers(0, 2**bits, (20, 30, channels)).astype(np.uint8 if bits < 8 else "u2")
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    stored = values[:, :, 0] if channels == 1 else values
    data = imagecodecs.jpeg8_encode(stored, lossless=True, bitspersample=bits)
    pixels = decode(data, ENOUGH, True).pixels
    assert pixels.dtype == (np.uint8 if bits < 8 else np.uint16)
    np.testing.assert_array_equal(pixels, scaled(values, bits))


@pytest.mark.parametrize("grey", [False, True])
def test_twelve_bits(grey):
    values = (PHOTO[:, :, 1] if grey else PHOTO).astype(np.uint16) * 16
    data = imagecodecs.jpeg8_encode(values, level=100, bitspersample=12, subsampling="444")
    pixels = decode(data, ENOUGH, True).pixels
    np.testing.assert_array_equal(pixels, scaled(imagecodecs.jpeg8_decode(data), 12))
    assert np.abs(pixels / 65535 - np.atleast_3d(values) / 4095).max() < 0.03


def test_twelve_bit_cmyk_is_taken_to_be_inverted():
    data = imagecodecs.jpeg8_encode(
        np.full((8, 8, 4), (1600, 800, 0, 640), np.uint16),
        level=100,
        bitspersample=12,
        colorspace="CMYK",
        outcolorspace="YCCK",
    )
    # 1600 * 640 / 4095^2 = 0.0611, 800 * 640 / 4095^2 = 0.0305
    assert decode(data, ENOUGH, True).pixels[3, 3] / 65535 == pytest.approx([0.0611, 0.0305, 0], abs=0.001)


def test_what_lies_beside_twelve_bits_is_read_too():
    data = imagecodecs.jpeg8_encode(PHOTO.astype(np.uint16) * 16, level=90, bitspersample=12)
    beside = encoded(Image.fromarray(PHOTO), "JPEG", exif=camera_exif(Orientation=6), icc_profile=icc_profile("RGB "))
    segments = beside[2 : beside.index(b"\xff\xdb")]
    picture = decode(data[:2] + segments + data[2:], ENOUGH, True)
    assert picture.pixels.shape == (56, 40, 3)
    assert picture.metadata.icc == icc_profile("RGB ") and picture.metadata.exif is not None
    assert reason(data[: len(data) // 2]) == "truncated file: the JPEG ends before its pixels do"
    with pytest.raises(ImageError, match="too many pixels: 56x40"):
        decode(data, 2239, True)


# -------------------------------------------------------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("marker", "kind"), [(0xC5, "hierarchical"), (0xCF, "hierarchical"), (0xCB, "arithmetic-coded lossless")]
)
def test_a_kind_that_is_not_decoded_is_named(marker, kind):
    data = bytearray(encoded(Image.fromarray(PHOTO), "JPEG"))
    data[data.index(b"\xff\xc0") + 1] = marker
    assert reason(bytes(data)).startswith(f"unsupported pixels: {kind} JPEG; ")


def test_an_odd_count_of_channels_and_a_late_height_are_named():
    data = imagecodecs.jpeg8_encode(PHOTO[:, :, :2].copy(), level=90)
    assert reason(data).startswith("unsupported pixels: JPEG with 2 channels; ")
    late = bytearray(encoded(Image.fromarray(PHOTO), "JPEG"))
    place = late.index(b"\xff\xc0") + 5
    late[place : place + 2] = bytes(2)
    assert reason(bytes(late)).startswith("unsupported pixels: JPEG that gives its height after its pixels; ")


# ---------------------------------------------------------------------------------------------------------------- end


KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "progressive with restarts": {"restart_marker_rows": 1, "progressive": True},
}


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_only_a_jpeg_with_all_its_pixels_decodes_without_its_end(kind, mode):
    data = encoded(Image.fromarray(PHOTO).convert(mode), "JPEG", **KINDS[kind])
    assert data.endswith(END)
    whole = decode(data, ENOUGH, True).pixels
    for missing in (1, 2):
        np.testing.assert_array_equal(decode(data[:-missing], ENOUGH, True).pixels, whole)
    scan = data.index(b"\xff\xda")
    refused = 0
    for length in (*range(scan, len(data) - 40, (len(data) - scan) // 9), *range(len(data) - 40, len(data) - 2)):
        try:
            pixels = decode(data[:length], ENOUGH, True).pixels
        except ImageError as error:
            refused += 1
            assert str(error) == "truncated file: the JPEG ends before its pixels do"
        else:
            np.testing.assert_array_equal(pixels, whole)  # the last bits said nothing more
    assert refused > 8


def test_a_jpeg_cut_between_its_scans_is_refused():
    data = encoded(Image.fromarray(PHOTO), "JPEG", progressive=True)
    starts = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    tables = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xc4"]
    for start in starts[1:]:
        cut = max(place for place in tables if place < start)
        assert reason(data[:cut]) == "truncated file: the JPEG ends before its pixels do"
        with pytest.raises(ImageError):
            decode(data[:start], ENOUGH, True)


def test_a_twelve_bit_jpeg_without_its_end():
    data = imagecodecs.jpeg8_encode(PHOTO.astype(np.uint16) * 16, level=90, bitspersample=12)
    np.testing.assert_array_equal(decode(data[:-2], ENOUGH, True).pixels, decode(data, ENOUGH, True).pixels)
    assert reason(data[:-9]) == "truncated file: the JPEG ends before its pixels do"


def test_a_whole_file_is_given_back_as_it_is():
    data = encoded(Image.fromarray(PHOTO), "JPEG") + b"something behind the end"
    assert jpeg.with_end(data, lambda file: np.asarray(Image.open(io.BytesIO(file)))) is data


def test_a_million_segments_take_no_time_that_matters():
    pieces = b"\xff\xe0\0\2\xff\xfe\0\2" * 500_000
    start = time.perf_counter()
    assert jpeg.without_what_stops_pillow(b"\xff\xd8" + pieces) == b"\xff\xd8" + b"\xff\xfe\0\2" * 500_000
    assert time.perf_counter() - start < 15  # to copy what is kept for each takes minutes
