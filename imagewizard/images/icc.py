"""ICC profiles: small ones made from what else says a file's colours, and the same colours for grey and for RGB.

The layouts are those of ICC.1:2022 (profile version 4.4); profiles are written in version 4.3, which all readers know.
"""

import io
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import ImageCms

GREY, RGB, CMYK = b"GRAY", b"RGB ", b"CMYK"
_HEADER_BYTES = 128
_NAME = "from the image's own tags"
D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])  # Annex E.3

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""IEC 61966-2-1, as the parameters g, a, b, c, d of 10.18: (a x + b)^g from x = d on, c x below."""


class Chromaticities(NamedTuple):
    """CIE x, y of the white and of the three primaries."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


SRGB = Chromaticities((0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))


def space(profile: bytes) -> bytes:
    """The data colour space (7.2.6): GREY, RGB, CMYK or another four letters."""
    return profile[16:20]


def is_sound(profile: bytes) -> bool:
    """Whether LittleCMS takes it for a profile."""
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, ImageCms.PyCMSError):
        return False
    return True


def of_grey(curve: Sequence[float]) -> bytes:
    """The profile of grey samples; `curve`: an exponent, or five parameters as SRGB_CURVE."""
    return _profile(GREY, {b"kTRC": _parametric(curve)})


def of_rgb(curve: Sequence[float], colours: Chromaticities) -> bytes:
    """The profile of RGB samples, all three with the same curve. Raises ValueError for colours that cannot be."""
    tags = _colorants(colours)
    name = "sRGB" if (tuple(curve), colours) == (SRGB_CURVE, SRGB) else _NAME
    return _profile(RGB, tags | {name: _parametric(curve) for name in (b"rTRC", b"gTRC", b"bTRC")}, name)


def as_rgb(grey: bytes) -> bytes | None:
    """The profile of RGB samples R = G = B that look as grey ones do with a profile; None if that is not a curve."""
    curve = _tags(grey).get(b"kTRC")
    if curve is None or grey[20:24] != b"XYZ ":  # of another connection space the curve means lightness
        return None
    return _profile(RGB, _colorants(SRGB) | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def as_grey(rgb: bytes) -> bytes | None:
    """The profile of grey samples that look as R = G = B do with an RGB profile; None unless it has one curve for all.

    With one curve a neutral colour has the tint of the profile's white, which is the page's.
    """
    tags = _tags(rgb)
    curves = {tags.get(name) for name in (b"rTRC", b"gTRC", b"bTRC")}
    curve = curves.pop()
    if curves or curve is None or b"A2B0" in tags or rgb[20:24] != b"XYZ ":
        return None
    return _profile(GREY, {b"kTRC": curve})


def shortened(profile: bytes) -> bytes:
    """The profile with no more than says what its samples mean: without what printing to it needs, and private tags."""
    return _with_tags(profile[:84].ljust(_HEADER_BYTES, b"\0"), _tags(profile))  # without the checksum of what it was


_MEANING = {b"desc", b"cprt", b"wtpt", b"chad", b"A2B0", b"A2B1", b"A2B2", b"cicp"}
_MEANING |= {b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC"}


def adaptation(white: np.ndarray) -> np.ndarray:
    """The matrix from XYZ under a white, of XYZ too, to XYZ under D50 (Annex E). Raises ValueError for no white."""
    response, wanted = _BRADFORD @ white, _BRADFORD @ D50
    if min(response) <= 0:
        raise ValueError("no such white")
    return np.linalg.inv(_BRADFORD) @ np.diag(wanted / response) @ _BRADFORD


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """The tags of a profile (7.3) that say what its samples mean. Tags may share their bytes; others do not overlap."""
    found, places, left = dict[bytes, bytes](), dict[tuple[int, int], bytes](), len(profile)
    if len(profile) >= _HEADER_BYTES + 4:
        (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
        first = _HEADER_BYTES + 4
        for at in range(first, min(first + 12 * count, len(profile) - 11), 12):
            name, offset, size = struct.unpack_from(">4sII", profile, at)
            if name not in _MEANING or offset + size > len(profile):
                continue
            if (offset, size) not in places and size <= left:
                left -= size
                places[offset, size] = profile[offset : offset + size]
            if (offset, size) in places:
                found[name] = places[offset, size]
    return found


def _profile(space: bytes, tags: dict[bytes, bytes], name: str = _NAME) -> bytes:
    """A display profile (8.4). Its date is that of the standard's year, so that the same input gives the same bytes."""
    tags = {b"desc": _text(name), b"cprt": _text("CC0"), b"wtpt": _xyz(D50)} | tags
    head = struct.pack(">4x4s4s4s4s4s", bytes(4), b"\4\x30\0\0", b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2022, 1, 1, 0, 0, 0, b"acsp")
    head = head.ljust(68, b"\0") + _xyz(D50)[8:]  # flags, device, attributes, perceptual intent: all zero
    return _with_tags(head.ljust(_HEADER_BYTES, b"\0"), tags)


def _with_tags(head: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of that header, but for its size, and these tags."""
    places = dict[bytes, int]()  # equal values are stored once
    offset, values = _HEADER_BYTES + 4 + 12 * len(tags), b""
    for value in tags.values():
        if value not in places:
            places[value] = offset + len(values)
            values += value + bytes(-len(value) % 4)
    table = b"".join(struct.pack(">4sII", name, places[value], len(value)) for name, value in tags.items())
    size = struct.pack(">I", offset + len(values))
    return size + head[4:] + struct.pack(">I", len(tags)) + table + values


def _text(text: str) -> bytes:
    """multiLocalizedUnicodeType (10.15)."""
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _fixed(values: Sequence[float]) -> bytes:
    """s15Fixed16Number (4.6)."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _parametric(curve: Sequence[float]) -> bytes:
    """parametricCurveType (10.18)."""
    return b"para" + struct.pack(">4xHxx", 0 if len(curve) == 1 else 3) + _fixed(curve)


def _colorants(colours: Chromaticities) -> dict[bytes, bytes]:
    """The tags of the primaries, adapted to D50, and of the adaptation (Annexes E and F)."""
    if min(y for _, y in colours) <= 0 or colours.white[0] <= 0:
        raise ValueError("a chromaticity is not above zero")
    white, *primaries = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in colours)
    matrix = np.stack(primaries, axis=1)
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise ValueError("the primaries lie on a line")
    change = adaptation(white)
    adapted = change @ (matrix * np.linalg.solve(matrix, white))
    if abs(np.stack([adapted, change])).max() > 100:
        raise ValueError("the primaries lie too close together")
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {name: _xyz(column) for name, column in zip(names, adapted.T, strict=True)}
    return tags | {b"chad": b"sf32\0\0\0\0" + _fixed(change.ravel().tolist())}
