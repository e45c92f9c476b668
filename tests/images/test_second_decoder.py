"""Images in and out against libvips: what others write, as we read it, and what we write, as others read it.

Made by Pillow, tifffile, imagecodecs and libvips: each format with each mode and depth that they write and libvips
reads; what it does not read is in the tests of the modules. Equal means each sample; of lossy formats, where decoders
round as they like, that they are close.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import imagecodecs
import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

from imagewizard.images.encoding import encode
from imagewizard.images.formats import OUTPUT_FORMATS
from imagewizard.images.metadata import Metadata
from imagewizard.images.picture import Picture, decode
from tests.support.sample_files import camera_exif, encoded, icc_profile, photo

HEIGHT, WIDTH = 20, 35
ENOUGH = 1_000_000
PHOTO = photo(HEIGHT, WIDTH, seed=1)
RANDOM = np.random.default_rng(0)


def samples(bits: int, channels: int) -> np.ndarray:
    return RANDOM.integers(0, 2**bits, (HEIGHT, WIDTH, channels)).astype(np.uint8 if bits <= 8 else np.uint16)


def as_rgba16(values: np.ndarray) -> np.ndarray:
    """Samples of 8 or 16 bits, (H, W, 1-4), grey or RGB with or without alpha, as RGB and alpha of 16 bits."""
    wide = values * np.uint16(257) if values.dtype == np.uint8 else values
    colours, alpha = wide[:, :, : 1 if wide.shape[2] < 3 else 3], wide[:, :, -1:]
    opaque = np.full_like(alpha, 65535)
    return np.concatenate([np.broadcast_to(colours, (*wide.shape[:2], 3)), opaque if wide.shape[2] % 2 else alpha], 2)


def joined(picture: Picture) -> np.ndarray:
    return picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])


def by_us(data: bytes) -> np.ndarray:
    return as_rgba16(joined(decode(data, ENOUGH, True)))


def by_libvips(data: bytes) -> np.ndarray:
    image = pyvips.Image.new_from_buffer(data, "")
    return as_rgba16(image.numpy().reshape(image.height, image.width, image.bands))


def by_pillow(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.load()
    values = np.asarray(image)
    return as_rgba16(np.atleast_3d(values.astype(np.uint16) if image.mode.startswith("I") else values))


# ------------------------------------------------------------------------------------------------------------------ in


def of_pillow() -> Iterator[tuple[str, bytes]]:
    colour, alpha = Image.fromarray(PHOTO), Image.fromarray(samples(8, 1)[:, :, 0])
    with_alpha = colour.copy()
    with_alpha.putalpha(alpha)
    deep = Image.fromarray(samples(16, 1)[:, :, 0])
    modes = {mode: colour.convert(mode) for mode in ("1", "L", "RGB")} | {"P": colour.quantize(64), "I;16": deep}
    modes |= {"RGBA": with_alpha, "LA": with_alpha.convert("LA")}
    formats = {
        "PNG": [{}],
        "GIF": [{}, {"interlace": 0}],
        "TIFF": [{"compression": name} for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "group4")],
        "WEBP": [{"lossless": True, "exact": True}],
        "JPEG": [{"quality": 95, "progressive": progressive} for progressive in (False, True)],
    }
    for format, ways in formats.items():
        for mode, image in modes.items():
            for options in ways:
                try:
                    data = encoded(image, format, **options)
                except (OSError, ValueError):  # the format does not have the mode
                    continue
                yield f"Pillow {format} {mode} {options}", data


def of_tifffile() -> Iterator[tuple[str, bytes]]:
    layouts = [{}, {"tile": (16, 16)}, {"byteorder": ">"}, {"bigtiff": True}, {"rowsperstrip": 3}]
    layouts += [{"planarconfig": "separate"}, {"compression": "lzw", "predictor": True}, {"compression": "deflate"}]
    layouts += [{"compression": "packbits"}, {"compression": "lzw", "tile": (32, 16), "byteorder": ">"}]
    for bits in (8, 16):
        for channels, photometric in ((1, "minisblack"), (1, "miniswhite"), (2, "minisblack"), (3, "rgb"), (4, "rgb")):
            for layout in layouts:
                if "planarconfig" in layout and channels < 3:
                    continue  # libvips sees no second channel there
                image, options = samples(bits, channels), {"planarconfig": "contig"} | layout
                if options["planarconfig"] == "separate":
                    image = np.moveaxis(image, 2, 0)
                if channels == 1:
                    image, options = image.squeeze(), layout
                extra = {"extrasamples": ["unassalpha"]} if channels % 2 == 0 else {}
                stream = io.BytesIO()
                tifffile.imwrite(stream, image, photometric=photometric, **options, **extra)
                yield f"tifffile {bits} {photometric} {channels} {layout}", stream.getvalue()


def of_imagecodecs() -> Iterator[tuple[str, bytes]]:
    for channels in (1, 2, 3, 4):
        for bits in (8, 16):
            yield f"imagecodecs PNG {bits} {channels}", imagecodecs.png_encode(samples(bits, channels).squeeze())
        yield f"imagecodecs AVIF {channels}", imagecodecs.avif_encode(samples(8, channels).squeeze(), level=100)
    for channels in (1, 3):
        yield (
            f"imagecodecs JPEG lossless {channels}",
            imagecodecs.jpeg8_encode(samples(8, channels).squeeze(), lossless=True),
        )
    for subsampling in ("444", "422", "420", "440"):
        data = imagecodecs.jpeg8_encode(PHOTO, level=95, subsampling=subsampling)
        yield f"imagecodecs JPEG {subsampling}", data


def of_libvips() -> Iterator[tuple[str, bytes]]:
    for bits, grey, colour in ((8, "b-w", "srgb"), (16, "grey16", "rgb16")):
        for channels in (1, 2, 3, 4):
            image = pyvips.Image.new_from_array(
                samples(bits, channels), interpretation=grey if channels < 3 else colour
            )
            yield f"libvips PNG interlaced {bits} {channels}", image.pngsave_buffer(interlace=True)
            for options in ({}, {"compression": "lzw", "predictor": "horizontal"}, {"tile": True, "pyramid": True}):
                yield f"libvips TIFF {options} {bits} {channels}", image.tiffsave_buffer(**options)
    image = pyvips.Image.new_from_array(samples(8, 1), interpretation="b-w")
    for depth in (1, 2, 4):
        yield f"libvips PNG {depth}", image.pngsave_buffer(palette=True, bitdepth=depth)
        yield f"libvips TIFF {depth}", image.tiffsave_buffer(bitdepth=depth)


@cache
def files() -> dict[str, bytes]:
    return {name: bytes(data) for of in (of_pillow, of_tifffile, of_imagecodecs, of_libvips) for name, data in of()}


def test_what_others_write_is_read_as_libvips_reads_it():
    assert len(files()) > 200
    for name, data in files().items():
        ours, theirs = by_us(data), by_libvips(data)
        if "JPEG" in name and "lossless" not in name:
            assert np.abs(ours.astype(int) - theirs).max() <= 257, name
        else:
            np.testing.assert_array_equal(ours, theirs, name)


# ----------------------------------------------------------------------------------------------------------------- out


@pytest.mark.parametrize("format", OUTPUT_FORMATS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("beside", ["nothing", "a little", "much"])
def test_what_is_written_is_read_by_all_with_the_same_pixels(format, bits, channels, has_alpha, beside):
    icc = icc_profile("GRAY" if channels == 1 else "RGB ")
    exif = camera_exif(ImageDescription="x" * (100 if beside == "a little" else 300_000)).tobytes()
    padding = b"" if beside == "a little" else RANDOM.bytes(3_000_000)
    metadata = Metadata() if beside == "nothing" else Metadata(icc=icc + padding, exif=exif)
    pixels = np.broadcast_to(
        PHOTO[:, :, :channels].astype(np.uint8 if bits == 8 else np.uint16), (HEIGHT, WIDTH, channels)
    )
    pixels = pixels if bits == 8 else pixels * np.uint16(255) + np.uint16(9)
    alpha = samples(bits, 1)[:, :, 0] if has_alpha else None
    picture = Picture(np.ascontiguousarray(pixels), alpha, metadata)
    data = encode(picture, format).data

    wanted = as_rgba16(joined(picture))
    shallow = as_rgba16((wanted // 257 + (wanted % 257 > 128)).astype(np.uint8))
    if format in ("jpg", "webp"):
        wanted = shallow
    for read in (by_us, by_libvips):
        if format == "jpg":
            assert np.abs(read(data)[:, :, :3].astype(int) - wanted[:, :, :3]).mean() < 6 * 257
        else:
            np.testing.assert_array_equal(read(data), wanted)
    # Pillow has no colour and no alpha of 16 bits: it reads the upper byte
    most = 257 if format in ("png", "tiff") and bits == 16 and (channels == 3 or has_alpha) else 0
    if format == "jpg":
        np.testing.assert_array_equal(by_pillow(data), by_us(data))
    else:
        assert np.abs(by_pillow(data).astype(int) - wanted).max() <= most


def test_what_was_read_can_be_written_and_read_again():
    formats = sorted(OUTPUT_FORMATS)
    for index, (name, data) in enumerate(files().items()):
        picture = decode(data, ENOUGH, True)
        again = decode(encode(picture, "png").data, ENOUGH, True)
        np.testing.assert_array_equal(joined(again), joined(picture), name)
        format = formats[index % len(formats)]
        written = encode(replace(picture, metadata=Metadata()), format).data
        assert by_libvips(written).shape == by_us(written).shape == (*picture.pixels.shape[:2], 4), (name, format)
