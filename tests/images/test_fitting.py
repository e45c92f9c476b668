"""What a format has no place for is left out and named, and the file is written all the same."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from imagewizard.images import colour, icc
from imagewizard.images.encoding import encode
from imagewizard.images.errors import ImageError
from imagewizard.images.exif import Tags
from imagewizard.images.fitting import fitted
from imagewizard.images.metadata import Metadata
from imagewizard.images.picture import Picture, decode
from imagewizard.images.png_chunks import Chunk
from imagewizard.images.resolution import Resolution
from tests.support.sample_files import camera_exif, icc_profile
from tests.support.sample_metadata import GAMMA, IPTC, P3, everything

PIXELS = np.random.default_rng(0).integers(0, 255, (16, 20, 3), np.uint8)


def written(metadata: Metadata, format: str, pixels: np.ndarray = PIXELS) -> tuple[Metadata, tuple[str, ...]]:
    """What is read again from the file, and the notes; Pillow opens it too."""
    data, notes = encode(Picture(pixels, metadata=metadata), format)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    found = decode(data, 10_000, keep=True)
    assert found.notes == ()
    return found.metadata, notes


def test_everything_in_a_png():
    assert written(everything(), "png") == (everything(), ())


def test_everything_in_a_jpg():
    found, notes = written(everything(), "jpg")
    assert found == replace(everything(), colour=(), texts=everything().texts[:1])
    assert notes == ("without text Title (a jpg has no place for it)",)


def test_alpha_that_a_jpg_has_no_place_for():
    source = Picture(PIXELS, np.zeros((16, 20), np.uint8))
    assert [encode(source, format).notes for format in ("png", "tiff", "webp")] == [()] * 3
    assert encode(source, "jpg").notes == ("without alpha (a jpg has no place for it)",)


def test_everything_in_a_webp():
    found, notes = written(everything(), "webp")
    assert found == replace(everything(), colour=(), texts=(), iptc=None)
    assert notes == (
        "without text Comment, Title (a webp has no place for it)",
        "without IPTC (a webp has no place for it)",
    )


def test_what_is_said_of_a_screen_is_named_where_it_has_no_place():
    screen = (Chunk(b"mDCV", bytes(24)), Chunk(b"cLLI", bytes(8)))
    for format in ("jpg", "webp", "tiff"):
        found, notes = written(Metadata(colour=(GAMMA, *screen)), format)
        assert found.icc is not None and notes == (f"without mDCV, cLLI (a {format} has no place for it)",)
    assert written(Metadata(colour=(GAMMA, *screen)), "png")[1] == ()


def test_everything_in_a_tiff():
    found, notes = written(everything(), "tiff")
    assert found == replace(everything(), colour=(), texts=())
    assert notes == ("without text Comment, Title (a tiff has no place for it)",)


@pytest.mark.parametrize("format", ["jpg", "webp", "tiff"])
def test_the_chunks_of_a_png_become_a_profile(format):
    colours, grey = (GAMMA, P3), np.ascontiguousarray(PIXELS[:, :, :1])
    assert written(Metadata(colour=colours), format)[0].icc == colour.profile(colours, None, is_grey=False)[0]
    if format == "webp":  # which has no grey
        assert written(Metadata(colour=(GAMMA,)), format, grey)[0].icc == icc.of_rgb((1.0,), icc.SRGB)
    else:
        assert written(Metadata(colour=(GAMMA,)), format, grey)[0].icc == icc.of_grey((1.0,))
    hdr = Metadata(colour=(Chunk(b"cICP", b"\x09\x10\0\1"),))
    assert written(hdr, format) == (Metadata(), ("without cICP (no ICC profile says PQ)",))
    assert written(hdr, "png") == (hdr, ())


def test_a_profile_of_grey_that_no_webp_can_hold():
    grey = np.ascontiguousarray(PIXELS[:, :, :1])
    found, (note,) = written(Metadata(icc=icc_profile("GRAY")), "webp", grey)
    assert (
        found == Metadata()
        and note == "without ICC profile (grey becomes RGB in a webp, and the profile is more than a curve)"
    )


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, 2_000_000])
def test_a_large_profile_in_a_png(size):
    padded = icc_profile("RGB ") + bytes(size - len(icc_profile("RGB ")))
    found, notes = written(Metadata(icc=padded), "png")
    if size < 1 << 20:
        assert (found.icc, notes) == (padded, ())
    else:
        assert found.icc == icc.shortened(icc_profile("RGB "))
        why = f"it has {size} bytes, readers of png take 1048575"
        assert notes == (f"ICC profile without what printing needs ({why})",)


def test_a_profile_with_a_large_table_in_a_png():
    table = b"mft2" + bytes(2_000_000)
    profile = icc._with_tags(icc_profile("RGB ")[:128], icc._tags(icc_profile("RGB ")) | {b"A2B0": table})
    assert written(Metadata(icc=profile), "png")[0] == Metadata()
    assert written(Metadata(icc=profile), "tiff")[0].icc == profile
    assert written(Metadata(icc=profile), "jpg")[0].icc == profile


LONG = [
    ("xmp", 65_504, 65_505, "XMP", "jpg"),
    ("iptc", 65_506, 65_507, "IPTC", "jpg"),
    ("xmp", 7_900_000, 7_900_001, "XMP", "png"),
    ("iptc", 500_000, 520_000, "IPTC", "png"),
]


@pytest.mark.parametrize(("name", "most", "more", "title", "format"), LONG)
def test_what_is_too_long(name, most, more, title, format):
    for length in (most, more):
        value = b"<" + b"x" * (length - 1) if name == "xmp" else b"\x1c" + b"\1" * (length - 1)
        found, notes = written(Metadata(**{name: value}), format)
        if length == most:
            assert getattr(found, name) == value and notes == ()
        else:
            assert found == Metadata() and notes[0].startswith(f"without {title} (it has {length} bytes")
        assert getattr(written(Metadata(**{name: value}), "tiff")[0], name) == value


def test_exif_without_its_longest_tags():
    exif = camera_exif(Artist="x" * 40_000, Copyright="y" * 30_000, ImageDescription="z" * 66_000).tobytes()
    found, notes = written(Metadata(exif=exif), "jpg")
    assert notes == ("without EXIF ImageDescription, Artist (readers of jpg take 65533 bytes of EXIF)",)
    assert found.exif is not None and b"y" * 30_000 in found.exif and b"maker note" in found.exif
    only = Tags("<", {270: Tags.read(exif).main[270]}).exif()
    assert written(Metadata(exif=only), "jpg")[0] == Metadata()


@pytest.mark.parametrize("format", ["png", "webp"])
def test_exif_that_libvips_would_refuse_an_image_for(format):
    exif = camera_exif(Artist="x" * 1_000_000, Copyright="y" * 100_000).tobytes()
    found, notes = written(Metadata(exif=exif), format)
    assert notes == (f"without EXIF Artist (readers of {format} take 1048576 bytes of EXIF)",)
    assert found.exif is not None and b"y" * 100_000 in found.exif
    shorter = camera_exif(Artist="x" * 900_000, Copyright="y" * 100_000).tobytes()
    assert written(Metadata(exif=shorter), format)[1] == ()


def test_metadata_that_no_file_can_hold_costs_one_image():
    broken = Metadata(exif=b"garbage", resolution=Resolution(72, 72, "inch"))
    with pytest.raises(ImageError, match="cannot encode: 20x16 as webp"):
        encode(Picture(PIXELS, metadata=broken), "webp")


@pytest.mark.parametrize(
    ("known", "formats"),
    [
        ((200_000, "inch"), ("png", "webp", "tiff")),
        ((50_000_000, "inch"), ("png", "webp", "tiff")),
        ((1e10, "cm"), ()),
        ((1e-3, "cm"), ("webp", "tiff")),
        ((1e-5, "cm"), ("webp", "tiff")),
        ((1e-10, "cm"), ()),
    ],
)
def test_a_resolution_beyond_what_a_format_can_say(known, formats):
    resolution = Resolution(known[0], known[0], known[1])
    for format in ("png", "jpg", "webp", "tiff"):
        found, notes = written(Metadata(resolution=resolution), format)
        if format in formats:
            assert found.resolution == resolution and notes == ()
        else:
            assert found == Metadata()
            assert notes == (f"without resolution ({known[0]:g} by {known[0]:g} is beyond what a {format} can say)",)


def test_a_tiff_has_the_tags_that_the_format_requires():
    required = {256, 257, 258, 259, 262, 273, 277, 278, 279, 282, 283, 296}  # TIFF 6.0, section 6
    for metadata in (Metadata(), everything()):
        tags = Tags.read(encode(Picture(PIXELS, metadata=metadata), "tiff").data)
        assert tags.main.keys() >= required
    assert tags.main[33723].value == IPTC and tags.main[282].value == struct.pack(f"{tags.order}II", 145, 2)


def test_the_first_comment_alone_fits_in_a_jpg():
    comments = (
        Chunk(b"tEXt", b"Comment\0" + b"x" * 70_000),
        Chunk(b"tEXt", b"Comment\0a"),
        Chunk(b"tEXt", b"Comment\0b"),
    )
    found, notes = written(Metadata(texts=comments), "jpg")
    assert found.texts == comments[1:2] and notes == ("without text Comment (a jpg has no place for it)",)


def test_nothing_is_noted_where_all_fits():
    for format in ("png", "jpg", "webp", "tiff"):
        assert fitted(Metadata(), format, is_grey=False, becomes_rgb=False) == (Metadata(), [])


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tiff"])
def test_a_resolution_in_its_place(format):
    for known in (Resolution(300, 150, "inch"), Resolution(118, 59, "cm"), Resolution(4, 3, "")):
        metadata, notes = written(Metadata(resolution=known), format)
        assert metadata.resolution is not None and notes == ()
        assert metadata.resolution.phys() == known.phys() and (metadata.exif is None or format in ("webp", "tiff"))
