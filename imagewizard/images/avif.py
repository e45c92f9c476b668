"""What Pillow leaves out of an AVIF: samples of 10 and 12 bits, and which colours they are.

imagecodecs (libavif) is imported where it is used.
"""

import re

import numpy as np

from imagewizard.images import deep_colour
from imagewizard.images.boxes import boxes

_CONFIGURATION = re.compile(rb"av1C\x81.(.)", re.DOTALL)  # AV1 in ISOBMFF, 2.3: version 1; profile and level; flags
_COLOURS = re.compile(rb"colrnclx(.{4})", re.DOTALL)  # ISO/IEC 14496-12, 12.1.5
_EXIF_ENTRY = re.compile(rb"(infe\x02.{7})Exif", re.DOTALL)  # ISO/IEC 14496-12, 8.11.6: version 2
_HIGH, _TWELVE = 0x40, 0x20


def bits(data: bytes) -> int:
    """The bits of a sample: 8, 10 or 12."""
    found = _CONFIGURATION.search(_meta(data))
    if found is None or not found[1][0] & _HIGH:
        return 8
    return 12 if found[1][0] & _TWELVE else 10


def coding_points(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer characteristics of ITU-T H.273; None if the file does not say them."""
    found = _COLOURS.search(_meta(data))
    return None if found is None else (found[1][1], found[1][3])


def read(data: bytes) -> np.ndarray:
    """The first image of an AVIF of 10 or 12 bits, uint16, (H, W, 1-4), spread over 0-65535. Orientation as stored.

    Raises ValueError for what libavif refuses.
    """
    import imagecodecs

    try:
        samples = imagecodecs.avif_decode(data, index=0)
    except imagecodecs.AvifError as error:
        raise ValueError(str(error)) from error
    return np.atleast_3d(deep_colour.spread(samples, bits(data)))


def without_exif(data: bytes) -> bytes:
    """The file with another name for its EXIF, so that libavif, which refuses a damaged one, passes over it."""
    return _EXIF_ENTRY.sub(rb"\1skip", data)


def _meta(data: bytes) -> bytes:
    return next((box.body for box in boxes(data) if box.kind in (b"meta", b"moov")), b"")
