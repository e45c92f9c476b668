"""The image formats that are read and written: the one place that lists them."""

from typing import NamedTuple


class InputFormat(NamedTuple):
    """A format that images are read from."""

    name: str
    """As messages call it; in capitals, as Pillow does."""
    suffixes: tuple[str, ...]
    """How names of its files end."""
    magic: bytes
    """Regular expression for the first bytes of its files."""


INPUT_FORMATS = (
    InputFormat("PNG", (".png",), rb"\x89PNG"),
    InputFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), rb"\xff\xd8\xff"),
    InputFormat("WebP", (".webp",), rb"RIFF....WEBP"),
    InputFormat("BMP", (".bmp",), rb"BM"),
    InputFormat("GIF", (".gif",), rb"GIF8"),
    InputFormat("TIFF", (".tif", ".tiff"), rb"II[*+]\0|MM\0[*+]"),
)
INPUT_NAMES = ", ".join(format.name for format in INPUT_FORMATS[:-1]) + f" or {INPUT_FORMATS[-1].name}"
SUFFIXES = tuple(suffix for format in INPUT_FORMATS for suffix in format.suffixes)


class OutputFormat(NamedTuple):
    """A format that images are written in."""

    suffix: str
    longest_side: int
    """In pixels."""


# The values of `images.format` in a config. The longest sides are libpng's default limit, libjpeg's limit, and those of
# the formats WebP and TIFF themselves.
OUTPUT_FORMATS = {
    "png": OutputFormat(".png", 1_000_000),
    "jpg": OutputFormat(".jpg", 65500),
    "webp": OutputFormat(".webp", 16383),
    "tiff": OutputFormat(".tif", 2**32 - 1),
}


def is_image_name(name: str) -> bool:
    """Whether the name ends in one of SUFFIXES, in any case."""
    return name.lower().endswith(SUFFIXES)
