"""What is wrong with an image that cannot be decoded, in words for its error row."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from imagewizard.errors import one_line
from imagewizard.images.boxes import are_cut
from imagewizard.images.formats import INPUT_FORMATS, INPUT_NAMES


class ImageError(Exception):
    """An image that cannot be used. The message is what an error row says: `kind: detail`.

    Kinds: empty file, not an image, broken header, truncated file, corrupt file, too many pixels, unsupported pixels,
    out of memory, cannot encode.
    """


class TooLargeError(ImageError):
    """An image of more pixels than are allowed. Nothing of it was decoded."""

    def __init__(self, width: int, height: int, max_pixels: int) -> None:
        self.pixels = width * height
        super().__init__(
            f"too many pixels: {width}x{height} = {self.pixels} pixels is over the limit of {max_pixels}; "
            "raise images limit `max_pixels`"
        )


@contextmanager
def explained(data: bytes) -> Iterator[None]:
    """Turns whatever is raised while `data` is decoded into an ImageError that says what is wrong with it."""
    try:
        if not data:
            raise ImageError("empty file: 0 bytes")
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("out of memory: the decoded image does not fit in memory") from error
    except Image.DecompressionBombError as error:  # where decoding.quiet has not been called
        raise ImageError(f"too many pixels: {one_line(error)}") from error
    except Exception as error:  # broken bytes make Pillow raise nearly anything: OSError, SyntaxError, IndexError, …
        raise ImageError(_reason(data, error)) from error


_MAGIC = re.compile(
    b"|".join(b"(?P<%b>%b)" % (format.name.encode(), format.magic) for format in INPUT_FORMATS), re.DOTALL
)
_OTHER_MAGIC = {b"%PDF": "PDF", b"%!": "PostScript", b"PK\3\4": "a zip archive", b"\x1f\x8b": "gzip"}
_OTHER_MAGIC |= {b"<!doctype html": "HTML", b"<html": "HTML", b"<svg": "SVG", b"<?xml": "XML"}
_OTHER_MAGIC |= {b"version https://git-lfs": "a Git LFS pointer, not the file itself"}

_BRANDS = dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "HEIC")
_BRANDS |= {b"crx ": "a camera's raw data (CR3)"}


def _reason(data: bytes, error: Exception) -> str:
    """The message of the ImageError for what a decoder raised."""
    text = one_line(error)[:200] or type(error).__name__
    magic = _MAGIC.match(data)
    if magic is None:
        return f"not an image: looks like {_looks_like(data)}, and not {INPUT_NAMES}"
    name = magic.lastgroup
    # A RIFF header gives the length of the file; a JPEG that cannot be loaded ends before its first scan; what libtiff
    # cannot read lies beyond the end.
    is_cut = name == "WebP" and len(data) < 8 + int.from_bytes(data[4:8], "little")
    is_cut |= (name == "AVIF" or (name == "JXL" and data[0] == 0)) and are_cut(data)
    if is_cut or "truncated" in text.lower() or text.startswith(("cannot load this image", "Read error on ")):
        return f"truncated file: the {name} ends before its pixels do"
    if isinstance(error, UnidentifiedImageError):
        return f"broken header: the {name} header is damaged, cut off or of a kind that is not read"
    if "nsupported" in text:  # Pillow's words for kinds of BMP
        return f"unsupported pixels: {text}"
    return f"corrupt file: {name}: {text}"


def _looks_like(data: bytes) -> str:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, name in _OTHER_MAGIC.items():
        if head[: len(magic)].lower() == magic.lower():
            return name
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "MP4")
    if not any(data[:65536]):
        return "zeros"
    text = data[:1024].decode("utf-8", "replace").rstrip("\ufffd")  # the last character may be cut in two
    is_text = "\ufffd" not in text and all(c.isprintable() or c.isspace() for c in text)
    return "text" if is_text else "unknown binary data"
