"""What a PNG's chunks say of its colours is what its ICC profile says in other formats; CMYK goes by its profile."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from imagewizard.images import colour, icc
from imagewizard.images.picture import decode, decode_rgb
from imagewizard.images.png_chunks import Chunk
from tests.images.test_icc import in_srgb
from tests.support.sample_files import encoded, icc_profile, photo
from tests.support.sample_metadata import GAMMA, P3, cmyk_profile

PHOTO = photo(24, 32, 1)
SRGB = Chunk(b"sRGB", b"\0")
EMBEDDED = icc_profile("RGB ")


def cicp(*code_points: int) -> Chunk:
    return Chunk(b"cICP", bytes(code_points))


def seen(light: np.ndarray, matrix: np.ndarray | None = None) -> np.ndarray:
    """Linear light as sRGB, 0-255."""
    light = light if matrix is None else light @ matrix.T
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255


def srgb_light(samples: np.ndarray) -> np.ndarray:
    return np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)


# to linear sRGB, of CSS Color 4
P3_MATRIX = np.array([[1.2249402, -0.2249402, 0], [-0.0420569, 1.0420571, 0], [-0.0196376, -0.0786361, 1.0982735]])
BT2020_MATRIX = np.array(
    [[1.6604910, -0.5876411, -0.0728499], [-0.1245505, 1.1328999, -0.0083494], [-0.0181508, -0.1005789, 1.1187297]]
)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([GAMMA], seen(PHOTO / 255)),
        ([Chunk(b"gAMA", struct.pack(">I", 45455))], seen((PHOTO / 255) ** 2.2)),
        ([P3], seen(srgb_light(PHOTO / 255), P3_MATRIX)),
        ([GAMMA, P3], seen(PHOTO / 255, P3_MATRIX)),
        ([SRGB], PHOTO),
        ([GAMMA, P3, SRGB], PHOTO),
        ([cicp(1, 13, 0, 1), GAMMA], PHOTO),
        ([cicp(12, 13, 0, 1), SRGB], seen(srgb_light(PHOTO / 255), P3_MATRIX)),
        ([cicp(9, 8, 0, 1)], seen(PHOTO / 255, BT2020_MATRIX)),
        ([cicp(12, 4, 0, 1)], seen((PHOTO / 255) ** 2.2, P3_MATRIX)),
    ],
)
def test_the_chunks_of_a_png_as_a_profile(chunks, expected):
    profile, lost = colour.profile(chunks, None, is_grey=False)
    assert profile is not None and lost is None
    difference = abs(in_srgb(Image.fromarray(PHOTO), profile) - expected)
    assert difference.max() < 2 and difference.mean() < 0.5
    grey, lost = colour.profile(chunks, None, is_grey=True)
    assert grey is not None and icc.space(grey) == icc.GREY and lost is None


def test_a_profile_counts_before_all_but_cicp():
    assert colour.profile([GAMMA, P3, SRGB], EMBEDDED, False) == (EMBEDDED, None)
    assert colour.profile([cicp(9, 16, 0, 1), SRGB], EMBEDDED, False) == (EMBEDDED, None)  # PQ, and a profile instead
    profile, lost = colour.profile([cicp(12, 13, 0, 1)], EMBEDDED, False)
    assert profile not in (EMBEDDED, None) and lost is None
    assert colour.profile([], EMBEDDED, False) == (EMBEDDED, None)
    assert colour.profile([], None, False) == (None, None)


@pytest.mark.parametrize(
    ("chunks", "lost"),
    [
        ([cicp(9, 16, 0, 1)], ("cICP", "no ICC profile says PQ")),
        ([cicp(9, 18, 0, 1)], ("cICP", "no ICC profile says HLG")),
        ([cicp(1, 13, 0, 0)], ("cICP", "1/13/0/0 is none that is known")),  # narrow range
        ([cicp(2, 13, 0, 1)], ("cICP", "2/13/0/1 is none that is known")),
        ([cicp(1, 13)], ("cICP", "damaged")),
        ([Chunk(b"gAMA", bytes(4))], ("gAMA and cHRM", "no such gamma")),
        ([Chunk(b"gAMA", b"\0")], ("gAMA and cHRM", "no such gamma")),
        ([GAMMA, Chunk(b"cHRM", bytes(32))], ("gAMA and cHRM", "a chromaticity is not above zero")),
        ([GAMMA, Chunk(b"cHRM", bytes(31))], ("gAMA and cHRM", "no such primaries")),
    ],
)
def test_what_no_profile_can_say_is_named(chunks, lost):
    assert colour.profile(chunks, None, is_grey=False) == (None, lost)


def test_what_pq_stands_beside_counts_instead():
    profile, lost = colour.profile([cicp(9, 16, 0, 1), SRGB], None, False)
    assert profile == colour.profile([SRGB], None, False)[0] and lost == ("cICP", "no ICC profile says PQ")


# ------------------------------------------------------------------------------------------------------------- CMYK

CMYK = Image.fromarray(PHOTO).convert("CMYK")


def by_littlecms(image: Image.Image) -> np.ndarray:
    target = ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, io.BytesIO(cmyk_profile()), target, outputMode="RGB"))


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_cmyk_goes_by_its_profile(format):
    data = encoded(CMYK, format, icc_profile=cmyk_profile())
    with Image.open(io.BytesIO(data)) as stored:
        expected = by_littlecms(stored)
    assert abs(expected.astype(int) - decode_rgb(encoded(CMYK, format), 10_000)).mean() > 10  # it makes a difference
    found = decode(data, 10_000, keep=True)
    np.testing.assert_array_equal(found.pixels, expected)
    np.testing.assert_array_equal(decode_rgb(data, 10_000), expected)
    assert found.metadata.icc is None and found.metadata.colour == (SRGB,) and found.notes == ()


def test_deep_cmyk_goes_by_its_profile():
    inks = np.asarray(CMYK).astype(np.uint16) * 257
    stream = io.BytesIO()
    tifffile.imwrite(stream, inks, photometric="separated", iccprofile=cmyk_profile())
    found = decode(stream.getvalue(), 10_000, keep=True)
    assert found.pixels.dtype == np.uint16 and found.metadata.icc is None and found.metadata.colour == (SRGB,)
    np.testing.assert_allclose(found.pixels / 257, by_littlecms(CMYK), atol=1)
    shallow = colour.rgb_of_cmyk(np.asarray(CMYK), cmyk_profile())
    np.testing.assert_array_equal(shallow, by_littlecms(CMYK))
    inks = np.random.default_rng(0).integers(0, 65536, (8, 8, 4), np.uint16)
    light = 65535 - inks.astype(np.int64)
    formula = np.floor(light[:, :, :3] * light[:, :, 3:] / 65535 + 0.5)
    np.testing.assert_array_equal(colour.rgb_of_cmyk(inks, None), formula)
    light = 255 - np.asarray(CMYK).astype(np.int64)
    formula = np.floor(light[:, :, :3] * light[:, :, 3:] / 255 + 0.5)
    np.testing.assert_array_equal(colour.rgb_of_cmyk(np.asarray(CMYK), None), formula)


BROKEN = {
    "damaged": (cmyk_profile()[:200], "its own is damaged"),
    "of RGB": (EMBEDDED, "it has none of CMYK"),
    "garbage": (b"x" * 500, "it has none of CMYK"),
}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("profile", "why"), BROKEN.values(), ids=BROKEN)
def test_a_profile_that_cannot_be_used_costs_no_image(profile, why, keep):
    found = decode(encoded(CMYK, "TIFF", icc_profile=profile), 10_000, keep)
    np.testing.assert_array_equal(found.pixels, decode_rgb(encoded(CMYK, "TIFF"), 10_000))
    assert found.notes == (f"CMYK converted as if it had no ICC profile ({why})",)
    assert found.metadata.icc is None and found.metadata.colour == ()


def test_cmyk_without_a_profile_is_no_colour_that_is_known():
    found = decode(encoded(CMYK, "JPEG"), 10_000, keep=True)
    assert found.metadata.colour == () and found.notes == ()


def test_lab_is_srgb_then():
    found = decode(encoded(Image.fromarray(PHOTO).convert("LAB"), "TIFF"), 10_000, keep=True)
    assert found.metadata.colour == (SRGB,)
