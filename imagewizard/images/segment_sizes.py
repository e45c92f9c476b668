"""How many pixels a strip or tile of a TIFF gives, if its codec is a format of its own, whose header says that."""

import re
import struct

from imagewizard.images import jpeg, jpeg_xl
from imagewizard.images.png_chunks import SIGNATURE

_MOST_SAMPLES = 6
"""Of a pixel; TIFFs with more are not decoded."""
_JPEG_2000 = re.compile(rb"\xff\x4f\xff\x51(?=.{4}(.{16}).{16}(..))", re.DOTALL)  # ITU-T T.800, A.5.1: Xsiz to Csiz
_JPEG_XR = re.compile(rb"WMPHOTO\0(?=..(.).(.{8}))", re.DOTALL)  # ITU-T T.832, 8.3
_SHORT_HEADER = 0x80
_LERC = re.compile(rb"Lerc2 (?=(.{20}))", re.DOTALL)  # Esri's specification of LERC 2
_ANIMATION = 0x02  # a flag of VP8X


def pixels(segment: bytes) -> int:
    """The number of pixels. Raises ValueError where no header says it, or says more than one image of few channels."""
    if segment.startswith(SIGNATURE) and len(segment) >= 24:
        across, down = struct.unpack_from(">II", segment, 16)
        return int(across * down)
    if segment.startswith(b"\xff\xd8\xff"):
        frame = jpeg.frame(segment)
        return frame.width * frame.height
    if jpeg_xl.is_one(segment):
        header = jpeg_xl.header(segment)
        return _of_one_image(header.width * header.height, 3 + len(header.extra), header.is_animated)
    if segment.startswith(b"RIFF"):
        return _of_webp(segment)
    # What looks like a header may be none: the largest one counts.
    sizes = [*map(_of_jpeg_2000, _JPEG_2000.finditer(segment)), *map(_of_jpeg_xr, _JPEG_XR.finditer(segment))]
    if bands := list(_LERC.finditer(segment)):
        sizes += [_of_lerc(band[1], len(bands)) for band in bands]
    if not sizes:
        raise ValueError("a strip or tile has no header that says its size")
    return max(sizes)


def _of_one_image(pixels: int, samples: int, is_animated: bool = False) -> int:
    if samples > _MOST_SAMPLES or is_animated:
        raise ValueError("a strip or tile holds more than its part of the image")
    return pixels


def _of_jpeg_2000(found: re.Match[bytes]) -> int:
    right, bottom, left, top = struct.unpack(">4I", found[1])
    return _of_one_image(max(right - left, 0) * max(bottom - top, 0), int.from_bytes(found[2], "big"))


def _of_jpeg_xr(found: re.Match[bytes]) -> int:
    is_short = found[1][0] & _SHORT_HEADER
    across, down = struct.unpack_from(">HH" if is_short else ">II", found[2])
    return int((across + 1) * (down + 1))


def _of_lerc(header: bytes, bands: int) -> int:
    (version,) = struct.unpack_from("<i", header)
    down, across, values = struct.unpack_from("<3I", header, 8 if version >= 3 else 4)  # behind a checksum
    return _of_one_image(across * down, bands * (values if version >= 4 else 1))


def _of_webp(segment: bytes) -> int:
    """RFC 9649: the canvas of VP8X, or the image of VP8L or VP8."""
    kind, body = segment[12:16], segment[20:30]
    if len(body) < 10 or segment[8:12] != b"WEBP":
        raise ValueError("truncated WebP")
    if kind == b"VP8X":
        across, down = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
        return _of_one_image(across * down, 4, bool(body[0] & _ANIMATION))
    if kind == b"VP8L":
        sides = int.from_bytes(body[1:5], "little")
        return ((sides & 0x3FFF) + 1) * ((sides >> 14 & 0x3FFF) + 1)
    across, down = struct.unpack_from("<HH", body, 6)
    return int((across & 0x3FFF) * (down & 0x3FFF))
