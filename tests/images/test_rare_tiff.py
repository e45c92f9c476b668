"""rare_tiff: depths, kinds of numbers, colours and compressions beyond Pillow, by the arrays they were made of."""

import io
import random
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from imagewizard.images.errors import ImageError
from imagewizard.images.orientation import upright
from imagewizard.images.picture import Picture, decode
from tests.support.sample_files import encoded, png, tiff

ENOUGH = 1_000_000
RANDOM = np.random.default_rng(0)


def read(data: bytes) -> Picture:
    return decode(data, ENOUGH, True)


def reason(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read(data)
    return str(caught.value)


def written(samples: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


def values(bits: int, *shape: int) -> np.ndarray:
    """Random integers with black and white among them."""
    numbers = RANDOM.integers(0, 2**bits, shape, dtype=np.uint64)
    numbers.flat[:2] = 0, 2**bits - 1
    return numbers


def spread(numbers: np.ndarray, bits: int) -> np.ndarray:
    """round(white v / (2^bits - 1)), exact."""
    white = 255 if bits <= 8 else 65535
    return np.array([(2 * white * int(v) + 2**bits - 1) // (2 * (2**bits - 1)) for v in numbers.flat]).reshape(
        numbers.shape
    )


# ------------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 20, 24, 31, 32])
@pytest.mark.parametrize("photometric", [0, 1, 2, 5])
def test_any_depth_is_spread_to_white(bits, photometric):
    channels = {2: 3, 5: 4}.get(photometric, 1)
    numbers = values(min(bits, 16) if channels == 1 else bits, 3, 8, channels)
    if bits in (16, 32):
        packed = numbers.astype(f"<u{bits // 8}").tobytes()
    else:
        kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
        rows = [imagecodecs.packints_encode(row.ravel().astype(kind), bits) for row in numbers]
        packed = b"".join(rows)
    pixels = read(tiff(8, 3, bits, photometric, packed, samples=channels)).pixels
    expected = numbers.astype(int) if channels == 1 and bits > 16 else spread(numbers, bits)
    white = 255 if bits <= 8 else 65535
    if photometric == 0:
        expected = white - expected
    if photometric == 5:
        expected = np.floor((white - expected[:, :, :3]) * (white - expected[:, :, 3:]) / white + 0.5)
    assert pixels.dtype == (np.uint8 if bits <= 8 else np.uint16)
    np.testing.assert_array_equal(pixels, expected)


def test_sixty_four_bits_of_colour():
    numbers = values(64, 5, 4, 3)
    np.testing.assert_array_equal(read(written(numbers, photometric="rgb")).pixels, spread(numbers, 64))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u4", "u8"])
def test_integers_without_a_certain_white_count_as_they_are_or_are_refused(dtype):
    numbers = np.array([[0, 7, 127]], dtype)
    pixels = read(written(numbers, photometric="minisblack")).pixels
    assert pixels.dtype == (np.uint8 if dtype == "i1" else np.uint16)
    assert pixels.ravel().tolist() == [0, 7, 127]
    beyond = 70_000 if dtype[0] == "u" else -1
    signed = "unsigned" if dtype[0] == "u" else "signed"
    assert reason(written(np.array([[3, beyond]], dtype), photometric="minisblack")).startswith(
        f"unsupported pixels: TIFF with {signed} {8 * int(dtype[1])}-bit integers from "
    )


@pytest.mark.parametrize(("dtype", "bits"), [("f2", 16), ("f4", 32), ("f8", 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_is_named(dtype, bits, channels):
    image = RANDOM.random((4, 5, channels)).astype(dtype)
    for options in ({}, {"compression": "zlib", "predictor": True}):
        data = written(image, photometric="rgb" if channels == 3 else "minisblack", **options)
        assert reason(data).startswith(f"unsupported pixels: TIFF with {bits}-bit floating point samples, ")


def test_other_kinds_that_are_not_decoded_are_named():
    grey = RANDOM.integers(0, 255, (4, 5)).astype(np.uint8)
    refused = {
        "64-bit complex samples": written(grey.astype("c8"), photometric="minisblack"),
        "pixels of the kind CFA": written(grey, photometric="cfa"),
        "pixels of the kind LOGLUV": tiff(1, 1, 16, 32845, bytes(6), samples=3),
        "LAB of 4 bits a channel": tiff(2, 1, 4, 8, bytes(3), samples=3),
        "7 channels": tiff(1, 1, 8, 1, bytes(7), samples=7),
        "2 channels": tiff(1, 1, 8, 2, bytes(2), samples=2),
        "the compression JBIG": tiff(1, 1, 8, 1, b"1").replace(
            b"\x03\x01\x03\0\1\0\0\0\1\0", b"\x03\x01\x03\0\1\0\0\0\x65\x87"
        ),
    }
    for kind, data in refused.items():
        assert reason(data).startswith(f"unsupported pixels: TIFF with {kind}"), kind


# ------------------------------------------------------------------------------------------------------------ colours


def test_alpha_beside_cmyk_and_lab():
    cmyk = values(16, 4, 5, 5).astype(np.uint16)
    picture = read(written(cmyk, photometric="separated", planarconfig="contig", extrasamples=["unassalpha"]))
    np.testing.assert_array_equal(picture.alpha, cmyk[:, :, 4])
    light = 65535.0 - cmyk[:, :, :4]
    np.testing.assert_array_equal(picture.pixels, np.floor(light[:, :, :3] * light[:, :, 3:] / 65535 + 0.5))
    lab = np.concatenate([values(16, 1, 5, 3).astype(np.uint16), np.full((1, 5, 1), 9, np.uint16)], -1)
    picture = read(written(lab, photometric="cielab", planarconfig="contig", extrasamples=["unassalpha"]))
    assert picture.alpha is not None and picture.alpha.tolist() == [[9] * 5]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_chroma_that_pixels_share(orientation):
    luma = np.array([[16, 50, 90, 130], [200, 220, 240, 255]], np.uint8)
    units = b"".join(luma[:, x : x + 2].tobytes() + bytes([128, 128]) for x in (0, 2))  # 2x2 of luma, Cb, Cr
    data = tiff(4, 2, 8, 6, units, samples=3, orientation=orientation).replace(  # four times fewer of each
        struct.pack("<HHIHH", 530, 3, 2, 1, 1), struct.pack("<HHIHH", 530, 3, 2, 2, 2)
    )
    grey = read(data).pixels
    np.testing.assert_array_equal(grey, np.repeat(upright(luma[:, :, None], orientation), 3, axis=2))


def test_pixels_of_one_bit_a_channel():
    packed = bytes([0b1001_0110, 0b1111_0000])
    picture = read(tiff(4, 1, 1, 2, packed, samples=4, extra=2))
    assert picture.pixels.tolist() == [[[255, 0, 0], [0, 255, 255], [255, 255, 255], [0, 0, 0]]]
    assert picture.alpha is not None and picture.alpha.tolist() == [[255, 0, 255, 0]]
    picture = read(tiff(4, 1, 1, 1, bytes([0b10_01_11_00]), samples=2, extra=2))
    assert picture.pixels.ravel().tolist() == [255, 0, 255, 0]
    assert picture.alpha is not None and picture.alpha.tolist() == [[0, 255, 255, 0]]


def test_premultiplied_alpha_of_ten_bits_is_divided_out():
    packed = imagecodecs.packints_encode(np.array([100, 50, 0, 511], np.uint16), 10)
    picture = read(tiff(1, 1, 10, 2, packed, samples=4, extra=1))
    assert picture.pixels[0, 0].tolist() == [round(65535 * 100 / 511), round(65535 * 50 / 511), 0]
    assert picture.alpha is not None and picture.alpha[0, 0] == round(511 * 65535 / 1023)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("photometric", ["rgb", "separated"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_premultiplied_alpha_of_every_depth_is_divided_out_before_colours_are_converted(dtype, photometric, planar):
    most, inks = float(np.iinfo(dtype).max), 4 if photometric == "separated" else 3
    part = np.linspace(0, 1, 7 * 8 * inks).reshape(7, 8, inks)
    alpha = np.linspace(0.2, 1, 56).reshape(7, 8, 1)
    stored = (np.concatenate([part * alpha, alpha], 2) * most * 0.999).astype(dtype)
    data = written(
        stored if planar == "contig" else np.moveaxis(stored, 2, 0),
        photometric=photometric,
        planarconfig=planar,
        extrasamples=["assocalpha"],
    )
    picture = read(data)
    expected = part if inks == 3 else (1 - part[:, :, :3]) * (1 - part[:, :, 3:])
    white = 255 if dtype == "u1" else 65535
    assert np.abs(picture.pixels / white - expected).max() < (0.05 if dtype == "u1" else 3e-4)
    assert picture.alpha is not None and np.abs(picture.alpha / white - alpha[:, :, 0] * 0.999).max() < 0.005


# ------------------------------------------------------------------------------------------------------- compressions


LOSSLESS = [
    {"compression": "jpeg2000", "compressionargs": {"reversible": True}},
    {"compression": "png"},
    {"compression": "jpegxl"},
    {"compression": "jpegxr", "compressionargs": {"level": 100}},
    {"compression": "webp", "compressionargs": {"lossless": True}},
    {"compression": "lerc"},
    {"compression": "zstd", "predictor": True},
    {"compression": "lzma", "tile": (16, 16)},
]


@pytest.mark.parametrize(
    ("options", "dtype", "channels"),
    [
        (options, dtype, channels)
        for options in LOSSLESS
        for dtype in ("u1", "u2")
        for channels in (1, 3, 4)
        if options["compression"] != "webp" or (dtype == "u1" and channels > 1)  # WebP has 8 bits of colour only
    ],
)
def test_every_lossless_compression(options, dtype, channels):
    samples = values(8 * int(dtype[1]), 20, 35, channels).astype(dtype)
    options = options | ({"extrasamples": ["unassalpha"]} if channels == 4 else {})
    data = written(
        samples[:, :, 0] if channels == 1 else samples, photometric="minisblack" if channels == 1 else "rgb", **options
    )
    picture = read(data)
    np.testing.assert_array_equal(picture.pixels, samples[:, :, :3])
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, samples[:, :, 3])


# -------------------------------------------------------------------------------------------------------- broken files


RARE = {
    "lab": written(values(16, 1, 5, 3).astype(np.uint16), photometric="cielab"),
    "ten bits": tiff(8, 3, 10, 1, imagecodecs.packints_encode(np.arange(24, dtype=np.uint16), 10)),
    "signed": written(np.arange(20, dtype="i1").reshape(4, 5), photometric="minisblack", compression="lzw"),
    "png": written(values(8, 20, 35, 3).astype("u1"), photometric="rgb", compression="png"),
    "tiles": written(values(16, 20, 35, 4).astype("u2"), photometric="separated", compression="zlib", tile=(16, 16)),
}


@pytest.mark.parametrize("kind", RARE)
def test_cut_and_fuzzed_files_decode_or_raise_image_error(kind):
    data, rng = RARE[kind], random.Random(0)
    whole = read(data).pixels
    for length in range(0, len(data), max(1, len(data) // 40)):
        try:
            pixels = read(data[:length]).pixels
        except ImageError:
            continue
        np.testing.assert_array_equal(pixels, whole)
    for _ in range(60):
        fuzzed = bytearray(data)
        for _ in range(rng.choice([1, 3])):
            fuzzed[rng.randrange(min(len(data), 300))] = rng.randrange(256)
        try:
            picture = read(bytes(fuzzed))
        except ImageError:
            continue
        assert picture.pixels.size <= 3 * ENOUGH


def test_pixels_that_are_not_there():
    data = RARE["lab"]
    assert reason(data[:-1]) == "truncated file: the TIFF ends before its pixels do"
    with pytest.raises(ImageError, match="too many pixels: 5x1 = 5 "):
        decode(data, 4, True)


@pytest.mark.parametrize(
    ("compression", "bomb"),
    [
        ("png", png(30_000, 30_000, 8, 0, bytes(100))),
        ("jpeg2000", b"\xff\x4f\xff\x51\0\x29\0\0" + struct.pack(">IIII", 30_010, 30_010, 10, 10) + bytes(25)),
        ("jpegxl", imagecodecs.jpegxl_encode(np.zeros((40, 4000), np.uint8), lossless=True)),
        ("jpeg", encoded(Image.new("L", (4000, 4000)), "JPEG")),
        ("jpegxr", imagecodecs.jpegxr_encode(np.zeros((600, 700), np.uint8))),
        ("webp", imagecodecs.webp_encode(np.zeros((600, 700, 3), np.uint8), lossless=True)),
        ("lerc", imagecodecs.lerc_encode(np.zeros((600, 700), np.uint8))),
    ],
)
def test_a_codec_with_a_size_of_its_own_gives_no_more_than_the_directory_says(compression, bomb):
    if compression == "jpeg":  # grey and RGB are left to Pillow
        data = written(np.zeros((20, 35, 3), np.uint8), photometric="cielab", compression=compression)
    elif compression == "webp":
        data = written(np.zeros((20, 35, 3), np.uint8), photometric="rgb", compression=compression)
    else:
        data = written(np.zeros((20, 35), np.uint8), photometric="minisblack", compression=compression)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages.first.tags
        places = [(tags["StripOffsets"].valueoffset, len(data)), (tags["StripByteCounts"].valueoffset, len(bomb))]
    changed = bytearray(data + bomb)
    for place, value in places:
        changed[place : place + 4] = struct.pack("<I", value)
    assert reason(bytes(changed)).endswith("a strip or tile is larger than the directory says")


def test_strips_that_all_claim_the_same_bytes():
    samples = np.zeros((200, 35), np.uint8)
    data = bytearray(written(samples, photometric="minisblack", compression="png", rowsperstrip=1))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages.first.tags
        places, lengths = tags["StripOffsets"], tags["StripByteCounts"]
    data[places.valueoffset : places.valueoffset + 800] = struct.pack("<200I", *[places.value[0]] * 200)
    np.testing.assert_array_equal(read(bytes(data)).pixels[:, :, 0], samples)  # blank parts may share their bytes
    data[lengths.valueoffset : lengths.valueoffset + 400] = struct.pack("<200H", *[1_000] * 200)
    assert reason(bytes(data + bytes(2_000))).endswith("its strips or tiles overlap")
