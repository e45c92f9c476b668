"""picture.decode: what of a file is kept, from every format, once, and with no more belief in it than it deserves."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pyarrow as pa
import pytest
import tifffile
from PIL import Image

from imagewizard.images import png_text, xmp
from imagewizard.images.errors import ImageError
from imagewizard.images.formats import OUTPUT_FORMATS, is_image_name
from imagewizard.images.metadata import Metadata
from imagewizard.images.picture import Picture, decode, decode_rgb
from imagewizard.images.png_chunks import Chunk
from tests.images.test_encoding import KINDS, assert_carries, assert_same, eight_bits, encode, read, sample
from tests.support.sample_files import camera_exif, encoded, icc_profile, photo, png, png_chunk, tiff, write_odd_files

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)  # a GIF is grey if it has all greys


def tiff_file(samples: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, photometric="rgb", **options)
    return stream.getvalue()


def test_grey_stays_grey_and_colour_colour():
    grey, colour = Image.fromarray(RAMP), Image.fromarray(photo(16, 16, 0))
    one_bit, palette, cmyk, lab = grey.convert("1"), colour.quantize(8), colour.convert("CMYK"), colour.convert("LAB")
    kinds = [("PNG", grey, 1), ("JPEG", grey, 1), ("TIFF", grey, 1), ("BMP", grey, 1), ("GIF", grey, 1)]
    kinds += [("PNG", one_bit, 1), ("TIFF", one_bit, 1), ("WEBP", grey, 3), ("PNG", palette, 3), ("GIF", palette, 3)]
    kinds += [("JPEG", cmyk, 3), ("TIFF", cmyk, 3), ("TIFF", lab, 3), ("JPEG", colour, 3), ("BMP", colour, 3)]
    for format, image, channels in kinds:
        found = read(encoded(image, format))
        assert found.pixels.shape == (16, 16, channels) and found.pixels.dtype == np.uint8, (format, image.mode)
        assert found.alpha is None
    assert read(png(8, 1, 1, 0, b"\0\xa8")).pixels.ravel().tolist() == [255, 0, 255, 0, 255, 0, 0, 0]


def test_grey_of_more_than_eight_bits_has_sixteen():
    found = read(tiff(2, 1, 12, 1, b"\xff\xf8\x09"))
    assert found.pixels.ravel().tolist() == [65535, 32920]  # 2057 * 65535 / 4095 = 32919.53
    assert read(tiff(2, 1, 16, 0, struct.pack("<2H", 5, 65535))).pixels.ravel().tolist() == [65530, 0]  # white is zero
    for data in (tiff(2, 1, 16, 1, struct.pack("<2H", 5, 65535)), tiff(2, 1, 32, 1, struct.pack("<2I", 5, 65535))):
        found = read(data)
        assert found.pixels.ravel().tolist() == [5, 65535] and found.pixels.dtype == np.uint16


def test_transparent_colours_become_alpha():
    palette = png_chunk(b"PLTE", bytes(range(1, 10)))
    for transparency, alpha in ((bytes([0, 128]), [255, 0, 128]), (b"\xff\0", [255, 255, 0])):
        found = read(png(3, 1, 8, 3, b"\0\2\0\1", palette, png_chunk(b"tRNS", transparency)))
        assert found.pixels[0].tolist() == [[7, 8, 9], [1, 2, 3], [4, 5, 6]]
        assert found.alpha is not None and found.alpha[0].tolist() == alpha
    colormap = [0] * 768
    colormap[1], colormap[256 + 1], colormap[512 + 1] = 20 * 256, 40 * 256, 60 * 256
    found = read(tiff(1, 1, 8, 3, bytes([1, 77]), samples=2, extra=2, colormap=colormap))
    assert found.pixels.tolist() == [[[20, 40, 60]]]
    assert found.alpha is not None and found.alpha.tolist() == [[77]]
    found = read(png(4, 1, 2, 0, b"\0\x1b", png_chunk(b"tRNS", b"\0\1")))
    assert found.pixels[0].tolist() == [[0], [85], [170], [255]]
    assert found.alpha is not None and found.alpha[0].tolist() == [255, 0, 255, 255]


def test_transparent_gifs():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    found = read(encoded(image, "GIF", transparency=1))
    assert found.pixels[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    assert found.alpha is not None and found.alpha[0].tolist() == [255, 0]
    found = read(encoded(Image.fromarray(RAMP), "GIF", transparency=7))
    np.testing.assert_array_equal(found.pixels[:, :, 0], RAMP)
    np.testing.assert_array_equal(found.alpha, np.where(RAMP == 7, 0, 255))


# what is seen of the stored [[1, 2, 3], [4, 5, 6]] (Exif 2.3, tag 0x0112)
UPRIGHT = {1: "123/456", 2: "321/654", 3: "654/321", 4: "456/123"}
UPRIGHT |= {5: "14/25/36", 6: "41/52/63", 7: "63/52/41", 8: "36/25/14"}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("format", "bits"), [("PNG", 8), ("WEBP", 8), ("TIFF", 8), ("PNG", 16), ("TIFF", 16)])
def test_orientation_is_applied_once_to_pixels_and_alpha(format, bits, orientation):
    dtype = np.dtype(f"u{bits // 8}")
    grey = np.array([[1, 2, 3], [4, 5, 6]], dtype) * 40
    stored = np.dstack([grey, grey + 1, grey + 2, 255 - grey])
    exif = camera_exif(Orientation=orientation).tobytes()
    if bits == 8:
        data = encoded(Image.fromarray(stored), format, exif=exif, lossless=True)
    elif format == "PNG":
        data = imagecodecs.png_encode(stored)
        data = data[:33] + png_chunk(b"eXIf", exif[6:]) + data[33:]
    else:
        data = tiff_file(stored, extrasamples=["unassalpha"], extratags=[(274, 3, 1, orientation, True)])
    found = read(data)
    expected = np.array([[int(digit) * 40 for digit in row] for row in UPRIGHT[orientation].split("/")], dtype)
    assert found.alpha is not None
    np.testing.assert_array_equal(found.pixels, np.dstack([expected, expected + 1, expected + 2]))
    np.testing.assert_array_equal(found.alpha, 255 - expected)
    assert found.pixels.flags.c_contiguous and found.alpha.flags.c_contiguous
    assert found.pixels.dtype == found.alpha.dtype == dtype
    for output in ("png", "tiff"):
        assert_same(read(encode(found, output)), found)


def test_orientation_in_xmp_is_applied_once():
    image, packet = Image.new("RGB", (3, 2)), b'<x tiff:Orientation="6"/>'
    for format, option in (("TIFF", {"tiffinfo": {700: packet}}), ("JPEG", {"xmp": packet}), ("WEBP", {"xmp": packet})):
        found = read(encoded(image, format, **option))
        assert found.pixels.shape == (3, 2, 3)
        for output in OUTPUT_FORMATS:
            assert read(encode(found, output)).pixels.shape == (3, 2, 3)
    deep = tiff_file(np.zeros((2, 3, 3), np.uint16), extratags=[(700, 1, len(packet), packet, True)])
    assert read(deep).pixels.shape == read(encode(read(deep), "tiff")).pixels.shape == (3, 2, 3)


@pytest.mark.parametrize(
    "packet",
    [
        b"<x tiff:Orientation='6'/>",
        b'<x tiff:Orientation = "6"/>',
        b'<x xmlns:t="http://ns.adobe.com/tiff/1.0/" t:Orientation="6"/>',
        "<x tiff:Orientation='6'/>".encode("utf-16"),
    ],
)
def test_every_format_turns_by_what_is_taken_out_of_xmp(packet):
    image = Image.new("RGB", (3, 2))
    files = [encoded(image, "TIFF", tiffinfo={700: packet})]
    files += [encoded(image, format, xmp=packet) for format in ("JPEG", "WEBP", "AVIF")]
    files += [encoded(image, "JPEG", xmp=packet, exif=b"Exif\0\0garbage")]
    files += [png(3, 2, 8, 0, bytes(8), *png_text.written([png_text.profile("xmp", packet)]))]
    files += [png(3, 2, 8, 0, bytes(8), *png_text.written([Chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + packet)]))]
    files += [tiff_file(np.zeros((2, 3, 3), np.uint16), extratags=[(700, 1, len(packet), packet, True)])]
    for data in files:
        assert read(data).pixels.shape[:2] == decode_rgb(data, 6).shape[:2] == (3, 2)
        assert xmp.orientation(read(data).metadata.xmp or b"") == 1


def test_the_orientation_of_exif_counts_before_that_of_xmp():
    exif, packet = camera_exif(Orientation=3).tobytes(), b"<x tiff:Orientation='6'/>"
    for format in ("JPEG", "WEBP", "TIFF"):
        options = {"tiffinfo": {700: packet, 274: 3}} if format == "TIFF" else {"exif": exif, "xmp": packet}
        assert read(encoded(Image.new("RGB", (3, 2)), format, **options)).pixels.shape == (2, 3, 3)


FITTING = [("RGB", "RGB "), ("RGBA", "RGB "), ("P", "RGB "), ("L", "GRAY"), ("I;16", "GRAY"), ("1", "GRAY")]
UNFITTING = [("RGB", "GRAY"), ("CMYK", "CMYK"), ("LAB", "Lab ")]


@pytest.mark.parametrize(("mode", "space"), FITTING + UNFITTING)
def test_a_profile_stays_where_it_fits(mode, space):
    found = read(encoded(Image.new(mode, (5, 4)), "TIFF", icc_profile=icc_profile(space)))
    assert found.metadata.icc == (icc_profile(space) if (mode, space) in FITTING else None)


def test_metadata_of_every_format():
    metadata = {"exif": camera_exif(Copyright="somebody").tobytes(), "icc_profile": icc_profile("RGB ")}
    for format in ("PNG", "JPEG", "WEBP", "TIFF"):
        found = read(encoded(Image.new("RGB", (53, 37)), format, **metadata))
        assert found.metadata.icc == icc_profile("RGB ")
        if format == "TIFF":  # into which Pillow writes no interoperability directory
            assert (
                found.metadata.exif is not None
                and b"maker note\1\2\xff" in found.metadata.exif
                and b"somebody" in found.metadata.exif
            )
        else:
            assert_carries(encode(found, "png"), found.metadata.icc)


def test_exif_as_imagemagick_hides_it_in_a_png():
    exif = camera_exif(Orientation=6).tobytes()
    lines = [exif.hex()[start : start + 72] for start in range(0, 2 * len(exif), 72)]
    text = "\n".join(["", "exif", f"{len(exif):8}", *lines])
    for name in ("exif", "APP1"):
        chunk = png_chunk(b"tEXt", f"Raw profile type {name}\0{text}".encode())
        found = read(png(3, 2, 8, 0, bytes(8), chunk))
        assert found.pixels.shape == (3, 2, 1)
        assert found.metadata.exif is not None and b"Maker\0" in found.metadata.exif


@pytest.mark.parametrize("exif", [b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff\1\x12"])
def test_broken_exif_is_left_out(exif):
    found = read(encoded(Image.new("RGB", (3, 2), "red"), "PNG", exif=b"Exif\0\0" + exif))
    assert found.metadata.exif is None and found.pixels[0].tolist() == [[255, 0, 0]] * 3


def test_broken_exif_of_imagemagick_is_left_out():
    found = read(png(3, 2, 8, 0, bytes(8), png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n2\nno hex")))
    assert found.metadata.exif is None and found.pixels.shape == (2, 3, 1)


def test_text_is_no_profile():
    assert read(png(1, 1, 8, 2, bytes(4), png_chunk(b"tEXt", b"icc_profile\0" + b"RGB " * 9))).metadata.icc is None


@pytest.mark.parametrize("bits", [8, 16])
def test_a_profile_that_is_a_bomb(bits):
    bomb = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(50_000_000)))
    found = read(png(1, 1, bits, 2, bytes(1 + 3 * bits // 8), bomb))
    assert found.metadata.icc is None and found.notes == ("without ICC profile (it is damaged or too long)",)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tile_larger_than_any_image_may_be(bits):
    data = bytearray(tiff_file(np.zeros((4, 6, 3), f"u{bits // 8}"), tile=(16, 16), compression="zlib"))
    for tag in (322, 323):
        at = data.index(struct.pack("<HHI", tag, 4, 1))
        data[at + 8 : at + 12] = struct.pack("<I", 60_000)
    with pytest.raises(ImageError, match="too many pixels: 60000x60000"):
        read(bytes(data))


def test_max_pixels_and_cuts_of_deep_tiffs():
    data = tiff(6, 4, 16, 2, bytes(6 * 4 * 6), samples=3)
    assert decode(data, 24, keep=True).pixels.shape == (4, 6, 3)
    with pytest.raises(ImageError, match="too many pixels: 6x4 = 24 pixels is over the limit of 23"):
        decode(data, 23, keep=True)
    with pytest.raises(ImageError, match="truncated file: the TIFF ends before its pixels do"):
        read(data[:-1])
    with pytest.raises(ImageError, match="too many pixels: 60000x60000"):
        read(tiff(60_000, 60_000, 16, 2, bytes(9), samples=3))


@pytest.mark.parametrize("kind", KINDS)
def test_without_keep_there_are_pixels_alone(kind):
    source = sample(*kind)
    found = decode(encode(source, "png"), 10_000, keep=False)
    assert_same(found, Picture(eight_bits(source.pixels).astype(np.uint8)))


def test_any_buffer_will_do():
    data = encode(sample(np.uint16, 3, True), "tiff")
    assert_same(read(pa.py_buffer(data)), read(data))
    assert_same(read(memoryview(data)), read(data))
    with pytest.raises(ImageError, match="empty file: 0 bytes"):
        read(pa.py_buffer(b""))


def test_the_array_is_writable_contiguous_uint8():
    for data in (png(2, 1, 8, 0, b"\0\7\x09"), png(1, 1, 16, 0, b"\0\0\0"), encoded(Image.new("RGB", (5, 4)), "JPEG")):
        image = decode_rgb(data, 1_000_000)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous and image.flags.writeable


def test_odd_files_have_their_sizes(tmp_path):
    sizes = write_odd_files(tmp_path)
    assert {name: decode_rgb((tmp_path / name).read_bytes(), 1_000_000).shape for name in sizes} == {
        name: (*size, 3) for name, size in sizes.items()
    }
    assert all(is_image_name(name) for name in sizes)


def test_its_bytes_count_all_that_it_holds():
    pixels, alpha = np.zeros((3, 5, 3), np.uint16), np.zeros((3, 5), np.uint16)
    metadata = Metadata(icc=bytes(10), exif=bytes(20), texts=(Chunk(b"tEXt", bytes(30)),))
    assert Picture(pixels).nbytes == 90 and Picture(pixels, alpha, metadata).nbytes == 90 + 30 + 60
