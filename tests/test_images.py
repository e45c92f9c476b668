"""images: every conversion against values worked out by hand, every broken kind by its reason, names without twins."""

import io
import random
import struct
import subprocess
import sys
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from imagewizard import images
from imagewizard.errors import UserError
from imagewizard.images import ImageError, decode, encode, output_name
from tests.sample_files import (
    BROKEN,
    encoded,
    photo,
    png,
    png_chunk,
    tiff,
    write_broken_files,
    write_odd_files,
    write_photos,
)

# pytest replaces the process's warning filters, the one that images.py sets among them
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

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


# ------------------------------------------------------------------------------------------------------ conversions


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
    assert reason(below).startswith("unsupported pixels: integers from -5 to 300 ")
    above = tiff(1, 1, 32, 1, struct.pack("<I", 65536))
    assert reason(above).startswith("unsupported pixels: integers from 65536 to 65536 ")


def test_floating_point_is_refused():
    data = tiff(2, 1, 32, 1, struct.pack("<2f", 0.5, 1.0), sample_format=3)
    assert reason(data).startswith("unsupported pixels: floating point")


def test_sixteen_bit_colour_gives_its_upper_byte():
    deep = [255, 256, 65535, 511, 512, 1000]
    expected = [(0, 1, 255), (1, 2, 3)]
    assert pixels(png(2, 1, 16, 2, b"\0" + deep_grey(deep))) == expected
    assert pixels(tiff(2, 1, 16, 2, deep_grey(deep, "<"), samples=3)) == expected
    assert pixels(png(1, 1, 16, 4, b"\0" + deep_grey([1000, 0]))) == greys(3)


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


# what is seen of the stored [[1, 2, 3], [4, 5, 6]] (Exif 2.3, tag 0x0112)
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


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
    assert all(images.is_image_name(name) for name in sizes)


def test_is_image_name():
    names = ["a.png", "a.JPG", "a.Jpeg", "a.webp", "a.bmp", "a.gif", "a.tif", "x/a.TIFF", "a.txt.png"]
    assert all(images.is_image_name(name) for name in names)
    assert not any(images.is_image_name(name) for name in ["a", "png", "a.png.txt", "a.eps", "a.jpgx", "a.png/", ""])


# ----------------------------------------------------------------------------------------------------- broken files

REASONS = {
    "truncated_jpeg": "truncated file: the JPEG ends before its pixels do",
    "truncated_png": "truncated file: the PNG ends before its pixels do",
    "truncated_webp": "truncated file: the WebP ends before its pixels do",
    "empty": "empty file: 0 bytes",
    "text": "not an image: looks like text, and not PNG",
    "html": "not an image: looks like HTML, and not PNG",
    "png_bad_crc": "corrupt file: PNG: broken PNG file (bad header checksum in b'IDAT')",
    "png_bad_zlib": "corrupt file: PNG: broken data stream",
    "bomb": "too many pixels: 50000x50000 = 2500000000 pixels is over the limit of 1000000; "
    "raise images limit `max_pixels`",
    "pdf": "not an image: looks like PDF, and not PNG",
    "wrong_magic": "not an image: looks like unknown binary data, and not PNG",
    "random": "not an image: looks like unknown binary data, and not PNG",
}


def test_broken_files_each_have_a_fitting_reason(tmp_path):
    kinds = write_broken_files(tmp_path, 10 * len(BROKEN))
    assert set(kinds.values()) == {*REASONS, "vanished"}
    for name, kind in kinds.items():
        assert images.is_image_name(name)
        if kind == "vanished":
            with pytest.raises(FileNotFoundError):
                (tmp_path / name).read_bytes()
        else:
            message = reason((tmp_path / name).read_bytes())
            assert message.startswith(REASONS[kind]), name
            assert "\n" not in message and len(message) < 250


def test_sample_files_are_the_same_on_every_call(tmp_path):
    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.exists()}

    for write in (write_broken_files, lambda folder, count: write_photos(folder, count, 16)):
        write(tmp_path / "a", 30)
        write(tmp_path / "b", 30)
        assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_photos_are_photos():
    image = photo(96, 128, seed=1).astype(float)
    assert image.shape == (96, 128, 3)
    assert image.std() > 30
    steps = np.abs(np.diff(image, axis=1)).mean(axis=2)
    assert np.median(steps) < 4 < 40 < steps.max()  # smooth nearly everywhere, with hard edges
    assert not np.array_equal(image, photo(96, 128, seed=2))


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "PostScript"),
        (b"P6 1 1 255\n\1\2\3", "unknown binary data"),  # a PPM, which Pillow would read
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"\xef\xbb\xbf  <HTML>", "HTML"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "XML"),
        (b"\0\0\0\x20ftypheic\0\0\0\0", "HEIC"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "unknown binary data"),
        (bytes(5000), "zeros"),
        (b"x" + "é".encode() * 1000, "text"),  # its 1024th byte is half a character
    ],
)
def test_what_is_no_image_is_named(data, looks_like):
    assert reason(data).startswith(f"not an image: looks like {looks_like}")


def valid_files() -> dict[str, bytes]:
    colour = Image.fromarray(photo(40, 56, seed=5))
    palette = colour.quantize(32)
    return {
        "jpeg": encoded(colour, "JPEG"),
        "progressive": encoded(colour, "JPEG", progressive=True),
        "cmyk": encoded(colour.convert("CMYK"), "JPEG"),
        "png": encoded(colour, "PNG"),
        "png-palette": encoded(palette, "PNG", transparency=bytes(32)),
        "webp": encoded(colour, "WEBP"),
        "webp-lossless": encoded(colour, "WEBP", lossless=True),
        "gif": encoded(palette, "GIF"),
        "bmp": encoded(colour, "BMP"),
        "tiff": encoded(colour, "TIFF"),
        "tiff-lzw": encoded(colour, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encoded(colour, "TIFF", compression="jpeg"),
        "tiff-fax": encoded(colour.convert("1"), "TIFF", compression="group4"),
    }


@pytest.mark.parametrize("kind", valid_files())
def test_a_cut_file_raises_or_is_whole(kind):
    data = valid_files()[kind]
    whole = decode(data, ENOUGH)
    refused = 0
    for length in range(0, len(data), max(1, len(data) // 60)):
        try:
            image = decode(data[:length], ENOUGH)
        except ImageError as error:
            refused += 1
            assert kind.startswith("tiff-") or not str(error).startswith("corrupt")
        else:
            np.testing.assert_array_equal(image, whole)
    assert refused > 50


def test_a_jpeg_that_ends_before_its_scan_is_truncated():
    data = valid_files()["jpeg"]
    assert reason(data[: data.index(b"\xff\xda")]).startswith("truncated file: the JPEG")


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "cmyk", "png", "png-palette", "gif"])
def test_a_file_whose_tail_is_zeros_raises(kind):
    data = valid_files()[kind]
    for length in range(len(data) // 3, len(data) - 40, max(1, len(data) // 20)):
        reason(data[:length] + bytes(len(data) - length))


def test_fuzzed_files_decode_or_raise_image_error():
    rng = random.Random(0)
    files = list(valid_files().values())
    outcomes = set()
    for _ in range(800):
        data = bytearray(rng.choice(files))
        # headers and pixels alike
        reach = min(len(data), rng.choice([64, 512, 10**9]))
        for _ in range(rng.choice([1, 2, 8])):
            data[rng.randrange(reach)] = rng.randrange(256)
        if rng.random() < 0.2:
            start = rng.randrange(len(data))
            del data[start : start + rng.randrange(40)]
        try:
            image = decode(bytes(data), ENOUGH)
        except ImageError as error:
            outcomes.add(str(error).partition(":")[0])
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3 and image.shape[2] == 3 and 0 < image.shape[0] * image.shape[1] <= ENOUGH
            outcomes.add("ok")
    assert outcomes >= {"ok", "corrupt file", "broken header", "truncated file", "not an image"}


# ----------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_max_pixels_is_the_only_limit(format, monkeypatch):
    data = encoded(Image.new("RGB", (60, 50), RED), format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow by itself refuses more than twice that
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert decode(data, 3000).shape == (50, 60, 3)
    assert reason(data, 2999) == (
        "too many pixels: 60x50 = 3000 pixels is over the limit of 2999; raise images limit `max_pixels`"
    )
    assert Image.MAX_IMAGE_PIXELS == 100


def test_pillows_limit_survives_threads():
    limit = Image.MAX_IMAGE_PIXELS
    files = list(valid_files().values()) * 8
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda data: decode(data, ENOUGH), files))
    assert {image.shape for image in decoded} == {(40, 56, 3)}
    assert limit is not None and limit == Image.MAX_IMAGE_PIXELS


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is enforced on Linux only")
def test_an_image_that_does_not_fit_in_memory(tmp_path):
    (tmp_path / "large.png").write_bytes(png(20_000, 20_000, 1, 0, bytes(2501) * 20_000))
    result = run_python(
        "import pathlib, resource, sys\n"
        "from imagewizard import images\n"
        "data = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)\n"
        "try:\n    images.decode(data, 10**9)\nexcept images.ImageError as error:\n    print(error)\n",
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
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    decode_all = (
        "import io, pathlib, sys\n"
        "{decoder}\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try:\n        decode(path.read_bytes())\n    except Exception:\n        pass\n"
    )
    ours = "from imagewizard import images\ndecode = lambda data: images.decode(data, 10**9)"
    pillow = "from PIL import Image\ndecode = lambda data: Image.open(io.BytesIO(data)).convert('RGB')"
    assert run_python(decode_all.format(decoder=ours), str(tmp_path)).stderr == ""
    noise = run_python(decode_all.format(decoder=pillow), str(tmp_path)).stderr
    # what would have been printed, so that this test tests something: warnings, the log, and libtiff
    for sign in ("Palette images", "Invalid APNG", "More samples per pixel", "Fax4Decode"):
        assert sign in noise


# ----------------------------------------------------------------------------------------------------------- encode


@pytest.mark.parametrize(("format", "quality"), [("png", None), ("png", 1), ("webp", None)])
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


# ------------------------------------------------------------------------------------------------------ output names


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("dogs/a.jpg", "dogs/a.jpg.png"),
        ("dogs/a.png", "dogs/a.png.png"),
        ("a", "a.png"),
        ("shard-0.tar#x/000.jpg", "shard-0.tar#x/000.jpg.png"),
        ("日本/犬 1.jpg", "日本/犬 1.jpg.png"),
        ("50%.jpg", "50%25.jpg.png"),
        ("a~b.jpg", "a%7eb.jpg.png"),
        ("../x", "%2e%2e/x.png"),
        ("./a/../b", "%2e/a/%2e%2e/b.png"),
        ("/etc/x", "%2fetc/x.png"),
        ("a//b/", "a/%2fb%2f.png"),
        ("c:\\x", "c%3a%5cx.png"),
        ("a\0b\n", "a%00b%0a.png"),
        ("x. /y.", "x%2e%20/y%2e.png"),
        ("con/nul.tar.jpg/console.jpg", "%63on/%6eul.tar.jpg/console.jpg.png"),
        ("a.png/b.jpg", "a%2epng/b.jpg.png"),
        ("a.webp/b.jpg", "a.webp/b.jpg.png"),
        ("", ".png"),
    ],
)
def test_output_names(image_id, name):
    assert output_name(image_id, "png") == name
    assert unquote(name.removesuffix(".png")) == image_id


def test_output_names_end_as_the_format_does():
    assert [output_name("a.gif", format) for format in ("png", "jpeg", "jpg", "webp")] == [
        "a.gif.png",
        "a.gif.jpg",
        "a.gif.jpg",
        "a.gif.webp",
    ]


def test_possible_twins_and_long_ids_carry_a_digest():
    assert output_name("Dogs/IMG_1.JPG", "png").startswith("Dogs/IMG_1.JPG~")
    assert output_name("cafe\u0301.jpg", "png").startswith("cafe\u0301.jpg~")
    assert output_name("café.jpg", "png") == "café.jpg.png"
    long = output_name("folder/" + "abcdefgh" * 40, "png")
    assert long.startswith("abcdefgh") and "~" in long and len(long) < 60


def nasty_ids(count: int) -> set[str]:
    """Ids out of a few pieces, so that near twins abound."""
    rng = random.Random(1)
    pieces = ["a", "A", "b", "a" * 90, ".", "..", "/", "//", "\\", " ", "#", "\0", "\n", "\x7f"]
    pieces += ["%", "%2e", "%2E", "~", ":", "?", "*", '"', "C:", "con", "CON", "nul.", "com1", "lpt¹", "aux"]
    pieces += [".png", ".PNG", ".jpg", "png", "é", "e\u0301", "É", "ß", "ss", "ſ", "K", "İ", "i", "ﬁ", "Å", "\u212b"]
    pieces += ["\u037e", ";", "\u0345", "\u200d", "\udc80", "犬", "犬" * 40, "😀"]
    ids = {"".join(rng.choices(pieces, k=rng.randint(0, 6))) for _ in range(count)}
    # what a name of one id would look like if it were the id of another
    return ids | {output_name(image_id, "png").removesuffix(".png") for image_id in list(ids)[: count // 3]}


def folded(path: str) -> str:
    """What a disk that ignores case and normalisation makes of a path."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_output_names_of_nasty_ids_never_meet_and_never_escape(format, tmp_path):
    ids = nasty_ids(5000)
    names = {image_id: output_name(image_id, format) for image_id in ids}
    assert len(ids) > 4000
    assert len({name.casefold() for name in names.values()}) == len(ids)
    assert len({folded(name) for name in names.values()}) == len(ids)
    assert len({unicodedata.normalize("NFD", name).casefold() for name in names.values()}) == len(ids)
    folders = {str(parent) for name in names.values() for parent in Path(folded(name)).parents}
    assert not folders & {folded(name) for name in names.values()}
    for name in names.values():
        assert (tmp_path / name).resolve().is_relative_to(tmp_path.resolve())
        assert str(Path(name)) == name  # no empty, . or .. segment, not absolute
        windows = PureWindowsPath("D:/out", name)
        assert windows.parts[2:] == tuple(name.split("/")) and not windows.is_reserved()
        assert name.isprintable() and not set(name) & set('<>:"|?*\\')
        assert all(len(part.encode()) <= 200 and part[-1] not in ". " for part in name.split("/"))


def test_files_of_nasty_ids_can_all_be_written(tmp_path):
    for image_id in nasty_ids(600):
        path = tmp_path / folded(output_name(image_id, "png"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", errors="surrogatepass") as stream:
            stream.write(image_id)
