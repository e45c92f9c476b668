"""The colours that a BMP says in its header, of version 4 or 5: an ICC profile, sRGB, or primaries and exponents."""

import struct
from typing import NamedTuple

from imagewizard.images import icc

_FILE_HEADER = 14
_V4, _V5 = 108, 124
"""Sizes of the headers that say it; their layouts are those of Windows' BITMAPV4HEADER and BITMAPV5HEADER."""
_CALIBRATED, _SRGB, _WINDOWS, _LINKED, _EMBEDDED = 0, 0x73524742, 0x57696E20, 0x4C494E4B, 0x4D424544


class Colours(NamedTuple):
    """What a BMP says of its samples."""

    icc: bytes | None = None
    is_srgb: bool = False
    lost: str | None = None
    """Why a profile that it names does not come along."""


def colours(data: bytes) -> Colours:
    """The colours of a BMP's samples. Primaries and exponents, of which the three are equal, become a profile."""
    (size,) = struct.unpack_from("<I", data, _FILE_HEADER)
    if size < _V4 or len(data) < _FILE_HEADER + size:
        return Colours()
    (kind,) = struct.unpack_from("<I", data, _FILE_HEADER + 56)
    if kind in (_SRGB, _WINDOWS):
        return Colours(is_srgb=True)
    if kind == _LINKED:
        return Colours(lost="it lies in another file")
    if kind == _EMBEDDED and size >= _V5:
        offset, length = struct.unpack_from("<2I", data, _FILE_HEADER + 112)
        profile = data[_FILE_HEADER + offset : _FILE_HEADER + offset + length]
        return Colours(icc=profile) if profile else Colours(lost="it is damaged")
    return _calibrated(data) if kind == _CALIBRATED else Colours()


def _calibrated(data: bytes) -> Colours:
    """By the CIE XYZ of the primaries, in 1/2^30, and exponents in 1/2^16; zeros say nothing."""
    *xyz, red, green, blue = struct.unpack_from("<12I", data, _FILE_HEADER + 60)
    if not any(xyz) or not red:
        return Colours()
    primaries = [[value / 2**30 for value in xyz[start : start + 3]] for start in (0, 3, 6)]
    white = [sum(values) for values in zip(*primaries, strict=True)]
    try:
        points = [(x / (x + y + z), y / (x + y + z)) for x, y, z in (white, *primaries)]
        if not red == green == blue:
            raise ValueError("its channels have exponents of their own")
        if not 0.01 <= red / 65536 <= 100:
            raise ValueError("no such exponent")
        return Colours(icc=icc.of_rgb((red / 65536,), icc.Chromaticities(*points)))
    except ZeroDivisionError:
        return Colours(lost="no such primaries")
    except ValueError as error:
        return Colours(lost=str(error))
