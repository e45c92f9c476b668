"""Each format's metadata are found where programs put them."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from imagewizard.images import iptc, metadata_places, png_text
from imagewizard.images.encoding import encode
from imagewizard.images.metadata import Metadata
from imagewizard.images.picture import Picture, decode
from imagewizard.images.png_chunks import Chunk
from imagewizard.images.resolution import Resolution
from tests.support.sample_files import camera_exif, encoded, icc_profile, photo, png, png_chunk
from tests.support.sample_metadata import GAMMA, IPTC, P3, xmp_packet

IMAGE = Image.fromarray(photo(16, 20, 0))
COMMENT = Chunk(b"tEXt", b"Comment\0a word")


def read(data: bytes) -> Picture:
    return decode(data, 10_000, keep=True)


def grey_png(*chunks: Chunk) -> Picture:
    return read(png(1, 1, 8, 0, bytes(2), *(png_chunk(*chunk) for chunk in chunks)))


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


def jpeg_with(*segments: bytes, **options: object) -> bytes:
    data = encoded(IMAGE, "JPEG", **options)
    return data[:20] + b"".join(segments) + data[20:]


def test_png():
    chunks = (Chunk(b"sRGB", b"\1"), GAMMA, P3, Chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1)), COMMENT)
    found = grey_png(*chunks, png_text.xmp(b"<x/>"), png_text.profile("iptc", IPTC), Chunk(b"tIME", bytes(7)))
    assert found.metadata == Metadata(
        xmp=b"<x/>", iptc=IPTC, resolution=Resolution(300, 300, "inch"), colour=chunks[:3], texts=(COMMENT,)
    )
    assert found.notes == ()
    assert grey_png(GAMMA, Chunk(b"gAMA", bytes(4))).metadata.colour == (GAMMA,)  # the second is no PNG's


def test_profiles_as_imagemagick_hides_them_in_a_png():
    profiles = {"8bim": iptc.segment(IPTC), "xmp": b"<x/>", "icc": icc_profile("GRAY")}
    found = grey_png(*(png_text.profile(name, data) for name, data in profiles.items()))
    assert found.metadata == Metadata(icc=icc_profile("GRAY"), xmp=b"<x/>", iptc=IPTC)
    found = grey_png(png_text.profile("APP1", camera_exif().tobytes()))
    assert found.metadata.exif is not None and b"Maker" in found.metadata.exif and found.metadata.xmp is None
    found = grey_png(png_text.profile("APP1", b"http://ns.adobe.com/xap/1.0/\0<x/>"))
    assert found.metadata == Metadata(xmp=b"<x/>")


def test_text_of_a_png_that_does_not_come_along_is_named():
    found = grey_png(Chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 9_000_000)))
    assert found.metadata == Metadata()
    assert found.notes == ("without PNG text workflow (it is damaged or too long)",)


def test_notes_do_not_grow_with_a_file():
    texts = [Chunk(b"tEXt", b"%d;\n\0word" % number) for number in range(2000)]
    found = grey_png(*texts, *(Chunk(b"zTXt", b"\x1b%d\0\0damaged" % number) for number in range(2000)))
    assert found.notes == ("without PNG text ?0, ?1, ?2, ?3, ?4 and 1995 more (it is damaged or too long)",)
    expected = "without text 0?, 1?, 2?, 3?, 4? and 1995 more (a jpg has no place for it)"
    assert encode(found, "jpg").notes == (expected,)
    found = grey_png(*(Chunk(b"tIME", b"") for _ in range(9)), *(Chunk(kind, b"") for kind in (b"gAMA", b"cHRM")))
    assert found.notes == ("without PNG's cHRM, gAMA (it is damaged)",)


def test_damaged_chunks_are_named_and_not_written():
    data = png(
        1, 1, 8, 0, bytes(2), png_chunk(b"gAMA", b"\0"), png_chunk(b"tEXt", b"a\0b"), png_chunk(b"pHYs", bytes(8))
    )
    at = data.index(b"a\0b")
    found = read(data[:at] + b"x" + data[at + 1 :])
    assert found.metadata == Metadata()
    assert found.notes == ("without PNG's gAMA, pHYs, tEXt (it is damaged)",)
    with Image.open(io.BytesIO(encode(found, "png").data)) as image:
        image.load()


def test_jpeg():
    found = read(jpeg_with(segment(0xED, iptc.segment(IPTC)), dpi=(300, 150), xmp=b"<x/>", comment=b"a word"))
    resolution = Resolution(300, 150, "inch")
    assert found.metadata == Metadata(xmp=b"<x/>", iptc=IPTC, resolution=resolution, texts=(COMMENT,))
    assert found.notes == ()


def test_all_comments_of_a_jpeg_come_along():
    found = read(jpeg_with(*(segment(0xFE, text) for text in (b"a word", b"more\0", b"", b"a\0b"))))
    assert found.metadata.texts == (COMMENT, Chunk(b"tEXt", b"Comment\0more"))
    assert found.notes == ("without a comment (it is damaged or too long)",)
    assert encode(found, "jpg").notes == ("without text Comment (a jpg has no place for it)",)
    assert encode(found, "png").notes == ()


def test_extended_xmp_of_a_jpeg_is_named():
    extended = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 40)
    found = read(jpeg_with(extended, extended, xmp=b'<x xmpNote:HasExtendedXMP="00"/>'))
    assert found.metadata.xmp == b"<x/>"
    assert found.notes == ("without extended XMP (only the main packet comes along)",)


def test_a_jpeg_cut_among_its_segments_raises_no_other_error():
    data = jpeg_with(segment(0xED, iptc.segment(IPTC)), dpi=(300, 150), xmp=b"<x/>", comment=b"a word")
    damaged = [(0xED, b"Photoshop 3.0\0" + b"8BIM"), (0xE0, b"JFIF\0"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0")]
    for pieces in (*damaged, (0xEE, b"Adobe"), (0xFE, b"")):
        assert read(data[:20] + segment(*pieces) + data[20:]).pixels.shape == (16, 20, 3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff(order):
    def tiff(*tags: tuple[object, ...]) -> Metadata:
        stream = io.BytesIO()
        options = {"photometric": "rgb", "software": False, "metadata": None, "byteorder": order}
        tifffile.imwrite(
            stream, np.asarray(IMAGE), resolution=(118.11, 59), resolutionunit=3, extratags=tags, **options
        )
        return read(stream.getvalue()).metadata

    padded = IPTC + bytes(-len(IPTC) % 4)
    longs = struct.unpack(f"{order}{len(padded) // 4}I", padded)
    for records in ((33723, 7, len(IPTC), IPTC, True), (33723, 4, len(longs), longs, True)):
        found = tiff((700, 1, 4, b"<x/>", True), records)
        assert (found.xmp, found.iptc, found.texts, found.colour) == (b"<x/>", IPTC, (), ())
        assert found.resolution == Resolution(118.11, 59, "cm")
    resources = iptc.segment(IPTC).removeprefix(b"Photoshop 3.0\0")
    assert tiff((34377, 1, len(resources), resources, True)).iptc == IPTC


def test_webp_gif_bmp_avif():
    packet = xmp_packet(Make="x")
    assert read(encoded(IMAGE, "WEBP", xmp=packet)).metadata == Metadata(xmp=packet)
    assert read(encoded(IMAGE.quantize(8), "GIF", comment=b"a word")).metadata == Metadata(texts=(COMMENT,))
    found = read(encoded(IMAGE, "BMP", dpi=(300, 300))).metadata.resolution
    assert found is not None and found.phys() == struct.pack(">IIB", 11811, 11811, 1)
    found = read(encoded(IMAGE, "AVIF", xmp=packet)).metadata
    assert found == Metadata(xmp=packet, colour=(Chunk(b"cICP", b"\1\x0d\0\1"),))


def test_coding_points_of_an_avif_do_not_stand_before_its_profile():
    data = encoded(IMAGE, "AVIF", icc_profile=icc_profile("RGB "))
    assert b"colrnclx\0\2\0\2" in data
    found = read(data.replace(b"colrnclx\0\2\0\2", b"colrnclx\0\x0c\0\x0d"))
    assert found.metadata == Metadata(icc=icc_profile("RGB "))


def test_the_profile_of_a_gif():
    data, profile = encoded(IMAGE.quantize(8), "GIF"), icc_profile("RGB ")
    blocks = b"".join(bytes([len(part)]) + part for part in (profile[:255], profile[255:510], profile[510:]))
    extension = b"\x21\xff\x0bICCRGBG1012" + blocks + b"\0"
    at = 13 + 3 * 2 ** ((data[10] & 7) + 1)  # behind the palette
    assert read(data[:at] + extension + data[at:]).metadata == Metadata(icc=profile)


def test_nothing_is_found_where_nothing_is():
    for format in ("PNG", "JPEG", "WEBP", "TIFF", "GIF"):
        assert read(encoded(IMAGE, format)).metadata == Metadata(), format


def test_a_profile_of_a_gif_in_a_million_blocks_takes_no_time_that_matters():
    start = time.perf_counter()
    profile = metadata_places._profile_of_gif(b"GIF89a\x21\xff\x0bICCRGBG1012" + b"\1x" * 1_500_000 + b"\0")
    assert profile == b"x" * 1_500_000
    assert time.perf_counter() - start < 15  # to copy what is there for each block takes minutes
