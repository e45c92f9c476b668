"""jpeg_xl: headers against what libjxl writes and against bits by hand, every mode and depth, and broken files."""

import random
import struct

import imagecodecs
import numpy as np
import pytest

from imagewizard.images import colour, jpeg_xl, metadata_places
from imagewizard.images.decoding import Stored
from imagewizard.images.errors import ImageError
from imagewizard.images.jpeg_xl import Header
from imagewizard.images.picture import decode
from imagewizard.images.png_chunks import Chunk
from tests.support.sample_files import camera_exif, photo

ENOUGH = 1_000_000
PHOTO = photo(40, 56, seed=5)


def reason(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, ENOUGH, True)
    return str(caught.value)


@pytest.mark.parametrize("bits", [2, 7, 8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("in_boxes", [False, True])
def test_lossless_of_every_depth(bits, channels, in_boxes):
    values = np.random.default_rng(0).integers(0, 2**bits, (20, 30, channels)).astype("u1" if bits <= 8 else "u2")
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    data = imagecodecs.jpegxl_encode(
        values.squeeze(), lossless=True, bitspersample=bits, usecontainer=in_boxes, effort=1
    )
    picture = decode(data, ENOUGH, True)
    white = 255 if bits <= 8 else 65535
    spread = np.floor(values * (white / (2**bits - 1)) + 0.5)
    np.testing.assert_array_equal(picture.pixels, spread[:, :, : 1 if channels < 3 else 3])
    if channels in (2, 4):
        np.testing.assert_array_equal(picture.alpha, spread[:, :, -1])
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("size", [(1, 1), (8, 16), (40, 256), (300, 7), (512, 513), (8193, 3), (96, 120), (90, 160)])
def test_sizes(size):
    data = imagecodecs.jpegxl_encode(np.zeros(size, np.uint8), lossless=True, effort=1)
    header = jpeg_xl.header(data)
    assert (header.height, header.width) == size
    assert decode(data, ENOUGH, True).pixels.shape == (*size, 1)
    pixels = size[0] * size[1]
    with pytest.raises(ImageError, match=f"too many pixels: {size[1]}x{size[0]} = {pixels} "):
        decode(data, pixels - 1, True)


def test_lossy_of_a_photo():
    pixels = decode(imagecodecs.jpegxl_encode(PHOTO, level=95), ENOUGH, True).pixels
    assert np.abs(pixels.astype(int) - PHOTO).mean() < 6


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_floating_point_is_named(dtype):
    data = imagecodecs.jpegxl_encode(np.full((4, 5), 0.5, dtype), lossless=True)
    kind = f"JPEG XL with {8 * int(dtype[1])}-bit floating point samples"
    assert reason(data).startswith(f"unsupported pixels: {kind}; ")


# -------------------------------------------------------------------------------------------------- headers by hand


def codestream(*fields: tuple[int, int]) -> bytes:
    """A header of these numbers with their counts of bits."""
    value = place = 0
    for number, count in fields:
        value |= number << place
        place += count
    return b"\xff\x0a" + value.to_bytes(place // 8 + 8, "little")


SMALL = ((1, 1), (4, 5), (1, 3))  # 40 rows, square
EIGHT_BITS = ((0, 1), (0, 2), (1, 1))  # integers; enough with 16 bits
NO_EXTRA = (0, 2)


def test_all_as_usual():
    assert jpeg_xl.header(codestream(*SMALL, (1, 1))) == Header(40, 40)


def test_extra_fields_and_animations_are_passed_over():
    fields = [(0, 1), (1, 1), (5, 3)]  # not all as usual; extra fields: orientation 6
    fields += [(1, 1), (1, 1), (7, 5), (1, 3)]  # shown with another size
    fields += [(1, 1), (0, 1), (0, 2), (9, 6), (0, 3), (1, 2), (5, 8)]  # a preview
    fields += [(1, 1), (2, 2), (99, 10), (0, 2), (1, 2), (3, 3), (0, 1)]  # an animation
    data = codestream(*SMALL, *fields, *EIGHT_BITS, NO_EXTRA, (1, 1), (1, 1))
    assert jpeg_xl.header(data) == Header(40, 40, is_lossy=True, orientation=6, is_animated=True)


def test_extra_channels():
    # 2 + 1 of them: usual alpha; alpha of 16 bits, named, associated; a spot colour
    channels = [(2, 2), (1, 4), (1, 1)]
    channels += [(0, 1), (0, 2), (0, 1), (3, 2), (15, 6), (0, 2), (1, 2), (2, 4), (0x6261, 16), (1, 1)]
    channels += [(0, 1), (2, 2), (0, 4), (0, 1), (0, 2), (0, 2), (0, 2), (0, 64)]
    header = jpeg_xl.header(codestream(*SMALL, (0, 1), (0, 1), *EIGHT_BITS, *channels, (0, 1), (1, 1)))
    assert header.extra == ((0, False), (0, True), (2, False)) and not header.is_lossy
    assert header.unsupported() == "JPEG XL with other extra channels than one of alpha"


@pytest.mark.parametrize(
    ("colours", "found"),
    [
        ([(1, 1)], (False, None)),
        ([(0, 1), (1, 1), (0, 2)], (True, None)),  # a profile, RGB
        ([(0, 1), (0, 1), (0, 2), (1, 2), (2, 2), (9, 4), (0, 1), (2, 2), (11, 4)], (False, (12, 13))),  # P3, sRGB's
        ([(0, 1), (0, 1), (0, 2), (1, 2), (1, 2), (0, 1), (2, 2), (6, 4)], (False, (1, 8))),  # sRGB, linear
        ([(0, 1), (0, 1), (0, 2), (1, 2), (1, 2), (0, 1), (2, 2), (11, 4)], (False, None)),  # sRGB
        ([(0, 1), (0, 1), (0, 2), (2, 2), (8, 4), (1, 2), (0, 1), (2, 2), (14, 4)], (False, (2, 16))),  # white E, PQ
    ],
)
def test_colours(colours, found):
    header = jpeg_xl.header(codestream(*SMALL, (0, 1), (0, 1), *EIGHT_BITS, NO_EXTRA, (0, 1), *colours))
    assert (header.has_profile, header.coding_points) == found


def own(*millionths: int) -> list[tuple[int, int]]:
    """Coordinates: all in the field of 19 bits from 0, 524288 or 1048576 (20 bits) on; the lowest bit is the sign."""
    fields = list[tuple[int, int]]()
    for value in millionths:
        coded = 2 * value if value >= 0 else -2 * value - 1
        way = 0 if coded < 524288 else 1 if coded < 1048576 else 2
        fields += [(way, 2), (coded - (0, 524288, 1048576)[way], (19, 19, 20)[way])]
    return fields


SPACE, SAYS_ALL = [(0, 1), (0, 1), (0, 2)], ((0, 1), (0, 1), *EIGHT_BITS, NO_EXTRA, (0, 1))  # RGB without a profile
ADOBE = [(2, 2), (0, 4), *own(312700, 329000), (2, 2), (0, 4), *own(640000, 330000, 210000, 710000, 150000, 60000)]
MEASURED = [
    # sRGB's colours, the exponent 0.45455
    ([*SPACE, (1, 2), (1, 2), (1, 1), (4545500, 24)], [b"gAMA", 45455], [31270, 32900, 64000, 33000, 30000, 60000]),
    # its own white and primaries: Adobe RGB's, linear
    (
        [*SPACE, *ADOBE, (0, 1), (2, 2), (6, 4)],
        [b"gAMA", 100000],
        [31270, 32900, 64000, 33000, 21000, 71000],
    ),
    # white E, sRGB's curve
    ([*SPACE, (2, 2), (8, 4), (1, 2), (0, 1), (2, 2), (11, 4)], [], [33333, 33333, 64000, 33000, 30000, 60000]),
]


@pytest.mark.parametrize(("fields", "gamma", "places"), MEASURED)
def test_colours_without_numbers_become_gamma_and_chromaticities(fields, gamma, places):
    data = codestream(*SMALL, *SAYS_ALL, *fields)
    found, notes = metadata_places.found(data, Stored(np.zeros((1, 1, 3), np.uint8), None))
    expected = [Chunk(gamma[0], struct.pack(">I", gamma[1]))] if gamma else []
    assert found.colour == (*expected, Chunk(b"cHRM", struct.pack(">8I", *places, 15000, 6000))) and notes == []
    profile, lost = colour.profile(found.colour, None, False)
    assert profile is not None and lost is None


def test_primaries_below_zero_are_named():
    fields = [*SPACE, (1, 2), (2, 2), (0, 4), *own(730000, 265000, 0, 1000000, 100, -77000), (1, 1), (4545500, 24)]
    data = codestream(*SMALL, *SAYS_ALL, *fields)
    found, notes = metadata_places.found(data, Stored(np.zeros((1, 1, 3), np.uint8), None))
    assert [chunk.kind for chunk in found.colour] == [b"gAMA"] and notes == ["without primaries (some are below zero)"]


def test_lossy_pixels_under_a_profile_are_named():
    header = Header(1, 1, has_profile=True, is_lossy=True)
    assert header.unsupported() == "JPEG XL of lossy pixels under an ICC profile"
    assert Header(1, 1, has_profile=True).unsupported() is None


# --------------------------------------------------------------------------------------------------------------- boxes


def with_box(kind: bytes, body: bytes) -> bytes:
    data = imagecodecs.jpegxl_encode(PHOTO, lossless=True, usecontainer=True, effort=1)
    return data + struct.pack(">I4s", 8 + len(body), kind) + body


def test_exif_in_a_box_compressed_or_not():
    exif = camera_exif().tobytes()[6:]
    for kind, body in ((b"Exif", bytes(4) + exif), (b"brob", b"Exif" + imagecodecs.brotli_encode(bytes(4) + exif))):
        data = with_box(kind, body)
        assert jpeg_xl.beside(data, b"Exif") == bytes(4) + exif
        picture = decode(data, ENOUGH, True)
        assert picture.metadata.exif is not None and b"Maker" in picture.metadata.exif
    assert jpeg_xl.beside(imagecodecs.jpegxl_encode(PHOTO), b"Exif") is None
    bomb = with_box(b"brob", b"Exif" + imagecodecs.brotli_encode(bytes(100_000_000), level=1))
    np.testing.assert_array_equal(decode(bomb, ENOUGH, True).pixels, PHOTO)


def test_the_first_box_that_is_wanted_is_the_only_one_unpacked(monkeypatch):
    unpacked = list[bytes]()
    data = imagecodecs.jpegxl_encode(PHOTO, usecontainer=True)
    for kind in (b"abcd", b"xml ", b"xml ", b"Exif"):
        data += struct.pack(">I4s4s", 20, b"brob", kind) + b"garbage "
    monkeypatch.setattr(imagecodecs, "brotli_decode", lambda body, out: unpacked.append(body) or bytes(9))
    assert jpeg_xl.beside(data, b"xml ") == bytes(9) and unpacked == [b"garbage "]
    assert jpeg_xl.beside(data, b"none") is None and len(unpacked) == 1


# -------------------------------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize("in_boxes", [False, True])
def test_cut_and_fuzzed_files(in_boxes):
    data = imagecodecs.jpegxl_encode(PHOTO, lossless=True, usecontainer=in_boxes, effort=1)
    for length in range(12, len(data) - 1, len(data) // 30):
        assert reason(data[:length]) == "truncated file: the JXL ends before its pixels do", length
    rng = random.Random(0)
    for _ in range(60):
        fuzzed = bytearray(data)
        fuzzed[rng.randrange(12 if in_boxes else 2, 80)] = rng.randrange(256)
        try:
            decode(bytes(fuzzed), ENOUGH, True)
        except ImageError:
            continue
