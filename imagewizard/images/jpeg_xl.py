"""JPEG XL, read by imagecodecs (libjxl), which is imported where it is used; its header and boxes are read here.

The layouts are those of ISO/IEC 18181-1 (codestream) and 18181-2 (boxes).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from imagewizard.images import deep_colour
from imagewizard.images.boxes import boxes
from imagewizard.images.errors import ImageError
from imagewizard.images.icc import SRGB, Chromaticities

_CODESTREAM, _CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_ALPHA, _SPOT, _CFA = 0, 2, 5
_OWN, _LINEAR, _SRGB_CURVE = 2, 8, 13
_WHITES = {1: (0.3127, 0.3290), 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}  # D65, E, DCI
_PRIMARIES = {1: SRGB[1:], 9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))}
_PRIMARIES |= {11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))}
_MOST_INFLATED = 1 << 24


def is_one(data: bytes) -> bool:
    """Whether the file starts as a JPEG XL does."""
    return data.startswith((_CODESTREAM, _CONTAINER))


class Measured(NamedTuple):
    """Colours by their curve and places."""

    exponent: float | None
    """From light to samples; None for sRGB's curve."""
    colours: Chromaticities


@dataclass(frozen=True)
class Header:
    """What is said of an image before its pixels."""

    width: int
    height: int
    """In pixels, as stored, before `orientation` is applied."""
    bits: int = 8
    is_float: bool = False
    extra: tuple[tuple[int, bool], ...] = ()
    """The type of each extra channel, 0 being alpha, and whether the colours are multiplied with it."""
    has_profile: bool = False
    """Whether the pixels' colours are those of an ICC profile, which the decoder does not give."""
    coding_points: tuple[int, int] | None = None
    """Primaries and transfer characteristics of ITU-T H.273, 2 for other ones; None if they are sRGB's."""
    measured: Measured | None = None
    """The colours, where these numbers do not say them."""
    is_lossy: bool = False
    """Whether the pixels are stored as XYB, which the decoder converts; to linear light where there is a profile."""
    orientation: int = 1
    is_animated: bool = False

    def unsupported(self) -> str | None:
        """What makes it a kind that is not decoded; None if it is decoded."""
        if self.is_float or self.bits > 16:
            kind = "floating point" if self.is_float else "integer"
            return f"JPEG XL with {self.bits}-bit {kind} samples"
        if self.extra and (len(self.extra) > 1 or self.extra[0][0] != _ALPHA):
            return "JPEG XL with other extra channels than one of alpha"
        if self.has_profile and self.is_lossy:
            return "JPEG XL of lossy pixels under an ICC profile"
        return None


def header(data: bytes) -> Header:
    """The header of the codestream. Raises ValueError where it is cut off."""
    bits = _Bits(_codestream(data)[2:])
    height, width = _size(bits)
    if bits.flag():  # all as usual
        return Header(width, height)
    orientation, is_animated = _extra_fields(bits) if bits.flag() else (1, False)
    depth, is_float = _depth(bits)
    bits.take(1)  # whether 16 bits are enough for its decoder
    count = bits.choice((0, 0), (0, 1), (4, 2), (12, 1))
    extra = tuple(_extra_channel(bits) for _ in range(count))
    is_lossy = bits.flag()
    return Header(width, height, depth, is_float, extra, *_colours(bits), is_lossy, orientation, is_animated)


def read(data: bytes, head: Header) -> np.ndarray:
    """The samples, uint8 or uint16, (H, W, 1-4), upright; 9 to 15 bits are spread over 0-65535.

    Raises ImageError for kinds that are not decoded, ValueError for what libjxl refuses.
    """
    if (kind := head.unsupported()) is not None:
        raise ImageError(f"unsupported pixels: {kind}; convert it to 8 or 16 bits of grey or RGB")
    import imagecodecs

    try:
        samples = np.atleast_3d(imagecodecs.jpegxl_decode(data, index=0))
    except imagecodecs.JpegxlError as error:
        is_cut = "NEED_MORE_INPUT" in str(error)
        raise ValueError("truncated JPEG XL" if is_cut else f"libjxl: {error}") from error
    samples = deep_colour.spread(samples, head.bits)
    if head.extra and head.extra[0][1]:
        samples = np.concatenate([deep_colour.divided(samples[:, :, :-1], samples[:, :, -1:]), samples[:, :, -1:]], 2)
    return np.ascontiguousarray(samples)


def beside(data: bytes, wanted: bytes) -> bytes | None:
    """The body of the first box of a kind, unpacked if Brotli has compressed it; empty if it is damaged or too long."""
    for kind, body, _ in boxes(data) if data.startswith(_CONTAINER) else ():
        if kind == wanted:
            return body
        if kind == b"brob" and body[:4] == wanted:
            import imagecodecs

            try:
                return bytes(imagecodecs.brotli_decode(body[4:], out=_MOST_INFLATED))
            except imagecodecs.BrotliError:
                return b""
    return None


def _codestream(data: bytes) -> bytes:
    if data.startswith(_CODESTREAM):
        return data
    return b"".join(body[4 * (kind == b"jxlp") :] for kind, body, _ in boxes(data) if kind in (b"jxlc", b"jxlp"))


class _Bits:
    """Reads numbers whose lowest bits stand first."""

    def __init__(self, data: bytes) -> None:
        self._left = 8 * min(len(data), 4096)  # names of channels included, a header has no more
        self._bits = int.from_bytes(data[:4096], "little")

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("truncated JPEG XL")
        value = self._bits & ((1 << count) - 1)
        self._bits, self._left = self._bits >> count, self._left - count
        return value

    def flag(self) -> bool:
        return bool(self.take(1))

    def choice(self, *ways: tuple[int, int]) -> int:
        """U32: two bits choose a number of bits, and what is added to what they say."""
        count, offset = ways[self.take(2)]
        return self.take(count) + offset

    def enum(self) -> int:
        return self.choice((0, 0), (0, 1), (4, 2), (6, 18))


def _size(bits: _Bits) -> tuple[int, int]:
    is_small = bits.flag()

    def side() -> int:
        return (bits.take(5) + 1) * 8 if is_small else bits.choice((9, 1), (13, 1), (18, 1), (30, 1))

    height = side()
    ratio = bits.take(3)
    if ratio:
        over, under = _RATIOS[ratio]
        return height, height * over // under
    return height, side()


def _extra_fields(bits: _Bits) -> tuple[int, bool]:
    """The orientation, and whether there are several frames; what else there is, is passed over."""
    orientation = bits.take(3) + 1
    if bits.flag():
        _size(bits)  # as it is to be shown
    if bits.flag():  # a preview's size
        ways = ((0, 16), (0, 32), (5, 1), (9, 33)) if bits.flag() else ((6, 1), (8, 65), (10, 321), (12, 1345))
        bits.choice(*ways)
        if not bits.take(3):
            bits.choice(*ways)
    if is_animated := bits.flag():  # its clock
        bits.choice((0, 100), (0, 1000), (10, 1), (30, 1))
        bits.choice((0, 1), (0, 1001), (8, 1), (10, 1))
        bits.choice((0, 0), (3, 0), (16, 0), (32, 0))
        bits.take(1)
    return orientation, is_animated


def _depth(bits: _Bits) -> tuple[int, bool]:
    if bits.flag():
        depth = bits.choice((0, 32), (0, 16), (0, 24), (6, 1))
        bits.take(4)
        return depth, True
    return bits.choice((0, 8), (0, 10), (0, 12), (6, 1)), False


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    if bits.flag():
        return _ALPHA, False
    kind = bits.enum()
    _depth(bits)
    bits.choice((0, 0), (0, 3), (0, 4), (3, 1))
    bits.take(8 * bits.choice((0, 0), (4, 0), (5, 16), (10, 48)))
    is_associated = kind == _ALPHA and bits.flag()
    if kind == _SPOT:
        bits.take(4 * 16)
    if kind == _CFA:
        bits.choice((0, 1), (2, 0), (4, 3), (8, 19))
    return kind, is_associated


def _colours(bits: _Bits) -> tuple[bool, tuple[int, int] | None, Measured | None]:
    """Whether an ICC profile says them, their numbers in H.273, and what they are where there are none."""
    if bits.flag():
        return False, None, None
    has_profile, space = bits.flag(), bits.enum()
    if has_profile or space > 1:
        return has_profile, None, None
    white = bits.enum()
    own_white = _points(bits, 1 if white == _OWN else 0)
    primaries = bits.enum() if space == 0 else 1
    own_primaries = _points(bits, 3 if primaries == _OWN else 0)
    exponent = bits.take(24) / 10_000_000 if bits.flag() else None
    transfer = bits.enum() if exponent is None else _OWN
    # 11 is P3, under DCI's white in H.273, where 12 is under D65
    coded = {(1, 1): 1, (1, 9): 9, (1, 11): 12, (11, 11): 11}.get((white, primaries), 2)
    points = [*own_white, *own_primaries]
    if white in _WHITES:
        points.insert(0, _WHITES[white])
    points += _PRIMARIES.get(primaries, ())
    if len(points) == 4 and (exponent or (coded == 2 and transfer in (_LINEAR, _SRGB_CURVE))):
        return False, None, Measured(1.0 if transfer == _LINEAR else exponent, Chromaticities(*points))
    return False, None if (coded, transfer) == (1, _SRGB_CURVE) else (coded, transfer), None


def _points(bits: _Bits, count: int) -> list[tuple[float, float]]:
    """Chromaticities x, y: millionths, whose lowest bit says whether they are below zero."""

    def coordinate() -> float:
        value = bits.choice((19, 0), (19, 524288), (20, 1048576), (21, 2097152))
        return (-(value + 1) // 2 if value & 1 else value // 2) / 1_000_000

    return [(coordinate(), coordinate()) for _ in range(count)]
