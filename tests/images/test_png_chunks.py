"""png_chunks: what lies beside the pixels costs no image, and what the pixels need is checked."""

import zlib

import numpy as np
import pytest

from imagewizard.images import png_chunks
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import decode
from imagewizard.images.png_chunks import Chunks
from tests.support.sample_files import PNG_SIGNATURE, icc_profile, png, png_chunk

ROWS = b"\0\1\2\3"
TEXT = b"Comment\0\0" + zlib.compress(b"words")


def with_wrong_checksum(chunk: bytes) -> bytes:
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


def pixels(data: bytes) -> list:
    return decode(data, 100, True).pixels.ravel().tolist()


def reason(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, 100, True)
    return str(caught.value)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"pHYs", b"gAMA", b"tRNS", b"prVt"])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_broken_chunk_that_the_pixels_do_not_need_is_left_out(kind, at_the_end):
    chunk = with_wrong_checksum(png_chunk(kind, TEXT))
    data = png(1, 1, 8, 2, ROWS, *[chunk] * (not at_the_end))
    if at_the_end:
        data = data[:-12] + chunk + data[-12:]
    assert pixels(data) == [1, 2, 3]
    assert Chunks.read(data).ancillary == ()
    assert decode(data, 100, True).alpha is None


def test_a_chunk_that_the_pixels_need_is_refused_with_a_wrong_checksum():
    palette = with_wrong_checksum(png_chunk(b"PLTE", bytes(3)))
    assert reason(png(1, 1, 8, 3, b"\0\0", palette)) == "corrupt file: PNG: broken PNG file (wrong checksum in PLTE)"
    header = with_wrong_checksum(png(1, 1, 8, 2, ROWS)[8:33])
    assert reason(PNG_SIGNATURE + header + png(1, 1, 8, 2, ROWS)[33:]).endswith("(wrong checksum in IHDR)")


def test_a_missing_end_costs_no_pixel_and_missing_pixels_are_refused():
    text = png_chunk(b"tEXt", b"Comment\0words")
    whole = png(1, 1, 8, 2, ROWS)
    end = whole[:-12] + text
    for length in range(len(whole) - 12, len(end) + 1):  # in the text behind the pixels, in whole or in part
        assert pixels(end[:length]) == [1, 2, 3]
    for length in range(33, len(whole) - 12):
        assert reason(whole[:length]) == "truncated file: the PNG ends before its pixels do"
    for length in range(len(whole) - 12, len(whole)):
        assert pixels(whole[:length]) == [1, 2, 3]


def test_pixel_data_in_pieces():
    rows = zlib.compress(ROWS)
    pieces = [png_chunk(b"IDAT", rows[start : start + 2]) for start in range(0, len(rows), 2)]
    head = png(1, 1, 8, 2, ROWS)[:33]
    assert pixels(head + b"".join(pieces)) == [1, 2, 3]
    assert reason(head + pieces[0] + png_chunk(b"tEXt", b"a\0b") + b"".join(pieces[1:])).endswith("is interrupted)")
    assert reason(head + pieces[0] + b"".join(pieces[2:])).startswith(("corrupt file", "truncated file"))


def test_large_text_and_profiles_are_read():
    profile = icc_profile("RGB ") + np.random.default_rng(0).bytes(4_000_000)
    chunks = [
        png_chunk(b"iCCP", b"x\0\0" + zlib.compress(profile)),
        png_chunk(b"tEXt", b"a\0" + b"x" * 3_000_000),
        png_chunk(b"zTXt", b"b\0\0" + zlib.compress(b"y" * 3_000_000)),
        png_chunk(b"iTXt", b"c\0\1\0\0\0" + zlib.compress(b"z" * 3_000_000)),
    ]
    for depth in (8, 16):
        picture = decode(png(1, 1, depth, 2, b"\0" + b"\1\2\3" * (depth // 8), *chunks), 100, True)
        assert picture.metadata.icc == profile


@pytest.mark.parametrize("keyword", [b"Comment", b"XML:com.adobe.xmp", b"Raw profile type exif"])
def test_text_that_is_a_bomb_is_not_unpacked(keyword):
    text = zlib.compress(bytes(30_000_000), 1)
    bombs = [b"zTXt", keyword + b"\0\0" + text], [b"iTXt", keyword + b"\0\1\0\0\0" + text]
    for kind, body in bombs:
        data = png(1, 1, 8, 2, ROWS, png_chunk(kind, body))
        assert pixels(data) == [1, 2, 3]
        assert Chunks.read(data).info() == {}


def test_what_is_beside_the_pixels():
    chunks = [
        png_chunk(b"eXIf", b"MM"),
        png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"profile")),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"),
        png_chunk(b"fcTL", bytes(26)),
    ]
    read = Chunks.read(png(1, 1, 8, 2, ROWS, *chunks))
    assert read.info() == {"exif": b"Exif\0\0MM", "icc_profile": b"profile"}
    assert [chunk.kind for chunk in read.ancillary] == [b"eXIf", b"iCCP", b"iTXt"]
    assert read.pixels == png(1, 1, 8, 2, ROWS)


def test_the_first_profile_counts_and_no_other_is_unpacked(monkeypatch):
    bodies = [b"x\0\0" + zlib.compress(bytes([number])) for number in range(3)]
    chunks = [png_chunk(b"iCCP", body) for body in bodies] + [png_chunk(b"eXIf", name) for name in (b"MM", b"II")]
    seen = list[bytes]()
    monkeypatch.setattr(png_chunks, "inflated", lambda data: seen.append(data) or b"profile")
    found = Chunks.read(png(1, 1, 8, 2, ROWS, *chunks)).info()
    assert found == {"icc_profile": b"profile", "exif": b"Exif\0\0MM"}
    assert seen == [bodies[0][3:]]
