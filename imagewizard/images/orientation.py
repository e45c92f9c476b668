"""Setting pixels upright, as EXIF says to show them."""

from collections.abc import Callable

import numpy as np

_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # Exif 2.3, tag 0x0112
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.T,
    6: lambda image: image[::-1].T,
    7: lambda image: image[::-1, ::-1].T,
    8: lambda image: image[:, ::-1].T,
}


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) set upright, as another number than 2-8 leaves it. A pixel is moved as one item: half the time."""
    turn = _TURNS.get(orientation)
    if turn is None:
        return samples
    channels = samples.shape[2]
    turned = np.ascontiguousarray(turn(samples.view(f"V{channels * samples.itemsize}")[:, :, 0]))
    return turned.view(samples.dtype).reshape(*turned.shape, channels)
