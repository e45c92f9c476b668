"""image_errors: every kind of broken file by its reason, and nothing but ImageError whatever the bytes."""

import random

import numpy as np
import pytest

from imagewizard.images.errors import ImageError
from imagewizard.images.formats import is_image_name
from imagewizard.images.picture import decode_rgb as decode
from tests.support.sample_files import BROKEN, valid_files, write_broken_files

ENOUGH = 1_000_000


def reason(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, ENOUGH)
    return str(caught.value)


REASONS = {
    "truncated_jpeg": "truncated file: the JPEG ends before its pixels do",
    "truncated_png": "truncated file: the PNG ends before its pixels do",
    "truncated_webp": "truncated file: the WebP ends before its pixels do",
    "empty": "empty file: 0 bytes",
    "text": "not an image: looks like text, and not PNG",
    "html": "not an image: looks like HTML, and not PNG",
    "png_bad_crc": "corrupt file: PNG: broken PNG file (wrong checksum in IDAT)",
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
        assert is_image_name(name)
        if kind == "vanished":
            with pytest.raises(FileNotFoundError):
                (tmp_path / name).read_bytes()
        else:
            message = reason((tmp_path / name).read_bytes())
            assert message.startswith(REASONS[kind]), name
            assert "\n" not in message and len(message) < 250


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


def test_a_kind_that_pillow_does_not_know_is_not_called_corrupt():
    data = bytearray(valid_files()["bmp"])
    data[28] = 2  # bits a pixel
    assert reason(bytes(data)) == "unsupported pixels: Unsupported BMP pixel depth (2)"


@pytest.mark.parametrize("kind", valid_files())
def test_a_cut_file_raises_or_is_whole(kind):
    data = valid_files()[kind]
    whole = decode(data, ENOUGH)
    refused = 0
    # steps of one at the end, where a TIFF has its directory and the values of several numbers that it points to
    for length in (*range(0, len(data), max(1, len(data) // 60)), *range(len(data) - 120, len(data))):
        try:
            image = decode(data[:length], ENOUGH)
        except ImageError as error:
            refused += 1
            assert not str(error).startswith("corrupt")
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
