"""Setting pixels upright, as EXIF or XMP say to show them."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from imagewizard.images import xmp
from imagewizard.images.exif import ORIENTATION, Tags

_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # Exif 2.3, tag 0x0112
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.T,
    6: lambda image: image[::-1].T,
    7: lambda image: image[::-1, ::-1].T,
    8: lambda image: image[:, ::-1].T,
}


def said_orientation(exif: Tags | bytes | None, packet: bytes | None) -> int:
    """What EXIF says of 1 to 8, or else an XMP packet; 1 if neither does."""
    said = 0
    with suppress(ValueError):
        tags = exif if isinstance(exif, Tags) else Tags.read(exif or b"")
        said = tags.integers(ORIENTATION, (0,))[0]
    return said if 1 <= said <= 8 else xmp.orientation(packet or b"")


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) set upright, as another number than 2-8 leaves it. A pixel is moved as one item: half the time."""
    turn = _TURNS.get(orientation)
    if turn is None:
        return samples
    channels = samples.shape[2]
    turned = np.ascontiguousarray(turn(samples.view(f"V{channels * samples.itemsize}")[:, :, 0]))
    return turned.view(samples.dtype).reshape(*turned.shape, channels)
