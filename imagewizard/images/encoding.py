"""Pictures to image files."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from imagewizard.images import decoding, deep_colour
from imagewizard.images.errors import ImageError
from imagewizard.images.exif import ICC_PROFILE, LONG, SHORT, UNDEFINED, Tag, Tags
from imagewizard.images.formats import OUTPUT_FORMATS
from imagewizard.images.picture import Picture

_JPEG_QUALITY = 95
# CPU time and size of a 512x512 photo: level 1 20 ms, 407 kB; 4 36 ms, 373 kB; 6 (Pillow's own) 69 ms, 368 kB;
# 9 201 ms, 364 kB; WebP lossless with method 0 31 ms, 323 kB, with 4 (Pillow's own) 150 ms, 290 kB. Means over 8 photos
# of the CID22 set, time.process_time around Image.save, the least of 3 runs, Pillow 13 with zlib-ng. A tenth more
# bytes is the smaller price: an actor that denoises 50 images a second would keep 3.5 cores busy with level 6.
_PNG_LEVEL = 1
_WEBP_LOSSLESS_METHOD = 0
_TIFF_LEVEL = 1
_STRIP_BYTES = 1 << 18


def encode(picture: Picture, format: str, quality: int | None = None) -> bytes:
    """The file bytes of a picture in one of OUTPUT_FORMATS.

    - png, tiff: lossless, whatever the quality; everything is kept.
    - webp: 8 bits, round(v / 257); grey becomes RGB, without its profile. Alpha, ICC and EXIF are kept. Lossless
      without a `quality` (colours under full transparency too); lossy, and always 4:2:0, with one.
    - jpg: 8 bits, round(v / 257), no alpha; grey, ICC and EXIF are kept. 4:4:4, quality 95 by default.

    `quality` is 1-100. Raises ImageError for a picture that the format cannot hold: a side over its longest, EXIF over
    64 kB in jpg, a TIFF over 4 GiB.
    """
    height, width = picture.pixels.shape[:2]
    longest = OUTPUT_FORMATS[format].longest_side
    if max(height, width) > longest:
        raise ImageError(f"cannot encode: {width}x{height} as {format}; no side may be over {longest} pixels")
    try:
        if format == "png":
            return _png(picture)
        if format == "tiff":
            return _tiff(picture)
        return _webp(picture, quality) if format == "webp" else _jpeg(picture, quality)
    except (OSError, ValueError, struct.error) as error:
        raise ImageError(f"cannot encode: {width}x{height} as {format}: {error}") from error


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
    import imagecodecs  # 0.1 s that only this needs

    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    data = differences.astype(f"{order}u{samples.itemsize}").tobytes()
    return bytes(imagecodecs.deflate_encode(data, _TIFF_LEVEL))
