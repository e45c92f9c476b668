"""deep_colour: 16-bit PNG and TIFF against what other programs write, and what must not be believed of a header."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile

from imagewizard.images import deep_colour
from imagewizard.images.exif import Tags
from tests.support.sample_files import png, png_chunk, tiff


def deep(*values: int, order: str = ">") -> bytes:
    return struct.pack(f"{order}{len(values)}H", *values)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)


# -------------------------------------------------------------------------------------------------------------- PNG


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_sixteen_bits(colour, channels):
    values = noise(2, 3, channels)
    rows = b"".join(b"\0" + deep(*row.ravel()) for row in values)
    np.testing.assert_array_equal(deep_colour.read_png(png(3, 2, 16, colour, rows)), values)


def test_interlaced_png():
    rows = b"\0" + deep(1, 2, 3) + b"\0" + deep(4, 5, 6)  # of the first pass and the sixth
    data = bytearray(png(2, 1, 16, 2, rows))
    data[28] = 1  # Adam7
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert deep_colour.read_png(bytes(data)).tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_transparent_colour_of_a_png_becomes_alpha():
    def read(colour: int, depth: int, rows: bytes, transparent: bytes) -> list:
        width = 4 if depth == 2 else 2
        return deep_colour.read_png(png(width, 1, depth, colour, rows, png_chunk(b"tRNS", transparent)))[0].tolist()

    assert read(2, 16, b"\0" + deep(1, 2, 3, 1, 2, 4), deep(1, 2, 3)) == [[1, 2, 3, 0], [1, 2, 4, 65535]]
    assert read(0, 16, b"\0" + deep(1, 2), deep(2)) == [[1, 65535], [2, 0]]
    assert read(0, 2, b"\0\x1b", deep(1)) == [[0, 255], [85, 0], [170, 255], [255, 255]]
    assert read(2, 8, b"\0\1\2\3\1\2\4", deep(1, 2, 3)) == [[1, 2, 3, 0], [1, 2, 4, 255]]


def test_png_that_libpng_refuses():
    whole = b"\0" + deep(1, 2, 3)
    second_header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 99999, 99999, 16, 2, 0, 0, 0))
    for data in (png(1, 2, 16, 2, whole), png(1, 1, 16, 2, whole, second_header), png(1_000_001, 1, 16, 2, b"\0")):
        with pytest.raises(ValueError, match=r"^libpng cannot decode its pixels$"):
            deep_colour.read_png(data)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_written_png(channels):
    values = noise(7, 5, channels)
    np.testing.assert_array_equal(imagecodecs.png_decode(deep_colour.write_png(values)).reshape(values.shape), values)


def test_written_grey_that_is_a_view():
    values = noise(7, 5)  # the axis that a view adds has a step of 0
    np.testing.assert_array_equal(imagecodecs.png_decode(deep_colour.write_png(values[:, :, None])), values)


# ------------------------------------------------------------------------------------------------------------- TIFF


def written(samples: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


def read(data: bytes, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    layout = Tags.read(data)
    assert deep_colour.is_deep(layout)
    samples = deep_colour.read_tiff(data, layout, width, height)
    assert samples.flags.c_contiguous and samples.flags.writeable
    return samples


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": 2},
        {"compression": "lzw", "rowsperstrip": 7},
        {"compression": "zlib", "tile": (16, 32)},
        {"bigtiff": True, "compression": "packbits"},
        {"planarconfig": "separate"},
        {"planarconfig": "separate", "compression": "lzw", "predictor": 2, "tile": (16, 16)},
    ],
)
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_tiff_of_sixteen_bits(channels, options, order):
    samples = noise(20, 35, channels)
    stored = np.ascontiguousarray(np.moveaxis(samples, -1, 0)) if "planarconfig" in options else samples
    options = {"planarconfig": "contig"} | options | ({"extrasamples": ["unassalpha"]} if channels % 2 == 0 else {})
    data = written(stored, photometric="minisblack" if channels == 2 else "rgb", byteorder=order, **options)
    np.testing.assert_array_equal(read(data, (20, 35)), samples)


def test_white_is_zero():
    data = tiff(2, 1, 16, 0, deep(0, 5, 65535, 6, order="<"), samples=2, extra=2)
    assert read(data, (1, 2)).tolist() == [[[65535, 5], [0, 6]]]


def test_premultiplied_alpha_is_divided_out():
    # 100 * 65535 / 300 = 21845, 4 * 65535 / 7 = 37448.6; never over white; nothing known of what is fully transparent
    values = [100, 301, 65535, 300, 100, 1, 0, 0, 65535, 32768, 1, 65535, 4, 3, 7, 7]
    data = tiff(4, 1, 16, 2, deep(*values, order="<"), samples=4, extra=1)
    expected = [[21845, 65535, 65535, 300], [65535, 65535, 0, 0], [65535, 32768, 1, 65535], [37449, 28086, 65535, 7]]
    assert read(data, (1, 4)).tolist() == [expected]


def test_channels_that_are_not_alpha_are_dropped():
    assert read(tiff(1, 1, 16, 2, deep(1, 2, 3, 4, order="<"), samples=4, extra=0), (1, 1)).tolist() == [[[1, 2, 3]]]
    assert read(tiff(1, 1, 16, 1, deep(1, 2, order="<"), samples=2), (1, 1)).tolist() == [[[1]]]
    assert read(tiff(1, 1, 16, 1, deep(1, 2, 3, order="<"), samples=3, extra=2), (1, 1)).tolist() == [[[1, 2]]]


def test_what_is_left_to_pillow():
    kinds = [(8, 2, 3, 1), (16, 1, 1, 1), (16, 2, 3, 2), (16, 5, 4, 1), (16, 2, 2, 1), (16, 2, 7, 1), (16, 1, 255, 1)]
    for bits, photometric, samples, sample_format in kinds:
        data = tiff(1, 1, bits, photometric, bytes(20), samples=samples, sample_format=sample_format)
        assert not deep_colour.is_deep(Tags.read(data)), (bits, photometric, samples, sample_format)
    assert not deep_colour.is_deep(Tags())


def test_the_size_is_the_callers():
    data = tiff(6, 4, 16, 2, bytes(6 * 4 * 6), samples=3)
    assert read(data, (4, 6)).shape == (4, 6, 3)
    for size in ((4, 7), (3, 6), (40, 60)):
        with pytest.raises(ValueError, match="shape"):
            read(data, size)


def test_pixels_that_are_not_there():
    for data in (tiff(60_000, 60_000, 16, 2, bytes(100), samples=3), tiff(6, 4, 16, 2, bytes(100), samples=3)):
        layout = Tags.read(data)
        with pytest.raises(imagecodecs.TiffError, match=r"^Read error on "):
            deep_colour.read_tiff(data, layout, layout.integers(256)[0], layout.integers(257)[0])
