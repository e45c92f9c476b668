"""What the headers of a BMP say of its colours."""

import struct

import numpy as np
import pytest

from imagewizard.images import bmp, icc
from imagewizard.images.bmp import Colours
from imagewizard.images.colour import IS_SRGB
from imagewizard.images.encoding import encode
from imagewizard.images.formats import OUTPUT_FORMATS
from imagewizard.images.metadata import Metadata
from imagewizard.images.picture import decode
from tests.support.sample_files import icc_profile

SRGB_XYZ = (0.4124, 0.2126, 0.0193, 0.3576, 0.7152, 0.1192, 0.1805, 0.0722, 0.9505)
EMBEDDED, LINKED, SRGB, WINDOWS, CALIBRATED = 0x4D424544, 0x4C494E4B, 0x73524742, 0x57696E20, 0


def written(
    kind: int, size: int = 124, xyz: tuple[float, ...] = (0,) * 9, gamma: tuple[float, ...] = (0, 0, 0)
) -> bytes:
    """A BMP of one white pixel, and a profile behind it."""
    profile = icc_profile("RGB ")
    header = struct.pack("<IiiHHIIiiII16xI", size, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0, kind)
    header += struct.pack("<9I3I", *(round(value * 2**30) for value in xyz), *(round(value * 65536) for value in gamma))
    header += struct.pack("<4I", 4, size + 4, len(profile), 0)
    header = header[:size]
    start = 14 + size
    return struct.pack("<2sIHHI", b"BM", start + 4 + len(profile), 0, 0, start) + header + b"\xff\xff\xff\0" + profile


def test_an_embedded_profile():
    assert bmp.colours(written(EMBEDDED)) == Colours(icc=icc_profile("RGB "))
    assert bmp.colours(written(EMBEDDED)[: 14 + 124 + 4]) == Colours(lost="it is damaged")
    assert bmp.colours(written(EMBEDDED, size=108)) == Colours()


def test_srgb_and_none():
    assert bmp.colours(written(SRGB)) == bmp.colours(written(WINDOWS, size=108)) == Colours(is_srgb=True)
    assert bmp.colours(written(LINKED)) == Colours(lost="it lies in another file")
    assert bmp.colours(written(CALIBRATED)) == bmp.colours(written(7)) == Colours()
    assert bmp.colours(written(SRGB, size=40)) == Colours()


def test_primaries_and_an_exponent():
    found = bmp.colours(written(CALIBRATED, 108, SRGB_XYZ, (2.2, 2.2, 2.2)))
    assert found.icc is not None
    tags, expected = icc._tags(found.icc), icc._tags(icc.of_rgb((2.2,), icc.SRGB))
    for name in (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC"):
        values, wanted = (np.frombuffer(each[name][-12:], ">i4") / 65536 for each in (tags, expected))
        np.testing.assert_allclose(values, wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("xyz", "gamma", "lost"),
    [
        (SRGB_XYZ, (2.2, 2.2, 1.8), "its channels have exponents of their own"),
        (SRGB_XYZ, (60_000,) * 3, "no such exponent"),
        (SRGB_XYZ, (0.001,) * 3, "no such exponent"),
        ((0.1,) * 9, (2.2, 2.2, 2.2), "the primaries lie on a line"),
        ((1.0, *(0.0,) * 8), (2.2, 2.2, 2.2), "no such primaries"),
    ],
)
def test_colours_that_cannot_be(xyz, gamma, lost):
    assert bmp.colours(written(CALIBRATED, 108, xyz, gamma)) == Colours(lost=lost)


def test_they_come_along():
    assert decode(written(EMBEDDED), 9, keep=True).metadata.icc == icc_profile("RGB ")
    assert decode(written(SRGB), 9, keep=True).metadata == Metadata(colour=(IS_SRGB,))
    found = decode(written(LINKED), 9, keep=True)
    assert found.metadata == Metadata() and found.notes == ("without ICC profile (it lies in another file)",)


@pytest.mark.parametrize("format", OUTPUT_FORMATS)
@pytest.mark.parametrize("pixels_a_metre", [1, 2**31 - 1])
def test_any_resolution_costs_no_image(format, pixels_a_metre):
    data = bytearray(written(SRGB))
    data[38:46] = struct.pack("<2I", pixels_a_metre, pixels_a_metre)
    assert decode(encode(decode(bytes(data), 9, keep=True), format).data, 9, keep=True).pixels.shape == (1, 1, 3)
