"""A picture with what belongs to it (bit depth, grey, alpha, ICC profile, EXIF), from an image file and to one."""

import io
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass

import imagecodecs
import numpy as np
from PIL import Image

from imagewizard.errors import UserError
from imagewizard.images import decoding, deep_colour
from imagewizard.images.errors import ImageError, explained
from imagewizard.images.exif import ICC_PROFILE, LONG, SHORT, UNDEFINED, Tag, Tags

FORMATS = ("png", "jpg", "jpeg", "webp", "tiff")

# libpng's limit unless told otherwise, and nobody tells it; libjpeg's; the formats' own
_LONGEST_SIDE = {"png": 1_000_000, "jpg": 65500, "jpeg": 65500, "webp": 16383, "tiff": 2**32 - 1}
_JPEG_QUALITY = 95

# CPU time and size of a 512x512 photo: level 1 20 ms, 407 kB; 4 36 ms, 373 kB; 6 (Pillow's own) 69 ms, 368 kB;
# 9 201 ms, 364 kB; WebP lossless with method 0 31 ms, 323 kB, with 4 (Pillow's own) 150 ms, 290 kB. Means over 8 photos
# of the CID22 set, time.process_time around Image.save, the least of 3 runs, Pillow 13 with zlib-ng. A tenth more
# bytes is the smaller price: an actor that denoises 50 images a second would keep 3.5 cores busy with level 6.
_PNG_LEVEL = 1
_WEBP_LOSSLESS_METHOD = 0
_TIFF_LEVEL = 1
_STRIP_BYTES = 1 << 18


@dataclass(frozen=True)
class Picture:
    """An image as it is denoised, and what is passed by the denoiser to the file that is written."""

    pixels: np.ndarray
    """uint8 or uint16, (H, W, 1 or 3), grey or RGB, upright, C-contiguous."""
    alpha: np.ndarray | None = None
    """(H, W), of the type of `pixels`."""
    icc: bytes | None = None
    """The ICC profile, of the colour space of `pixels`."""
    exif: bytes | None = None
    """The EXIF structure with its prefix `Exif\\0\\0`, without orientation."""


def decode(data: bytes, max_pixels: int, keep: bool) -> Picture:
    """The picture in an image file (`data`: bytes or any buffer). Raises ImageError, and only that.

    With `keep` it is all that decoding.stored gives. An ICC profile stays if it is of the pixels' colour space (that of
    a CMYK file does not fit the RGB that is made of it). EXIF stays without orientation, which has been applied, and
    without its thumbnail; XMP, and how many dots go to an inch where EXIF does not say, are not kept.
    Without `keep` it is pixels alone, uint8 RGB: alpha is dropped (compositing would invent colours, and the edges of
    the mask would be scored as image detail), grey is R = G = B, 16 bits are rounded.
    """
    data = bytes(data)
    with explained(data):
        stored = decoding.stored(data, max_pixels)
        if not keep:
            return Picture(decoding.rgb8(stored.samples))
        pixels, alpha = decoding.split_alpha(stored.samples)
        return Picture(pixels, alpha, _fitting(stored.icc, pixels), _exif(stored.tags, pixels))


def write(picture: Picture, format: str, quality: int | None = None) -> bytes:
    """The file bytes of a picture as one of FORMATS.

    - png, tiff: lossless, whatever the quality; everything is kept.
    - webp: 8 bits, round(v / 257); grey becomes RGB, without its profile. Alpha, ICC and EXIF are kept. Lossless
      without a `quality` (colours under full transparency too); lossy, and always 4:2:0, with one.
    - jpg (or jpeg): 8 bits, round(v / 257), no alpha; grey, ICC and EXIF are kept. 4:4:4, quality 95 by default.

    `quality` is 1-100. Raises UserError for a format or quality that cannot be; ImageError for a picture the format
    cannot hold (a side over 16383 in webp, 65500 in jpg, 1,000,000 in png; EXIF over 64 kB in jpg; a TIFF over 4 GiB).
    """
    if format not in FORMATS:
        raise UserError(f"images.format: {format!r} is not supported; give {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if quality is not None and not 1 <= quality <= 100:
        raise UserError(f"images.quality: {quality} is out of range; give 1-100 or null")
    height, width = picture.pixels.shape[:2]
    if max(height, width) > _LONGEST_SIDE[format]:
        raise ImageError(
            f"cannot encode: {width}x{height} as {format}; no side may be over {_LONGEST_SIDE[format]} pixels"
        )
    try:
        if format == "png":
            return _png(picture)
        if format == "tiff":
            return _tiff(picture)
        return _webp(picture, quality) if format == "webp" else _jpeg(picture, quality)
    except (OSError, ValueError, struct.error) as error:
        raise ImageError(f"cannot encode: {width}x{height} as {format}: {error}") from error


def _exif(stored: bytes | None, pixels: np.ndarray) -> bytes | None:
    """The EXIF structure to keep, out of the structure that a file stores; None if that says nothing, or is broken."""
    if stored is None:
        return None
    height, width = pixels.shape[:2]
    with suppress(ValueError):
        tags = Tags.read(stored).about_the_picture(width, height)
        return tags.exif() if tags.main else None
    return None


def _fitting(icc: object, pixels: np.ndarray) -> bytes | None:
    """The profile, if it is one whose data colour space (ICC.1:2022, 7.2.6) is that of the pixels."""
    space = b"GRAY" if pixels.shape[2] == 1 else b"RGB "
    return icc if isinstance(icc, bytes) and icc[16:20] == space else None


def _samples(picture: Picture) -> np.ndarray:
    """Pixels and alpha as one array, (H, W, 1-4)."""
    if picture.alpha is None:
        return picture.pixels
    return np.concatenate([picture.pixels, picture.alpha[:, :, None]], axis=2)


def _saved(samples: np.ndarray, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    # Pillow has grey without an axis for it
    Image.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples).save(stream, format, **options)
    return stream.getvalue()


def _metadata(picture: Picture) -> dict[str, bytes]:
    """ICC and EXIF as Pillow takes them."""
    options = {"icc_profile": picture.icc, "exif": picture.exif}
    return {name: value for name, value in options.items() if value is not None}


def _jpeg(picture: Picture, quality: int | None) -> bytes:
    pixels = decoding.eight_bits(picture.pixels)
    return _saved(pixels, "JPEG", quality=quality or _JPEG_QUALITY, subsampling="4:4:4", **_metadata(picture))


def _webp(picture: Picture, quality: int | None) -> bytes:
    samples = decoding.eight_bits(_samples(picture))
    metadata = _metadata(picture)
    if picture.pixels.shape[2] == 1:
        samples = np.concatenate([samples[:, :, :1], samples[:, :, :1], samples], axis=2)
        metadata.pop("icc_profile", None)
    if quality is not None:
        return _saved(samples, "WEBP", quality=quality, **metadata)
    return _saved(samples, "WEBP", lossless=True, method=_WEBP_LOSSLESS_METHOD, exact=True, **metadata)


_PNG_HEADER_BYTES = 8 + 25  # signature and IHDR


def _png(picture: Picture) -> bytes:
    samples = _samples(picture)
    is_deep = samples.dtype == np.uint16
    data = deep_colour.write_png(samples) if is_deep else _saved(samples, "PNG", compress_level=_PNG_LEVEL)
    chunks = b""
    if picture.icc is not None:  # PNG, third edition, 11.3.2.3: a name, compression method 0
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc))
    if picture.exif is not None:
        chunks += _chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0"))
    return data[:_PNG_HEADER_BYTES] + chunks + data[_PNG_HEADER_BYTES:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _tiff(picture: Picture) -> bytes:
    """Strips of 256 kB, deflated after horizontal differencing; then the directory, with EXIF's tags beside its own."""
    samples = _samples(picture)
    exif = Tags() if picture.exif is None else Tags.read(picture.exif)
    height, width, channels = samples.shape
    rows = max(1, _STRIP_BYTES // (width * channels * samples.itemsize))
    strips = [_strip(samples[top : top + rows], exif.order) for top in range(0, height, rows)]
    lengths = [len(strip) for strip in strips]
    offsets = [8 + sum(lengths[:index]) for index in range(len(lengths))]
    fields = {  # TIFF 6.0; its Technical Note 2 and Adobe's supplement for 8: deflate
        256: exif.integer_tag(LONG, width),
        257: exif.integer_tag(LONG, height),
        258: exif.integer_tag(SHORT, *[8 * samples.itemsize] * channels),
        259: exif.integer_tag(SHORT, 8),
        262: exif.integer_tag(SHORT, 1 if picture.pixels.shape[2] == 1 else 2),  # black is zero; RGB
        273: exif.integer_tag(LONG, *offsets),
        277: exif.integer_tag(SHORT, channels),
        278: exif.integer_tag(LONG, rows),
        279: exif.integer_tag(LONG, *lengths),
        284: exif.integer_tag(SHORT, 1),  # samples of a pixel side by side
        317: exif.integer_tag(SHORT, 2),  # differences to the pixel on the left
        339: exif.integer_tag(SHORT, *[1] * channels),  # unsigned integers
    }
    if picture.alpha is not None:
        fields[338] = exif.integer_tag(SHORT, 2)  # not premultiplied
    if picture.icc is not None:
        fields[ICC_PROFILE] = Tag(UNDEFINED, picture.icc)
    strips.append(bytes(sum(lengths) % 2))  # directories start at even offsets
    end = 8 + sum(lengths) + len(strips[-1])
    return exif.header(end) + b"".join(strips) + Tags(exif.order, exif.main | fields).directory(end)


def _strip(samples: np.ndarray, order: str) -> bytes:
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    data = differences.astype(f"{order}u{samples.itemsize}").tobytes()
    return bytes(imagecodecs.deflate_encode(data, _TIFF_LEVEL))
