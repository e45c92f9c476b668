"""Image files → what they store: samples of 8 or 16 bits, their ICC profile and their EXIF.

Pillow reads them, but for what it has no mode for or gets wrong: that is in deep_colour.py, jpeg.py, rare_tiff.py,
avif.py and jpeg_xl.py. It may use its plugins for INPUT_FORMATS only, so that no file reaches another one, whatever its
name (EPS would start Ghostscript). Importing this changes nothing of the process; `quiet` does.
"""

import ctypes
import io
import logging
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from imagewizard.images import avif, colour, deep_colour, jpeg, jpeg_xl, png_chunks, png_text, rare_tiff
from imagewizard.images.errors import ImageError, TooLargeError
from imagewizard.images.exif import ICC_PROFILE, ORIENTATION, XMP, Tags
from imagewizard.images.formats import INPUT_FORMATS
from imagewizard.images.orientation import said_orientation, upright

_PILLOW_NAMES = tuple(format.name.upper() for format in INPUT_FORMATS if format.name != "JXL")


@cache
def quiet() -> None:
    """Settings of this process, for one whose only work is on images: a worker, a command.

    Warnings and logs of Pillow, imagecodecs and tifffile and messages of libtiff are silenced: what they report of an
    image is either harmless or becomes an ImageError. Pillow's own limit of pixels, MAX_IMAGE_PIXELS, is lifted:
    `max_pixels` is checked as soon as the header is read.
    """
    # A filter that stays, rather than warnings.catch_warnings, which is not safe with threads.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for name in ("PIL", "imagecodecs", "tifffile"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    Image.MAX_IMAGE_PIXELS = None
    # libtiff prints errors itself, up to a line for each row of a broken fax image, and Pillow has no switch for that.
    # Where libtiff is not a shared library (Windows) it goes on doing so.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


@dataclass(frozen=True)
class Stored:
    """What a file stores of its first image."""

    samples: np.ndarray
    """uint8 or uint16, (H, W, 1-4), upright, C-contiguous: grey, grey + alpha, RGB or RGB + alpha."""
    tags: bytes | None
    """The structure that holds its EXIF, for exif.Tags.read; it still has the orientation, which is applied here."""
    orientation: int = 1
    """What was applied, of 1 to 8."""
    icc: object = None
    """The ICC profile of the samples, bytes; None without one."""
    is_srgb: bool = False
    """Whether the samples have been converted to sRGB, by a profile or from LAB."""
    notes: tuple[str, ...] = ()
    """What is to be said of the samples."""
    info: dict[str | tuple[int, int], Any] = field(default_factory=dict)
    """What Pillow has found beside the pixels, Image.info; of a PNG `chunks`, `damaged` and png_text's `texts` too."""


def stored(data: bytes, max_pixels: int) -> Stored:
    """What the file stores. To be called within errors.explained: raises ImageError, and what decoders raise.

    - Stored values count: profiles and gamma change nothing but CMYK. Premultiplied alpha (TIFF) is divided out.
    - Grey of up to 8 bits is spread over 0-255. Palette: its colours. A transparent colour (PNG, GIF) becomes alpha.
    - YCbCr: full range, BT.601. LAB (TIFF): to sRGB by LittleCMS.
    - CMYK: to sRGB by its ICC profile; without one that can be used R = (255 - C)(255 - K) / 255, and so on. CMYK
      JPEGs are taken to be inverted, as Adobe writes them.
    - More than 8 bits (TIFF, JPEG): 16 bits, round(65535 v / (2^bits - 1)). Integers of no certain scale (TIFF; signed,
      or grey of over 16 bits) count as they are, and values outside 0-65535 (8 bits: 0-255) are refused, as is
      floating point.
    - Animations and multi-page files: the first frame.
    - The orientation of EXIF, or else of XMP, is applied; what of them cannot be read is ignored.

    More than `max_pixels` in the header is refused before a pixel is decoded; so is, in a process that has not called
    `quiet`, more than twice Pillow's MAX_IMAGE_PIXELS.
    A cut-off file is refused, as is a PNG with a wrong checksum in what the pixels need (Pillow itself does not check
    those of pixel data); where the rest of a PNG is damaged, or its end missing, that is left out.
    Formats without checksums (all others) cannot show damage that leaves their bit stream readable.
    """
    if jpeg_xl.is_one(data):
        return _jpeg_xl(data, max_pixels)
    layout = _tiff_layout(data)
    if layout is not None:
        for tile in zip(layout.integers(_TILE_WIDTH), layout.integers(_TILE_HEIGHT), strict=False):
            _check_size(*tile, max_pixels)  # libtiff allocates a whole tile, however small the image
        if deep_colour.is_deep(layout):
            return _tiff_beyond_pillow(data, layout, max_pixels, deep_colour.read_tiff)
        if rare_tiff.is_rare(layout):
            return _tiff_beyond_pillow(data, layout, max_pixels, rare_tiff.read)
    try:
        image, read = _opened(data)
    except UnidentifiedImageError:
        if layout is None:
            raise
        return _tiff_beyond_pillow(data, layout, max_pixels, rare_tiff.read)
    _check_size(*image.size, max_pixels)
    found = colour.converted(image.mode, image.info.get("icc_profile")) | {"info": image.info}
    if layout is not None:
        turn = said_orientation(layout, layout.bytes_of(XMP))
        if turn > 1:
            image.getexif()[ORIENTATION] = turn  # load() turns a TIFF by it
        return Stored(read(image), data, turn, **found)
    tags = image.info.get("exif")
    turn = said_orientation(tags, image.info.get("xmp"))
    return Stored(upright(read(image), turn), tags, turn, **found)


def rgb8(samples: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3), C-contiguous, of Stored.samples: alpha is dropped, grey is R = G = B, 16 bits are rounded."""
    colours = eight_bits(split_alpha(samples)[0])
    return np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else np.ascontiguousarray(colours)


def split_alpha(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Stored.samples → colours (H, W, 1 or 3) and alpha (H, W), or None; C-contiguous."""
    if samples.shape[2] % 2:
        return samples, None
    return np.ascontiguousarray(samples[:, :, :-1]), np.ascontiguousarray(samples[:, :, -1])


def eight_bits(values: np.ndarray) -> np.ndarray:
    """uint8 as it is; uint16 as round(v / 257)."""
    if values.dtype == np.uint8:
        return values
    return ((values + np.uint32(128)) // np.uint32(257)).astype(np.uint8)  # 257 is odd: there are no ties


# ---------------------------------------------------------------------------------------------------------- opening

_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323  # TIFF 6.0


def _tiff_layout(data: bytes) -> Tags | None:
    """The tags of a TIFF; None for other files. Raises ValueError for one that is cut off."""
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    try:
        layout = Tags.read(data)
    except ValueError as error:
        raise ValueError("truncated TIFF") from error
    if layout.is_cut:
        raise ValueError("truncated TIFF")
    return layout


def _tiff_beyond_pillow(
    data: bytes, layout: Tags, max_pixels: int, read: Callable[[bytes, Tags, int, int], np.ndarray]
) -> Stored:
    sides = layout.integers(_WIDTH) + layout.integers(_HEIGHT)
    if len(sides) != 2:
        raise UnidentifiedImageError("a TIFF without a size")
    width, height = sides
    _check_size(width, height, max_pixels)
    turn = said_orientation(layout, layout.bytes_of(XMP))
    samples = upright(read(data, layout, width, height), turn)
    found = colour.converted(rare_tiff.mode(layout), layout.bytes_of(ICC_PROFILE))
    return Stored(samples, data, turn, **found)


def _jpeg_xl(data: bytes, max_pixels: int) -> Stored:
    header = jpeg_xl.header(data)
    _check_size(header.width, header.height, max_pixels)
    exif = jpeg_xl.beside(data, b"Exif")
    tags = exif and exif[4 + int.from_bytes(exif[:4]) :]
    return Stored(jpeg_xl.read(data, header), tags, header.orientation)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooLargeError(width, height, max_pixels)


_Opened = tuple[ImageFile.ImageFile, Callable[[ImageFile.ImageFile], np.ndarray]]
"""An image whose header is read, and what gives its samples."""


def _opened(data: bytes) -> _Opened:
    if data.startswith(png_chunks.SIGNATURE):
        return _opened_png(data)
    try:
        image = Image.open(io.BytesIO(data), formats=_PILLOW_NAMES)
    except UnidentifiedImageError:
        if data.startswith(_JPEG):
            return _opened_odd_jpeg(data)
        raise
    except ValueError:
        if (whole := avif.without_exif(data)) == data:
            raise
        image, read = _opened(whole)
        image.info["exif"] = b"\0"  # none that can be read, which a row's notes will say
        return image, read
    if image.format == "AVIF" and avif.bits(data) > 8:
        return image, lambda _: avif.read(data)
    return image, partial(_loaded_jpeg, data) if data.startswith(_JPEG) else _loaded


def _loaded(image: ImageFile.ImageFile) -> np.ndarray:
    image.load()
    return _samples(image)


def _opened_png(data: bytes) -> _Opened:
    chunks = png_chunks.Chunks.read(data)
    image = Image.open(io.BytesIO(chunks.pixels), formats=("PNG",))
    texts = png_text.read(chunks.ancillary)
    image.info |= {"chunks": chunks.ancillary, "damaged": chunks.damaged, "texts": texts}
    image.info |= {"exif": texts.exif, "xmp": texts.xmp}
    image.info |= chunks.info()
    return image, partial(_loaded_png, chunks.pixels)


def _loaded_png(data: bytes, image: ImageFile.ImageFile) -> np.ndarray:
    """By libpng: 16 bits other than grey, and a transparent colour, which Pillow misses in grey of 2 or 4 bits."""
    image.load()  # Pillow is the one that says of a file that it is cut off
    is_deep = data[24] == 16 and image.mode != "I;16"  # the depth's place in IHDR, the first chunk
    return deep_colour.read_png(data) if is_deep or "transparency" in image.info else _samples(image)


_JPEG = b"\xff\xd8\xff"


def _loaded_jpeg(data: bytes, image: ImageFile.ImageFile) -> np.ndarray:
    try:
        return _loaded(image)
    except OSError:
        _check_kind(jpeg.frame(data))
        whole = jpeg.with_end(data, lambda file: _loaded(_open_jpeg(file)))
        if whole is None or whole is data:
            raise
        return _loaded(_open_jpeg(whole))


def _opened_odd_jpeg(data: bytes) -> _Opened:
    header = jpeg.frame(data)
    _check_kind(header)
    if header.bits == 8:
        data = jpeg.without_what_stops_pillow(data)
        return _open_jpeg(data), partial(_loaded_jpeg, data)
    image = _open_jpeg(jpeg.with_bits(data, header, 8))
    return image, lambda image: _deep_jpeg(jpeg.read(data, header), image.info.get("icc_profile"))


def _deep_jpeg(samples: np.ndarray, icc: object) -> np.ndarray:
    if samples.shape[2] != 4:
        return samples
    return colour.rgb_of_cmyk(~samples, icc)  # inverted, as Adobe writes them


def _check_kind(header: jpeg.Frame) -> None:
    if kind := header.unsupported():
        raise ImageError(f"unsupported pixels: {kind}; convert it to a baseline JPEG, or to PNG")


def _open_jpeg(data: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(data), formats=("JPEG",))


# ----------------------------------------------------------------------------------------------------------- samples

_MODES = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "PA": "RGBA", "RGBA": "RGBA"}  # all others: RGB


def _samples(image: ImageFile.ImageFile) -> np.ndarray:
    """The loaded image as Stored.samples."""
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)[:, :, None]
    if image.mode == "CMYK":
        return colour.rgb_of_cmyk(np.asarray(image), image.info.get("icc_profile"))
    mode = _MODES.get(image.mode, "RGB")
    if "transparency" in image.info:
        mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
    samples = np.asarray(image if image.mode == mode else image.convert(mode))
    return samples if samples.ndim == 3 else samples[:, :, None]
