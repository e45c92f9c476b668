"""Image files and arrays: `decode`, `encode`, and the name under which a denoised image is stored.

This is the only module that knows Pillow. Pillow is held to six formats, so that no file, whatever it is called,
reaches another of its plugins (EPS would start Ghostscript). Its warnings and log, and libtiff's messages, are silenced
for the process: whatever they would say of an image is either harmless or comes out as `ImageError`.
"""

import base64
import ctypes
import hashlib
import io
import logging
import re
import threading
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from PIL.Image import Transpose

from imagewizard.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

# A filter that stays, rather than warnings.catch_warnings, which is not safe with threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
# libtiff prints errors itself, up to a line for each row of a broken fax image, and Pillow has no switch for that.
# Where libtiff is not a shared library (Windows) it goes on doing so.
with suppress(AttributeError, OSError):
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_ENCODED = {"png": ("PNG", ".png"), "jpeg": ("JPEG", ".jpg"), "jpg": ("JPEG", ".jpg"), "webp": ("WEBP", ".webp")}
_LONGEST_SIDE = {"PNG": 2**31 - 1, "JPEG": 65500, "WEBP": 16383}  # libjpeg's limit; the formats' own
_JPEG_QUALITY = 95

# CPU time and size of a 512x512 photo: level 1 20 ms, 407 kB; 4 36 ms, 373 kB; 6 (Pillow's own) 69 ms, 368 kB;
# 9 201 ms, 364 kB; WebP lossless with method 0 31 ms, 323 kB, with 4 (Pillow's own) 150 ms, 290 kB. Means over 8 photos
# of the CID22 set, time.process_time around Image.save, the least of 3 runs, Pillow 13 with zlib-ng. A tenth more
# bytes is the smaller price: an actor that denoises 50 images a second would keep 3.5 cores busy with level 6.
_PNG_LEVEL = 1
_WEBP_LOSSLESS_METHOD = 0


class ImageError(Exception):
    """An image that cannot be used. The message is what an error row says: `kind: detail`.

    Kinds: empty file, not an image, broken header, truncated file, corrupt file, too many pixels, unsupported pixels,
    out of memory, cannot encode.
    """


def is_image_name(name: str) -> bool:
    """Whether the name ends in one of SUFFIXES, in any case."""
    return name.lower().endswith(SUFFIXES)


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """The pixels of an image file, uint8 (H, W, 3) RGB, C-contiguous and writable. Raises ImageError, and only that.

    - Stored values count: ICC profiles and gamma are ignored, and alpha (RGBA, LA, PA, PNG tRNS, transparent palette
      entries) is dropped. Compositing would invent colours, and the edges of the mask would be scored as image detail.
      Premultiplied alpha (TIFF) is divided out first.
    - Grey, 1-bit: R = G = B. Palette: its colours. YCbCr: full range, BT.601. LAB (TIFF): to sRGB by LittleCMS.
    - CMYK: R = (255 - C)(255 - K) / 255, and so on; CMYK JPEGs are taken to be inverted, as Adobe writes them.
    - Grey of more than 8 bits: round(255 v / (2^bits - 1)), which is round(v / 257) for 16. Integers of no certain
      scale (TIFF, signed or 32-bit) count as 16-bit, and values outside 0-65535 are refused, as is floating point.
    - Colour of 16 bits a channel: the upper byte, floor(v / 256); Pillow has no such mode and reads no more.
    - Animations and multi-page files: the first frame.
    - EXIF orientation is applied; EXIF that cannot be read is ignored.

    More than `max_pixels` in the header is refused before a pixel is decoded; Pillow's MAX_IMAGE_PIXELS plays no part.
    A cut-off file is refused, as is a PNG with any wrong checksum (Pillow itself does not check those of pixel data).
    Formats without checksums (all others) cannot show damage that leaves their bit stream readable.
    """
    if not data:
        raise ImageError("empty file: 0 bytes")
    try:
        image = _open(data)
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(
                f"too many pixels: {width}x{height} = {width * height} pixels is over the limit of {max_pixels}; "
                "raise images limit `max_pixels`"
            )
        if image.format == "PNG":
            _open(data).verify()
        # TIFF alone asks for Pillow's limit a second time, when it loads.
        with _pillow_limit_lifted() if image.format == "TIFF" else nullcontext():
            image.load()
        return _rgb(_upright(image))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("out of memory: the decoded image does not fit in memory") from error
    except Exception as error:  # broken bytes make Pillow raise nearly anything: OSError, SyntaxError, IndexError, …
        raise ImageError(_reason(data, error)) from error


def encode(image: np.ndarray, format: str, quality: int | None = None) -> bytes:
    """The file bytes of a uint8 (H, W, 3) image as "png", "jpeg" (or "jpg") or "webp".

    `quality` is 1-100; None means as good as the format can: PNG and WebP lossless, JPEG 95. A WebP with a quality is
    lossy (and always 4:2:0); JPEG is written 4:4:4; PNG is lossless whatever the quality.
    Raises UserError for a format or quality that cannot be; ImageError for an image the format cannot hold (WebP: a
    side over 16383, JPEG: over 65500).
    """
    if format not in _ENCODED:
        raise UserError(f"images.format: {format!r} is not supported; give png, jpeg or webp")
    name, _ = _ENCODED[format]
    if quality is not None and not 1 <= quality <= 100:
        raise UserError(f"images.quality: {quality} is out of range; give 1-100 or null")
    height, width = image.shape[:2]
    if max(height, width) > _LONGEST_SIDE[name]:
        raise ImageError(
            f"cannot encode: {width}x{height} as {format}; no side may be over {_LONGEST_SIDE[name]} pixels"
        )
    options: dict[str, Any]
    if name == "PNG":
        options = {"compress_level": _PNG_LEVEL}
    elif name == "JPEG":
        options = {"quality": quality or _JPEG_QUALITY, "subsampling": "4:4:4"}
    else:
        options = {"quality": quality} if quality else {"lossless": True, "method": _WEBP_LOSSLESS_METHOD}
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, name, **options)
    return stream.getvalue()


# A file name may have 255 bytes; a partial file being written needs some of them for a suffix of its own. S3 keys have
# at most 1024 bytes, part of which is the output prefix.
_MAX_NAME_BYTES = 200
_MAX_PATH_BYTES = 700

_RESERVED_CHARACTERS = '<>:"|?*\\'  # on Windows; % and ~ are what this module escapes and marks with
_EMPTY_OR_TRAILING = re.compile(r"(?<![^/])/|/\Z|[. ]+(?=/|\Z)")  # empty segments, . and .., "x." and "x " (Windows)
_RESERVED_NAMES = re.compile(
    r"(?<![^/])(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?= *(?:[./]|\Z))", re.IGNORECASE
)


def output_name(image_id: str, format: str) -> str:
    """Where the denoised image of `image_id` lies below the output folder: a relative POSIX path, `dogs/a.jpg.png`.

    Different ids never share a name, not even on a disk that takes names of different case or Unicode normalisation
    for one, no name is a folder of another, and none leaves the folder or is unlawful on Windows. What is unsafe is
    percent-encoded (`50%.jpg` → `50%25.jpg.png`). An id with a possible twin (capitals, not in NFC) carries a digest
    of itself, `IMG_1.JPG~mzxw6ytboi2dqnbx.png`, and one that is too long is its first characters and the digest.
    """
    _, suffix = _ENCODED[format]
    escaped = "".join(
        c if c.isprintable() and c not in _RESERVED_CHARACTERS and c not in "%~" else _percent(c) for c in image_id
    )
    escaped = _EMPTY_OR_TRAILING.sub(lambda match: _percent(match[0]), escaped)
    escaped = _RESERVED_NAMES.sub(lambda match: _percent(match[0][0]) + match[0][1:], escaped)
    # a folder a.png/ would stand where the image of the id "a" goes
    escaped = re.sub(rf"\.(?={suffix[1:]}/)", "%2e", escaped, flags=re.IGNORECASE)
    digest = hashlib.blake2b(image_id.encode("utf-8", "surrogatepass"), digest_size=10).digest()
    mark = "~" + base64.b32encode(digest).decode().lower()
    has_twin = escaped.casefold() != escaped or unicodedata.normalize("NFC", escaped) != escaped
    name = f"{escaped}{mark if has_twin else ''}{suffix}"
    if len(name.encode()) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in name.split("/")):
        return f"{escaped.rpartition('/')[2][:32]}{mark}{suffix}"
    return name


def _percent(text: str) -> str:
    # lower-case digits: an escape must not look like a capital
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


_limit_lock = threading.Lock()


@contextmanager
def _pillow_limit_lifted() -> Iterator[None]:
    """Takes Pillow's process-wide MAX_IMAGE_PIXELS out of the way and puts it back.

    Pillow refuses twice that number whatever the job allows, and says no width and height. Here the job's own limit is
    checked as soon as the header is read; other users of Pillow in this process keep theirs. The lock is held for
    headers (and TIFF pixels) only, so threads decode side by side.
    """
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _open(data: bytes) -> ImageFile.ImageFile:
    with _pillow_limit_lifted():
        return Image.open(io.BytesIO(data), formats=_FORMATS)


_TRANSPOSED = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    """The loaded image turned as its EXIF says. Unlike ImageOps.exif_transpose, broken EXIF costs no image.

    TIFF images have been turned by load() already, and no longer carry the tag.
    """
    try:
        method = _TRANSPOSED.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return image
    return image if method is None else image.transpose(method)


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise ImageError("unsupported pixels: floating point has no certain white; convert to 8 or 16 bits")
    if image.mode.startswith("I"):
        return np.repeat(_grey8(image)[:, :, None], 3, axis=2)
    if image.mode == "La":
        image = image.convert("LA")
    # With a transparent colour set, convert() would translate that too, for nothing, and warn about it.
    image.info.pop("transparency", None)
    return np.array(image.convert("RGB"))


def _grey8(image: Image.Image) -> np.ndarray:
    """Integer grey of more than 8 bits → uint8 (H, W), rounded."""
    values = np.asarray(image).astype(np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"unsupported pixels: integers from {values.min()} to {values.max()} have no certain white; "
            "convert to 8 or 16 bits"
        )
    tags = getattr(image, "tag_v2", {})
    # Pillow unpacks 12-bit TIFFs as they are, and does not turn white-is-zero ones of 16 bits.
    white = 4095 if tags.get(ExifTags.Base.BitsPerSample) == (12,) else 65535
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:
        values = white - values
    return ((values * 510 + white) // (2 * white)).astype(np.uint8)


_MAGIC = re.compile(
    rb"(?P<PNG>\x89PNG)|(?P<JPEG>\xff\xd8\xff)|(?P<WebP>RIFF....WEBP)|(?P<BMP>BM)|(?P<GIF>GIF8)|(?P<TIFF>II[*+]\0|MM\0[*+])",
    re.DOTALL,
)
_OTHER_MAGIC = {b"%PDF": "PDF", b"%!": "PostScript", b"PK\3\4": "a zip archive", b"\x1f\x8b": "gzip"}
_OTHER_MAGIC |= {b"<!doctype html": "HTML", b"<html": "HTML", b"<svg": "SVG", b"<?xml": "XML"}
_OTHER_MAGIC |= {b"version https://git-lfs": "a Git LFS pointer, not the file itself"}


def _reason(data: bytes, error: Exception) -> str:
    """The message of the ImageError for what Pillow raised."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    magic = _MAGIC.match(data)
    if magic is None:
        return f"not an image: looks like {_looks_like(data)}, and not PNG, JPEG, WebP, BMP, GIF or TIFF"
    name = magic.lastgroup
    # A RIFF header gives the length of the file; a JPEG that cannot be loaded ends before its first scan.
    webp_is_cut = name == "WebP" and len(data) < 8 + int.from_bytes(data[4:8], "little")
    if webp_is_cut or "truncated" in text.lower() or text == "cannot load this image":
        return f"truncated file: the {name} ends before its pixels do"
    if isinstance(error, UnidentifiedImageError):
        return f"broken header: the {name} header is damaged, cut off or of a kind that Pillow does not know"
    return f"corrupt file: {name}: {text}"


def _looks_like(data: bytes) -> str:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, name in _OTHER_MAGIC.items():
        if head[: len(magic)].lower() == magic.lower():
            return name
    if data[4:8] == b"ftyp":
        return "HEIC, AVIF or MP4"
    if not any(data[:65536]):
        return "zeros"
    text = data[:1024].decode("utf-8", "replace").rstrip("\ufffd")  # the last character may be cut in two
    is_text = "\ufffd" not in text and all(c.isprintable() or c.isspace() for c in text)
    return "text" if is_text else "unknown binary data"
