"""The image formats that are read and written: the one place that lists them."""

from pathlib import PurePosixPath
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
    InputFormat("AVIF", (".avif", ".avifs"), rb"....ftyp(avi[fs]|mif1.{0,56}?avi[fs])"),
    InputFormat("JXL", (".jxl",), rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
)
INPUT_NAMES = ", ".join(format.name for format in INPUT_FORMATS[:-1]) + f" or {INPUT_FORMATS[-1].name}"
SUFFIXES = tuple(suffix for format in INPUT_FORMATS for suffix in format.suffixes)

_NOT_READ = {
    "HEIC": ".heic .heics .heif .heifs .hif",
    "camera raw": ".3fr .ari .arw .bay .cap .cr2 .cr3 .crw .dcr .dcs .dng .drf .eip .erf .fff .gpr .iiq .k25 .kdc .mdc "
    ".mef .mos .mrw .nef .nrw .orf .ori .pef .ptx .pxn .r3d .raf .raw .rw2 .rwl .rwz .sr2 .srf .srw .x3f",
    "JPEG 2000": ".j2c .j2k .jp2 .jpc .jpf .jpg2 .jpx",
    "JPEG XR": ".hdp .jxr .wdp",
    "Photoshop": ".psb .psd",
    "vector graphics": ".ai .eps .pdf .ps .svg .svgz",
    "high dynamic range": ".exr .hdr .pfm",
    "Netpbm": ".pam .pbm .pgm .pnm .ppm",
    "icon": ".cur .icns .ico",
    "medical or scientific": ".czi .dcm .fits .fit .fts .lif .lsm .nd2 .ndpi .nii .svs .vsi",
    "other": ".apng .bpg .dds .flif .jls .jng .mng .pcx .qoi .sgi .tga .wbmp .xbm .xcf .xpm",
}
"""Kinds of images that are known and not read, with the suffixes of their files."""
_KINDS_NOT_READ = {suffix: kind for kind, suffixes in _NOT_READ.items() for suffix in suffixes.split()}


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


def why_not_read(name: str) -> str | None:
    """Why an image is not read, from its name: the same words for all images of one kind.

    None for a name that `is_image_name` takes, and for one that does not look like an image's.
    """
    suffix = PurePosixPath(name.lower()).suffix
    kind = _KINDS_NOT_READ.get(suffix)
    return None if kind is None else f"{kind} images are not read; convert them to PNG, TIFF or JPEG"
