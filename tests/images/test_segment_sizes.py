"""segment_sizes: against what encoders write; what no header bounds is refused before it is decoded."""

import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from imagewizard.images import segment_sizes
from tests.support.sample_files import encoded

GREY = np.zeros((60, 700), np.uint8)
RGB = np.zeros((60, 700, 3), np.uint8)
SOUND = {
    "png": imagecodecs.png_encode(GREY),
    "jpeg": imagecodecs.jpeg8_encode(GREY),
    "jpeg 2000": imagecodecs.jpeg2k_encode(RGB, codecformat="j2k"),
    "jp2": imagecodecs.jpeg2k_encode(RGB, codecformat="jp2"),
    "jpeg xl": imagecodecs.jpegxl_encode(RGB),
    "jpeg xr": imagecodecs.jpegxr_encode(GREY),
    "lossless webp": imagecodecs.webp_encode(RGB, lossless=True),
    "lossy webp": imagecodecs.webp_encode(RGB),
    "webp with more": encoded(Image.fromarray(RGB), "WEBP", xmp=b"<x/>"),
    "lerc": imagecodecs.lerc_encode(GREY),
    "older lerc": imagecodecs.lerc_encode(GREY, version=2),
}


@pytest.mark.parametrize("kind", SOUND)
def test_every_codec(kind):
    assert segment_sizes.pixels(SOUND[kind]) == 60 * 700
    for length in range(0, 70):
        try:
            assert segment_sizes.pixels(SOUND[kind][:length]) == 60 * 700
        except ValueError:
            continue


def test_a_large_jpeg_xr():
    wide = imagecodecs.jpegxr_encode(np.zeros((2, 70_000), np.uint8))
    assert segment_sizes.pixels(wide) == 140_000  # beyond 16 bits
    assert segment_sizes.pixels(SOUND["jpeg xr"] + wide) == 140_000


SIZ = b"\xff\x4f\xff\x51\0\x29\0\0" + struct.pack(">8I", 30, 40, 0, 0, 30, 40, 0, 0)


@pytest.mark.parametrize(
    "segment",
    [
        b"",
        b"garbage",
        SOUND["lossless webp"][20:],  # its bitstream alone, which the decoder takes
        encoded(Image.fromarray(RGB), "WEBP", save_all=True, append_images=[Image.new("RGB", (700, 60), "red")]),
        SIZ + struct.pack(">H", 16_384),  # channels
        SOUND["lerc"] * 7,  # a band each
        b"Lerc2 " + struct.pack("<iI3I", 4, 0, 1, 1, 1_000_000),  # values of a pixel
        imagecodecs.jpegxl_encode(np.stack([RGB, RGB + 1]), photometric="rgb"),  # frames
    ],
)
def test_what_no_header_bounds(segment):
    with pytest.raises(ValueError, match=r"size|more than its part"):
        segment_sizes.pixels(segment)
