"""Text of a PNG is kept in a form that Pillow and libpng read; what only looks like text is told apart."""

import io
import zlib

import pytest
from PIL import Image

from imagewizard.images import png_chunks, png_text
from imagewizard.images.png_chunks import Chunk
from tests.support.sample_files import png
from tests.support.sample_metadata import IPTC, xmp_packet

TEXT = Chunk(b"tEXt", b"Title\0a title")
PACKED = Chunk(b"zTXt", b"Author\0\0" + zlib.compress(b"somebody"))
INTERNATIONAL = Chunk(b"iTXt", b"Title\0\1\0de\0Titel\0" + zlib.compress("ä".encode()))


def seen_by_pillow(chunks: tuple[Chunk, ...]) -> dict[str, str]:
    data = png(1, 1, 8, 0, bytes(2), *png_text.written(chunks))
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return dict(image.text)


def test_text_stays_as_it_is():
    chunks = (TEXT, Chunk(b"gAMA", bytes(4)), PACKED, INTERNATIONAL)
    found = png_text.read(chunks)
    assert found == png_text.Texts((TEXT, PACKED, INTERNATIONAL), {}, ())
    assert [png_text.keyword(chunk) for chunk in found.kept] == [b"Title", b"Author", b"Title"]
    assert [png_text.text(chunk) for chunk in found.kept] == [b"a title", b"somebody", "ä".encode()]


@pytest.mark.parametrize("length", [(1 << 20) - 1, 1 << 20, 2_000_000])
def test_long_text_is_no_longer_compressed(length):
    text = b"x" * length
    long = (
        Chunk(b"zTXt", b"a\0\0" + zlib.compress(text)),
        Chunk(b"iTXt", b"b\0\1\0en\0B\0" + zlib.compress(text)),
        Chunk(b"tEXt", b"c\0" + text),
    )
    found = png_text.read(long)
    assert found.left_out == () and [png_text.text(chunk) for chunk in found.kept] == [text] * 3
    assert {name: len(value) for name, value in seen_by_pillow(found.kept).items()} == dict.fromkeys("abc", length)
    assert all(b"en\0B\0" in chunk.body for chunk in found.kept if chunk.kind == b"iTXt")


def test_what_cannot_be_kept_is_named():
    found = png_text.read(
        (
            Chunk(b"tEXt", b"long\0" + b"x" * 8_000_000),
            Chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(20_000_000))),
            Chunk(b"zTXt", b"damaged\0\0garbage"),
            Chunk(b"tEXt", b"\0no keyword"),
            *[Chunk(b"tEXt", b"%d\0" % number + b"x" * 7_000_000) for number in range(6)],
            TEXT,
        )
    )
    assert found.left_out == ("long", "bomb", "damaged", "", "3", "4", "5")
    assert [png_text.keyword(chunk) for chunk in found.kept] == [b"0", b"1", b"2", b"Title"]
    seen_by_pillow(found.kept)


def test_compression_that_pillow_and_libpng_do_not_know_is_damage():
    packed, bomb = zlib.compress(b"words"), zlib.compress(bytes(9_000_000))
    chunks = (
        Chunk(b"zTXt", b"method\0\1" + packed),
        Chunk(b"iTXt", b"international\0\1\1\0\0" + packed),
        Chunk(b"iTXt", b"flag\0\2\0\0\0" + bomb),
        Chunk(b"iTXt", b"plain\0\0\1\0\0words"),
    )
    found = png_text.read(chunks)
    assert (found.kept, found.left_out) == (chunks[3:], ("method", "international", "flag"))
    assert seen_by_pillow(found.kept) == {"plain": "words"}


def test_what_only_looks_like_text():
    found = png_text.read(
        (
            png_text.xmp(xmp_packet(Make="x")),
            png_text.profile("iptc", IPTC),
            Chunk(b"tEXt", b"Raw profile type APP1\0\ngeneric profile\n    4\n4578\n6966\n"),
            Chunk(b"tEXt", b"Raw profile type icc\0\nicc\n    4\nno hex"),
            TEXT,
        )
    )
    profiles = {"xmp": xmp_packet(Make="x"), "iptc": IPTC, "app1": b"Exif"}
    assert found == png_text.Texts((TEXT,), profiles, ("Raw profile type icc",))


def test_the_longest_profile_is_read_by_pillow():
    longest = png_text.profile("iptc", bytes(png_text.MOST_PROFILE))
    assert png_text.read((longest,)).profiles["iptc"] == bytes(png_text.MOST_PROFILE)
    assert len(seen_by_pillow((longest,))["Raw profile type iptc"]) > png_text.MOST_COMPRESSED - 1000


def test_comments_of_other_formats():
    words = [b"a word\0", "größer".encode(), b"gr\xf6\xdfer"]
    found = [png_text.comment(word) for word in words]
    assert [chunk.kind for chunk in found if chunk] == [b"tEXt", b"iTXt", b"tEXt"]
    assert [seen_by_pillow((chunk,))["Comment"] for chunk in found if chunk] == ["a word", "größer", "größer"]
    assert [png_text.comment(text) for text in (b"", b"\0", b"a\0b", b"x" * 8_000_000)] == [None] * 4


@pytest.mark.parametrize("keyword", [b"a", png_text.XMP, b"Raw profile type 5", b"Raw profile type exif", b"x" * 80])
@pytest.mark.parametrize("cut", [0, 3])
def test_what_is_unpacked_in_all_has_a_limit(keyword, cut, monkeypatch):
    unpacked = list[int]()

    def counted(data: bytes, most: int) -> bytes | None:
        unpacked.append(len(zlib.decompressobj().decompress(data, most + 1)))
        return inflated(data, most)

    inflated = png_chunks.inflated
    monkeypatch.setattr(png_chunks, "inflated", counted)
    texts = [zlib.compress(bytes(length)) for length in (7_000_000, 20_000_000)]
    bombs = [Chunk(b"zTXt", keyword + b"\0\0" + text[: len(text) - cut]) for text in texts * 15]
    found = png_text.read([TEXT, *bombs])
    assert len(unpacked) == 30 and sum(unpacked) < 34_000_000
    assert found.kept[0] == TEXT and len(found.left_out) >= 25


def test_profiles_of_other_names_are_text():
    text = Chunk(b"tEXt", b"Raw profile type 5\0\n5\n    1\n00\n")
    assert png_text.read([text]) == png_text.Texts((text,), {}, ())


@pytest.mark.parametrize("length", [10, 2_000_000])
def test_international_text_without_its_parts_is_left_out(length):
    found = png_text.read([Chunk(b"iTXt", b"Key\0\0\0" + b"x" * length), TEXT])
    assert found == png_text.Texts((TEXT,), {}, ("Key",))
