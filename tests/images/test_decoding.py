"""decoding: every conversion against values worked out by hand, as scoring sees it, and limits on what is decoded."""

import io
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from imagewizard.images.errors import ImageError
from imagewizard.images.picture import decode_rgb as decode
from tests.support.sample_files import UPRIGHT, encoded, png, png_chunk, tiff, valid_files

ENOUGH = 1_000_000
RED, BLUE = (255, 0, 0), (0, 0, 255)


def pixels(data: bytes) -> list[tuple[int, ...]]:
    """The decoded pixels in reading order."""
    return [tuple(pixel) for pixel in decode(data, ENOUGH).reshape(-1, 3).tolist()]


def greys(*values: int) -> list[tuple[int, ...]]:
    return [(value,) * 3 for value in values]


def reason(data: bytes, max_pixels: int = ENOUGH) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels)
    return str(caught.value)


def deep_grey(values: list[int], order: str = ">") -> bytes:
    return struct.pack(f"{order}{len(values)}H", *values)


def test_grey_and_one_bit_and_two_bit():
    assert pixels(png(2, 1, 8, 0, b"\0\7\x09")) == greys(7, 9)
    assert pixels(png(8, 1, 1, 0, b"\0\xa8")) == greys(255, 0, 255, 0, 255, 0, 0, 0)
    assert pixels(png(4, 1, 2, 0, b"\0\x1b")) == greys(0, 85, 170, 255)
    assert pixels(tiff(8, 1, 1, 0, b"\xa8")) == greys(0, 255, 0, 255, 0, 255, 255, 255)  # white is zero


@pytest.mark.parametrize("transparency", [(), (png_chunk(b"tRNS", bytes([0, 128])),)])
def test_palette_gives_its_colours_transparent_or_not(transparency):
    palette = png_chunk(b"PLTE", bytes(range(1, 10)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow finds fault with translating transparency that is a list
        assert pixels(png(3, 1, 8, 3, b"\0\2\0\1", palette, *transparency)) == [(7, 8, 9), (1, 2, 3), (4, 5, 6)]


def test_transparent_gif_gives_its_colours():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image, "GIF", transparency=1)) == [(10, 20, 30), (40, 50, 60)]


def test_alpha_is_dropped_and_colours_stay_as_stored():
    assert pixels(png(2, 1, 8, 6, bytes([0, 1, 2, 3, 0, 4, 5, 6, 128]))) == [(1, 2, 3), (4, 5, 6)]
    assert pixels(png(2, 1, 8, 4, bytes([0, 9, 0, 8, 128]))) == greys(9, 8)
    assert pixels(png(1, 1, 8, 2, b"\0\1\2\3", png_chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))) == [(1, 2, 3)]
    assert pixels(png(2, 1, 8, 0, b"\0\7\x09", png_chunk(b"tRNS", struct.pack(">H", 7)))) == greys(7, 9)
    colormap = [0] * 768
    colormap[1], colormap[256 + 1], colormap[512 + 1] = 20 * 256, 40 * 256, 60 * 256
    assert pixels(tiff(1, 1, 8, 3, bytes([1, 0]), samples=2, extra=2, colormap=colormap)) == [(20, 40, 60)]


def test_premultiplied_alpha_is_divided_out():
    (grey,) = pixels(tiff(1, 1, 8, 1, bytes([50, 128]), samples=2, extra=1))
    (colour,) = pixels(tiff(1, 1, 8, 2, bytes([100, 50, 25, 128]), samples=4, extra=1))
    assert grey == pytest.approx((99.6,) * 3, abs=1)  # 50 * 255 / 128
    assert colour == pytest.approx((199.2, 99.6, 49.8), abs=1)


# 16 bits: 128 / 257 = 0.498, 129 / 257 = 0.502, 385 / 257 = 1.498, 386 / 257 = 1.502
DEEP, SHALLOW = [0, 128, 129, 385, 386, 65535], greys(0, 0, 1, 1, 2, 255)


def test_sixteen_bit_grey_is_rounded():
    big_endian = encoded(Image.frombytes("I;16B", (6, 1), deep_grey(DEEP)), "TIFF")
    assert pixels(png(6, 1, 16, 0, b"\0" + deep_grey(DEEP))) == SHALLOW
    assert pixels(png(6, 1, 16, 0, b"\0" + deep_grey(DEEP), png_chunk(b"tRNS", b"\0\x80"))) == SHALLOW
    assert pixels(tiff(6, 1, 16, 1, deep_grey(DEEP, "<"))) == SHALLOW
    assert Image.open(io.BytesIO(big_endian)).mode == "I;16B"
    assert pixels(big_endian) == SHALLOW
    assert pixels(tiff(2, 1, 16, 0, deep_grey([0, 65535], "<"))) == greys(255, 0)  # white is zero


def test_twelve_bit_grey_reaches_white():
    assert pixels(tiff(2, 1, 12, 1, b"\xff\xf8\x09")) == greys(255, 128)  # 4095; 2057 * 255 / 4095 = 128.1


def test_integers_count_as_sixteen_bit_and_are_refused_beyond():
    assert pixels(tiff(2, 1, 16, 1, deep_grey([0, 386], "<"), sample_format=2)) == greys(0, 2)
    assert pixels(tiff(2, 1, 32, 1, struct.pack("<2I", 386, 65535))) == greys(2, 255)
    below = tiff(2, 1, 16, 1, struct.pack("<2h", -5, 300), sample_format=2)
    assert reason(below).startswith("unsupported pixels: TIFF with signed 16-bit integers from -5 to 300,")
    above = tiff(1, 1, 32, 1, struct.pack("<I", 65536))
    assert reason(above).startswith("unsupported pixels: TIFF with unsigned 32-bit integers from 65536 to 65536,")


def test_floating_point_is_refused():
    data = tiff(2, 1, 32, 1, struct.pack("<2f", 0.5, 1.0), sample_format=3)
    assert reason(data).startswith("unsupported pixels: TIFF with 32-bit floating point samples,")


def test_sixteen_bit_colour_is_rounded():
    deep = [0, 128, 129, 385, 386, 65535]
    expected = [(0, 0, 1), (1, 2, 255)]
    assert pixels(png(2, 1, 16, 2, b"\0" + deep_grey(deep))) == expected
    assert pixels(tiff(2, 1, 16, 2, deep_grey(deep, "<"), samples=3)) == expected
    assert pixels(png(2, 1, 16, 4, b"\0" + deep_grey([385, 0, 386, 0]))) == greys(1, 2)
    assert pixels(tiff(2, 1, 16, 1, deep_grey([385, 0, 386, 0], "<"), samples=2, extra=2)) == greys(1, 2)


def test_cmyk():
    # (255 - 100)(255 - 40) / 255 = 130.7, (255 - 50)(255 - 40) / 255 = 172.8, 255 - 40 = 215
    assert pixels(tiff(2, 1, 8, 5, bytes([100, 50, 0, 40, 0, 0, 0, 0]), samples=4)) == [(131, 173, 215), (255,) * 3]


def test_cmyk_jpeg_is_stored_inverted_as_adobe_does():
    jpeg = encoded(Image.new("CMYK", (8, 8), (100, 50, 0, 40)), "JPEG", quality=100)
    assert b"Adobe" in jpeg
    assert set(pixels(jpeg)) == {(131, 173, 215)}


def test_ycbcr_and_lab():
    # R = 76 + 1.402 * 127, G = 76 + 0.344 * 43 - 0.714 * 127, B = 76 - 1.772 * 43
    assert pixels(tiff(2, 1, 8, 6, bytes([128, 128, 128, 76, 85, 255]), samples=3)) == [(128,) * 3, (254, 0, 0)]
    white, middle = pixels(tiff(2, 1, 8, 8, bytes([255, 0, 0, 128, 0, 0]), samples=3))
    assert white == pytest.approx((255,) * 3, abs=1)
    # L* = 50.2: Y = ((50.2 + 16) / 116)^3 = 0.1859, sRGB 255 * (1.055 * Y^(1 / 2.4) - 0.055) = 119.4
    assert middle == pytest.approx((119.4,) * 3, abs=1)


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_first_frame_of_many(format):
    options = {"lossless": True} if format == "WEBP" else {}
    first, second = Image.new("RGB", (3, 2), RED), Image.new("RGB", (3, 2), BLUE)
    data = encoded(first, format, save_all=True, append_images=[second], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert pixels(data) == [RED] * 6


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, format):
    # steps of 40 in 8x8 blocks survive JPEG
    stored = np.kron(np.array(UPRIGHT[1], np.uint8) * 40, np.ones((8, 8), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    image = Image.fromarray(np.dstack([stored] * 3))
    decoded = decode(encoded(image, format, exif=exif, **options), ENOUGH)
    np.testing.assert_array_equal(np.round(decoded[4::8, 4::8, 1] / 40), UPRIGHT[orientation])


def test_broken_exif_costs_no_image():
    image = Image.new("RGB", (3, 2), RED)
    for exif in (b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\1\x12"):
        assert pixels(encoded(image, "PNG", exif=exif)) == [RED] * 6


# ----------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_max_pixels_is_the_only_limit(format):
    data = encoded(Image.new("RGB", (60, 50), RED), format)
    assert decode(data, 3000).shape == (50, 60, 3)
    assert reason(data, 2999) == (
        "too many pixels: 60x50 = 3000 pixels is over the limit of 2999; raise images limit `max_pixels`"
    )


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_pillows_limit_counts_where_it_is_kept(format, monkeypatch):
    data = encoded(Image.new("RGB", (60, 50), RED), format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses more than twice that
    assert reason(data).startswith("too many pixels: Image size (3000 pixels) exceeds limit of 200 pixels")


def test_threads_decode_side_by_side():
    files = list(valid_files().values()) * 8
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda data: decode(data, ENOUGH), files))
    assert {image.shape for image in decoded} == {(40, 56, 3)}


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is enforced on Linux only")
def test_an_image_that_does_not_fit_in_memory(tmp_path):
    (tmp_path / "large.png").write_bytes(png(20_000, 20_000, 1, 0, bytes(2501) * 20_000))
    result = run_python(
        "import pathlib, resource, sys\n"
        "from imagewizard.images.decoding import quiet\n"
        "from imagewizard.images.errors import ImageError\n"
        "from imagewizard.images.picture import decode_rgb\n"
        "quiet()\n"
        "data = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)\n"
        "try:\n    decode_rgb(data, 10**9)\nexcept ImageError as error:\n    print(error)\n",
        str(tmp_path / "large.png"),
    )
    assert result.stdout == "out of memory: the decoded image does not fit in memory\n", result.stderr


def test_nothing_is_printed_about_broken_files(tmp_path):
    fax = bytearray(valid_files()["tiff-fax"])
    fax[20] ^= 0xFF  # among the pixels
    files = {
        "palette.png": valid_files()["png-palette"],
        "animation-without-frames.png": png(1, 1, 8, 0, bytes(2), png_chunk(b"acTL", bytes(8))),
        "255-samples.tif": tiff(2, 1, 8, 2, bytes(6), samples=3).replace(
            struct.pack("<HHIH", 277, 3, 1, 3), struct.pack("<HHIH", 277, 3, 1, 255)
        ),
        "fax.tif": bytes(fax),
        "profile.png": png(1, 1, 16, 2, bytes(7), png_chunk(b"iCCP", b"x\0\0garbage")),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    decode_all = (
        "import io, pathlib, sys\n"
        "{decoder}\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try:\n        decode(path.read_bytes())\n    except Exception:\n        pass\n"
    )
    ours = (
        "from imagewizard.images.decoding import quiet\nfrom imagewizard.images.picture import decode_rgb\n"
        "quiet()\ndecode = lambda data: decode_rgb(data, 10**9)"
    )
    pillow = "from PIL import Image\ndecode = lambda data: Image.open(io.BytesIO(data)).convert('RGB')"
    assert run_python(decode_all.format(decoder=ours), str(tmp_path)).stderr == ""
    noise = run_python(decode_all.format(decoder=pillow), str(tmp_path)).stderr
    # what would have been printed, so that this test tests something: warnings, the log, and libtiff
    for sign in ("Palette images", "Invalid APNG", "More samples per pixel", "Fax4Decode"):
        assert sign in noise


def test_importing_changes_nothing_of_the_process_and_quiet_does():
    script = (
        "import ctypes, logging, warnings\n"
        "import imagecodecs, numpy\n"  # they have filters of their own
        "from PIL import Image\n"
        "def settings():\n"
        "    levels = [logging.getLogger(name).level for name in ('PIL', 'imagecodecs')]\n"
        "    return levels, Image.MAX_IMAGE_PIXELS, list(warnings.filters)\n"
        "before = settings()\n"
        "from imagewizard.images import decoding, deep_colour, encoding, errors, exif, formats, picture\n"
        "print(settings() == before)\n"
        "decoding.quiet()\n"
        "print([old == new for old, new in zip(before, settings())])\n"
    )
    assert run_python(script).stdout == "True\n[False, False, False]\n"
