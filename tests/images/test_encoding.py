"""encode: what a file had beside its pixels is in the file that is written, as other readers of files see it."""

import io
from dataclasses import replace
from itertools import product

import imagecodecs
import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, JpegImagePlugin

from imagewizard.images import encoding, icc
from imagewizard.images.errors import ImageError
from imagewizard.images.formats import OUTPUT_FORMATS
from imagewizard.images.metadata import Metadata
from imagewizard.images.picture import Picture, decode, decode_rgb
from imagewizard.images.png_chunks import Chunk
from imagewizard.images.resolution import Resolution
from tests.support.sample_files import camera_exif, encoded, exif_values, icc_profile, photo
from tests.support.sample_metadata import everything

HEIGHT, WIDTH = 37, 53
KINDS = list(product((np.uint8, np.uint16), (1, 3), (False, True)))


def encode(picture: Picture, format: str, quality: int | None = None) -> bytes:
    return encoding.encode(picture, format, quality).data


def read(data: bytes) -> Picture:
    return decode(data, 1_000_000, keep=True)


def with_exif(exif: Image.Exif, height: int = HEIGHT, width: int = WIDTH) -> bytes | None:
    """The EXIF that a picture of that size has."""
    return read(encoded(Image.new("L", (width, height)), "PNG", exif=exif)).metadata.exif


def sample(dtype: type, channels: int, has_alpha: bool) -> Picture:
    """Noise with all that there can be."""
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH, 4)).astype(dtype)
    pixels, alpha = np.ascontiguousarray(values[..., :channels]), np.ascontiguousarray(values[..., 3])
    profile = icc_profile("GRAY" if channels == 1 else "RGB ")
    metadata = Metadata(
        profile, with_exif(camera_exif(Copyright="somebody")), resolution=Resolution(72.5, 72.5, "inch")
    )
    return Picture(pixels, alpha if has_alpha else None, metadata)


def samples(source: Picture) -> np.ndarray:
    """As other readers give them: grey without an axis, alpha behind the colours."""
    return np.squeeze(source.pixels if source.alpha is None else np.dstack([source.pixels, source.alpha]))


def eight_bits(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.uint8 else np.round(values / 257)


def assert_same(a: Picture, b: Picture) -> None:
    assert a.pixels.dtype == b.pixels.dtype
    np.testing.assert_array_equal(a.pixels, b.pixels)
    assert (a.alpha is None) == (b.alpha is None)
    if a.alpha is not None and b.alpha is not None:
        assert a.alpha.dtype == b.alpha.dtype == a.pixels.dtype
        np.testing.assert_array_equal(a.alpha, b.alpha)
    assert a.metadata == b.metadata


def assert_carries(data: bytes, icc: bytes | None) -> Image.Image:
    """The file, loaded by Pillow, which finds the ICC profile there, and the EXIF of `sample`."""
    stored = Image.open(io.BytesIO(data))
    stored.load()
    assert stored.info.get("icc_profile") == icc
    camera = camera_exif(Copyright="somebody")
    camera.get_ifd(0x8769).update({0xA002: WIDTH, 0xA003: HEIGHT})
    written = Image.open(io.BytesIO(encoded(Image.new("L", (1, 1)), "PNG", exif=camera)))
    expected, found = exif_values(written), exif_values(stored)
    for directory, tags in expected.items():
        assert tags and found[directory].items() >= tags.items()  # a TIFF has more, of its own
    assert 0x0112 not in found["main"]
    return stored


@pytest.mark.parametrize("kind", KINDS)
def test_png_keeps_everything(kind):
    source = sample(*kind)
    data = encode(source, "png")
    assert_carries(data, source.metadata.icc)
    assert b"eXIfII*\0" in data or b"eXIfMM\0*" in data  # Pillow would forgive JPEG's prefix
    stored = imagecodecs.png_decode(data)
    assert stored.dtype == source.pixels.dtype
    np.testing.assert_array_equal(stored, samples(source))
    assert_same(read(data), source)


DEEP_GREY_WITH_ALPHA = (np.uint16, 1, True)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != DEEP_GREY_WITH_ALPHA])
def test_tiff_keeps_everything(kind):
    source = sample(*kind)
    data = encode(source, "tiff")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        assert page.dtype == source.pixels.dtype
        np.testing.assert_array_equal(page.asarray(), samples(source))
        assert page.tags[34675].value == source.metadata.icc
        assert page.tags["Copyright"].value == "somebody"
        assert page.tags["ExifTag"].value["ExposureTime"] == 0.005
        assert page.tags["GPSTag"].value["GPSLatitude"] == (50, 1, 4, 1, 25, 2)
    stored = assert_carries(data, source.metadata.icc)
    if kind[0] == np.uint8:
        np.testing.assert_array_equal(np.asarray(stored), samples(source))
    assert_same(read(data), source)


def test_deep_grey_with_alpha_becomes_rgb_in_a_tiff_for_pillow():
    source = sample(*DEEP_GREY_WITH_ALPHA)
    source = replace(source, metadata=replace(source.metadata, icc=icc.of_grey((2.2,))))
    data = encode(source, "tiff")
    assert_carries(data, icc.of_rgb((2.2,), icc.SRGB))
    again = read(data)
    np.testing.assert_array_equal(again.pixels, np.repeat(source.pixels, 3, axis=2))
    np.testing.assert_array_equal(again.alpha, source.alpha)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_many_strips_in_the_byte_order_of_its_exif(order):
    camera = camera_exif()
    camera.endian = order
    pixels = np.random.default_rng(0).integers(0, 65535, (401, 333, 3)).astype(np.uint16)
    source = Picture(
        pixels, metadata=Metadata(exif=with_exif(camera, 401, 333), resolution=Resolution(72.5, 72.5, "inch"))
    )
    data = encode(source, "tiff")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.byteorder == order
        assert len(file.pages.first.dataoffsets) == 4  # 262144 bytes are 131 rows of 1998
        assert file.pages.first.offset % 2 == 0
        assert file.pages.first.tags["ExifTag"].value["ExposureTime"] == 0.005
    np.testing.assert_array_equal(imagecodecs.tiff_decode(data), pixels)
    assert_same(read(data), source)


def test_a_tiff_is_laid_out_as_it_is_whatever_its_exif_says():
    source = Picture(
        np.ones((2, 3, 3), np.uint8), metadata=Metadata(exif=camera_exif(ImageWidth=999, StripOffsets=8).tobytes())
    )
    np.testing.assert_array_equal(read(encode(source, "tiff")).pixels, source.pixels)


def test_tiff_directories_start_at_even_offsets():
    rng = np.random.default_rng(0)
    for width in range(1, 20):
        data = encode(Picture(rng.integers(0, 255, (1, width, 1)).astype(np.uint8)), "tiff")
        assert int.from_bytes(data[4:8], "little") % 2 == 0


@pytest.mark.parametrize("kind", KINDS)
def test_jpeg_has_eight_bits_and_no_alpha_but_keeps_the_rest(kind):
    source = sample(*kind)
    flat = np.full_like(source.pixels, 77 if kind[0] == np.uint8 else 77 * 257 - 128)
    stored = assert_carries(encode(Picture(flat, source.alpha, source.metadata), "jpg"), source.metadata.icc)
    assert (stored.format, stored.mode) == ("JPEG", "L" if kind[1] == 1 else "RGB")
    assert set(np.asarray(stored).ravel()) == {77}


@pytest.mark.parametrize("kind", KINDS)
def test_webp_has_eight_bits_and_colour_but_keeps_the_rest(kind):
    source = sample(*kind)
    icc = None if kind[1] == 1 else source.metadata.icc  # the tests' profile of grey has no curve of its own
    stored = assert_carries(encode(source, "webp"), icc)
    assert stored.mode == ("RGB" if source.alpha is None else "RGBA")
    colours = eight_bits(source.pixels).repeat(3 // kind[1], axis=2)
    expected = colours if source.alpha is None else np.dstack([colours, eight_bits(source.alpha)])
    np.testing.assert_array_equal(np.asarray(stored), expected)
    assert assert_carries(encode(source, "webp", 80), icc).mode == stored.mode


def test_lossless_webp_keeps_colours_that_cannot_be_seen():
    source = sample(np.uint8, 3, False)
    hidden = Picture(source.pixels, np.zeros((HEIGHT, WIDTH), np.uint8))
    assert_same(read(encode(hidden, "webp")), hidden)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("format", OUTPUT_FORMATS)
def test_nothing_is_made_up(format, dtype):
    found = read(encode(Picture(np.zeros((3, 4, 3), dtype)), format))
    assert found.metadata == Metadata() and found.alpha is None and not found.notes


def test_exif_that_jpeg_cannot_hold():
    metadata = Metadata(exif=camera_exif(Artist="x" * 70_000).tobytes())
    source = Picture(np.zeros((2, 3, 3), np.uint8), metadata=metadata)
    for format in ("png", "webp", "tiff"):
        data, notes = encoding.encode(source, format)
        assert b"x" * 70_000 in data and not notes
    data, notes = encoding.encode(source, "jpg")
    assert notes == ("without EXIF Artist (readers of jpg take 65533 bytes of EXIF)",)
    assert b"Maker\0" in data and b"maker note" in data


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_too_long_for_its_readers(dtype):
    read(encode(Picture(np.zeros((1, 1_000_000, 1), dtype)), "png"))
    with pytest.raises(ImageError, match="cannot encode: 1000001x1 as png; no side may be over 1000000 pixels"):
        encode(Picture(np.zeros((1, 1_000_001, 1), dtype)), "png")


@pytest.mark.parametrize(("format", "quality"), [("png", None), ("png", 1), ("tiff", None), ("webp", None)])
def test_lossless_formats_round_trip(format, quality):
    image = photo(37, 53, seed=0)
    np.testing.assert_array_equal(decode_rgb(encode(Picture(image), format, quality), 1_000_000), image)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("format", ["jpg", "webp"])
def test_quality_trades_size_for_fidelity(format):
    image = photo(64, 96, seed=0)
    low, high = encode(Picture(image), format, 30), encode(Picture(image), format, 90)
    assert len(low) < len(high)
    assert psnr(decode_rgb(low, 1_000_000), image) + 3 < psnr(decode_rgb(high, 1_000_000), image)


def test_jpeg_keeps_all_colour_samples_and_defaults_to_95():
    # alternating red and blue columns are grey to a codec that halves the colour planes
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    data = encode(Picture(stripes), "jpg")
    stored = Image.open(io.BytesIO(data))
    assert (stored.format, JpegImagePlugin.get_sampling(stored)) == ("JPEG", 0)
    assert psnr(decode_rgb(data, 1_000_000), stripes) > 30
    assert data == encode(Picture(stripes), "jpg", 95) != encode(Picture(stripes), "jpg", 94)


@pytest.mark.parametrize(("format", "side"), [("webp", 16383), ("jpg", 65500)])
def test_an_image_too_long_for_its_format(format, side):
    encode(Picture(np.zeros((1, side, 3), np.uint8)), format)
    with pytest.raises(ImageError, match=f"cannot encode: {side + 1}x1 as {format}; no side may be over {side} pixels"):
        encode(Picture(np.zeros((1, side + 1, 3), np.uint8)), format)


LARGE = Metadata(
    icc=icc_profile("RGB ") + bytes(1_000_000),
    exif=camera_exif(Artist="x" * 70_000).tobytes(),
    xmp=b"<" + b"x" * 100_000,
    iptc=b"\x1c" + b"x" * 100_000,
    colour=everything().colour,
    texts=(Chunk(b"iTXt", b"workflow" + bytes(5) + b"x" * 2_000_000),),
)


@pytest.mark.parametrize("metadata", [everything(WIDTH, HEIGHT), LARGE], ids=["usual", "large"])
@pytest.mark.parametrize("format", OUTPUT_FORMATS)
def test_libvips_reads_what_is_written_without_a_warning(format, metadata):
    for kind in KINDS:
        source = replace(sample(*kind), metadata=metadata)
        if kind[1] == 1:
            source = replace(source, metadata=replace(metadata, icc=None, colour=metadata.colour[:1]))
        data = encode(source, format)
        found = pyvips.Image.new_from_buffer(data, "", fail_on="warning")
        is_as_it_was = format == "png" or (format == "tiff" and kind != DEEP_GREY_WITH_ALPHA)
        expected = samples(source if is_as_it_was else read(data))
        np.testing.assert_allclose(np.squeeze(found.numpy()), expected, atol=20 if format == "jpg" else 0)
        fields = set(found.get_fields())
        if metadata is not LARGE:
            assert fields >= {"xmp-data"} | ({"exif-data"} if format != "tiff" else {"iptc-data"})
            assert "icc-profile-data" in fields or (format == "png" and kind[1] == 1)
            assert format == "webp" or found.xres == pytest.approx(72.5 / 25.4, rel=0.01)
