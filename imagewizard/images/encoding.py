"""Pictures to image files."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from imagewizard.images import decoding, deep_colour, iptc, png_pixels, png_text, resolution
from imagewizard.images.errors import ImageError
from imagewizard.images.exif import BYTE, ICC_PROFILE, IPTC, LONG, SHORT, UNDEFINED, XMP, Tag, Tags
from imagewizard.images.fitting import fitted
from imagewizard.images.formats import OUTPUT_FORMATS
from imagewizard.images.metadata import Metadata, without
from imagewizard.images.picture import Picture
from imagewizard.images.png_chunks import Chunk

_JPEG_QUALITY = 95
# CPU time and size of a 512x512 photo: method 0 31 ms, 323 kB; 4 (Pillow's own) 150 ms, 290 kB. Means over 8 photos of
# the CID22 set, time.process_time around Image.save, the least of 3 runs.
_WEBP_LOSSLESS_METHOD = 0
_TIFF_LEVEL = 1
_STRIP_BYTES = 1 << 18


class Encoded(NamedTuple):
    """An image file."""

    data: bytes
    notes: tuple[str, ...]
    """What of the picture's alpha and metadata it lacks."""


def encode(picture: Picture, format: str, quality: int | None = None) -> Encoded:
    """The file of a picture in one of OUTPUT_FORMATS, with what it holds of the metadata (fitting.fitted).

    - png, tiff: lossless, whatever the quality; all pixels are kept as they are, but that grey of 16 bits with alpha
      becomes RGB in a tiff: Pillow would not read it.
    - webp: 8 bits, round(v / 257); grey becomes RGB. Alpha is kept. Lossless without a `quality` (colours under full
      transparency too); lossy, and always 4:2:0, with one.
    - jpg: 8 bits, round(v / 257), no alpha; grey is kept. 4:4:4, quality 95 by default.

    `quality` is 1-100. Raises ImageError for a picture that the format cannot hold: a side over its longest, a TIFF
    over 4 GiB.
    """
    height, width = picture.pixels.shape[:2]
    longest = OUTPUT_FORMATS[format].longest_side
    if max(height, width) > longest:
        raise ImageError(f"cannot encode: {width}x{height} as {format}; no side may be over {longest} pixels")
    is_grey, becomes_rgb = picture.pixels.shape[2] == 1, _becomes_rgb(picture, format)
    try:
        metadata, notes = fitted(picture.metadata, format, is_grey, becomes_rgb)
        if format == "jpg" and picture.alpha is not None:
            notes.insert(0, without("alpha", "a jpg has no place for it"))
        if becomes_rgb:
            picture = replace(picture, pixels=np.repeat(picture.pixels, 3, axis=2))
        return Encoded(_WRITERS[format](picture, metadata, quality), tuple(notes))
    except (OSError, ValueError, struct.error) as error:
        raise ImageError(f"cannot encode: {width}x{height} as {format}: {error}") from error


def _becomes_rgb(picture: Picture, format: str) -> bool:
    """Whether the picture is of grey that the format, or one of those that read it, does not have."""
    is_deep_with_alpha = picture.pixels.dtype == np.uint16 and picture.alpha is not None
    return picture.pixels.shape[2] == 1 and (format == "webp" or (format == "tiff" and is_deep_with_alpha))


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


def _options(metadata: Metadata) -> dict[str, bytes]:
    """ICC, EXIF and XMP as Pillow takes them."""
    options = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    return {name: value for name, value in options.items() if value is not None}


_JFIF_UNIT, _JFIF_END = 13, 20  # places in a JPEG: it begins with its APP0, of this length


def _jpeg(picture: Picture, metadata: Metadata, quality: int | None) -> bytes:
    pixels, options = decoding.eight_bits(picture.pixels), _options(metadata)
    if metadata.texts:
        options["comment"] = png_text.text(metadata.texts[0])
    data = _saved(pixels, "JPEG", quality=quality or _JPEG_QUALITY, subsampling="4:4:4", **options)
    if metadata.resolution is not None:  # Pillow writes it in whole inches only
        density = metadata.resolution.jfif() or b""
        data = data[:_JFIF_UNIT] + density + data[_JFIF_UNIT + len(density) :]
    if metadata.iptc is not None:
        body = iptc.segment(metadata.iptc)
        data = data[:_JFIF_END] + struct.pack(">HH", 0xFFED, 2 + len(body)) + body + data[_JFIF_END:]
    return data


def _webp(picture: Picture, metadata: Metadata, quality: int | None) -> bytes:
    samples = decoding.eight_bits(_samples(picture))
    if quality is not None:
        return _saved(samples, "WEBP", quality=quality, **_options(metadata))
    return _saved(samples, "WEBP", lossless=True, method=_WEBP_LOSSLESS_METHOD, exact=True, **_options(metadata))


_PNG_HEADER_BYTES = 8 + 25  # signature and IHDR


def _png(picture: Picture, metadata: Metadata, quality: int | None) -> bytes:
    samples = _samples(picture)
    data = deep_colour.write_png(samples) if samples.dtype == np.uint16 else png_pixels.write(samples)
    chunks = b"".join(png_text.written(_chunks(metadata)))
    return data[:_PNG_HEADER_BYTES] + chunks + data[_PNG_HEADER_BYTES:]


def _chunks(metadata: Metadata) -> Iterator[Chunk]:
    """Behind the header of a PNG: what says its colours has to stand in front of the pixels."""
    yield from metadata.colour
    if metadata.icc is not None:  # PNG, third edition, 11.3.2.3: a name, compression method 0
        yield Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.resolution is not None:
        yield Chunk(b"pHYs", metadata.resolution.phys() or b"")
    if metadata.exif is not None:
        yield Chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    yield from metadata.texts
    if metadata.xmp is not None:
        yield png_text.xmp(metadata.xmp)
    if metadata.iptc is not None:
        yield png_text.profile("iptc", metadata.iptc)


def _tiff(picture: Picture, metadata: Metadata, quality: int | None) -> bytes:
    """Strips of 256 kB, deflated after horizontal differencing; then the directory, with EXIF's tags beside its own."""
    samples = _samples(picture)
    exif = resolution.in_tags(metadata.resolution, Tags() if metadata.exif is None else Tags.read(metadata.exif))
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
    others = ((ICC_PROFILE, UNDEFINED, metadata.icc), (XMP, BYTE, metadata.xmp), (IPTC, UNDEFINED, metadata.iptc))
    fields |= {number: Tag(kind, value) for number, kind, value in others if value is not None}
    strips.append(bytes(sum(lengths) % 2))  # directories start at even offsets
    end = 8 + sum(lengths) + len(strips[-1])
    return exif.header(end) + b"".join(strips) + Tags(exif.order, exif.main | fields).directory(end)


def _strip(samples: np.ndarray, order: str) -> bytes:
    import imagecodecs  # 0.1 s that only this needs

    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    data = differences.astype(f"{order}u{samples.itemsize}").tobytes()
    return bytes(imagecodecs.deflate_encode(data, _TIFF_LEVEL))


_WRITERS: dict[str, Callable[[Picture, Metadata, int | None], bytes]]
_WRITERS = {"png": _png, "jpg": _jpeg, "webp": _webp, "tiff": _tiff}
