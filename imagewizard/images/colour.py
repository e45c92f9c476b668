"""What a PNG says of its colours beside an ICC profile, as a profile; CMYK to sRGB by its profile."""

import io
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from imagewizard.images import icc
from imagewizard.images.icc import SRGB, SRGB_CURVE, Chromaticities
from imagewizard.images.png_chunks import Chunk

Lost = tuple[str, str]
"""What did not come along, and why."""
CHUNKS = {b"cICP": 4, b"mDCV": 24, b"cLLI": 8, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
"""The chunks that say it, apart from iCCP, with their lengths in bytes."""
IS_SRGB = Chunk(b"sRGB", b"\0")

# ITU-T H.273: colour primaries and transfer characteristics.
_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
_NTSC = Chromaticities(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
_PRIMARIES = {
    1: SRGB,
    4: Chromaticities(_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: Chromaticities(_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: _NTSC,
    7: _NTSC,
    8: Chromaticities(_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: Chromaticities(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: Chromaticities((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: Chromaticities(_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Chromaticities(_D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
_BT709 = (1 / 0.45, 1 / 1.0993, 0.0993 / 1.0993, 1 / 4.5, 0.0812)
_CURVES: dict[int, tuple[float, ...]] = {1: _BT709, 6: _BT709, 11: _BT709, 14: _BT709, 15: _BT709}
_CURVES |= {4: (2.2,), 5: (2.8,), 7: (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0912), 8: (1.0,), 13: SRGB_CURVE}
_HDR = {16: "PQ", 18: "HLG"}


def profile(chunks: Iterable[Chunk], embedded: bytes | None, is_grey: bool) -> tuple[bytes | None, Lost | None]:
    """The ICC profile that says what a PNG's chunks say, for grey or RGB pixels, and what it does not say of that.

    They count in the order of PNG, third edition, 4.3: cICP, iCCP (`embedded`), sRGB, gAMA with cHRM. Without cHRM the
    primaries are those of sRGB, without gAMA its curve, as browsers have it.
    """
    said = dict(reversed(list(chunks)))  # of two of a kind, the first
    lost = None
    try:
        if b"cICP" in said:
            return _made(*_coded(said[b"cICP"]), is_grey), None
    except ValueError as error:
        lost = ("cICP", str(error))
    if embedded is not None:
        return embedded, None
    if b"sRGB" in said:
        return _made(SRGB_CURVE, SRGB, is_grey), lost
    try:
        gamma, colours = _gamma(said.get(b"gAMA")), _chromaticities(said.get(b"cHRM"))
        made = _made(gamma or SRGB_CURVE, colours or SRGB, is_grey) if gamma or colours else None
    except ValueError as error:
        return None, lost or ("gAMA and cHRM", str(error))
    return made, lost


def _made(curve: Sequence[float], colours: Chromaticities, is_grey: bool) -> bytes:
    return icc.of_grey(curve) if is_grey else icc.of_rgb(curve, colours)


def _coded(body: bytes) -> tuple[Sequence[float], Chromaticities]:
    """Curve and colours of a cICP chunk. Raises ValueError for those that no simple profile has."""
    if len(body) != 4:
        raise ValueError("damaged")
    primaries, transfer, matrix, is_full_range = body
    if transfer in _HDR:
        raise ValueError(f"no ICC profile says {_HDR[transfer]}")
    if transfer not in _CURVES or primaries not in _PRIMARIES or matrix or is_full_range != 1:
        raise ValueError(f"{primaries}/{transfer}/{matrix}/{is_full_range} is none that is known")
    return _CURVES[transfer], _PRIMARIES[primaries]


def _gamma(body: bytes | None) -> tuple[float] | None:
    """The exponent of a gAMA chunk, from samples to light."""
    if body is None:
        return None
    value = struct.unpack(">I", body)[0] if len(body) == 4 else 0
    if not 1_000 <= value <= 10_000_000:  # the exponents 100 and 0.01
        raise ValueError("no such gamma")
    return (100_000 / value,)


def _chromaticities(body: bytes | None) -> Chromaticities | None:
    if body is None:
        return None
    if len(body) != 32:
        raise ValueError("no such primaries")
    values = [value / 100_000 for value in struct.unpack(">8I", body)]
    return Chromaticities(*zip(values[::2], values[1::2], strict=True))


def converted(mode: str, profile: object) -> dict[str, Any]:
    """What decoding.Stored says of the colours of an image that had this mode, in Pillow's words, and this profile."""
    if mode not in ("CMYK", "LAB"):
        return {"icc": profile}
    if mode == "LAB" or profile is None:
        return {"is_srgb": mode == "LAB"}
    try:
        cmyk_to_srgb(profile)
    except ValueError as error:
        return {"notes": (f"CMYK converted as if it had no ICC profile ({error})",)}
    return {"is_srgb": True}


@lru_cache(maxsize=8)  # making one takes longer than converting a photo by it
def cmyk_to_srgb(profile: object) -> ImageCms.ImageCmsTransform:
    """From Pillow's CMYK to sRGB by a file's ICC profile, with the intent that profiles are best at: perceptual.

    Raises ValueError for a profile that is not one of CMYK, or is damaged, or none.
    """
    if not isinstance(profile, bytes) or icc.space(profile) != icc.CMYK:
        raise ValueError("it has none of CMYK")
    try:
        return ImageCms.buildTransform(io.BytesIO(profile), ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    except ImageCms.PyCMSError as error:
        raise ValueError("its own is damaged") from error


def rgb_of_cmyk(inks: np.ndarray, profile: Any) -> np.ndarray:
    """sRGB of CMYK by its profile; without one that can be used R = (white - C)(white - K) / white, and so on.

    uint8 or uint16, (H, W, 4), all ink is white's opposite; of the same type, (H, W, 3).
    """
    transform = None
    with suppress(ValueError):
        transform = cmyk_to_srgb(profile)
    if inks.dtype == np.uint8:
        image = Image.fromarray(np.ascontiguousarray(inks), "CMYK")
        return np.array(transform.apply(image) if transform else image.convert("RGB"))
    if transform is None:
        light = (~inks).astype(np.uint32)
        return ((light[:, :, :3] * light[:, :, 3:] + 65535 // 2) // 65535).astype(np.uint16)
    import imagecodecs

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return np.asarray(
        imagecodecs.cms_transform(inks, profile, srgb, colorspace="cmyk", outcolorspace="rgb", outdtype="u2", intent=0)
    )
