"""diffusion.pixels.to_levels of one image in one pass, compiled for the CPU. Each step rounds as that of torch does."""

import numpy as np

from imagewizard.compiling import compiled


def write(estimate: np.ndarray, white: int, out: np.ndarray) -> bool:
    """Writes an estimate (float32, (C, H, W), [-1, 1] scale) as `out`: uint8 or uint16, (H, W, C), 1 ↦ `white`.

    It is clamped and rounded; NaN becomes 0. Returns whether all of it is finite. It is fast for arrays that are
    contiguous by planes, as networks return them, or by pixels.
    """
    by_pixels = np.moveaxis(estimate, 0, -1)
    if by_pixels.flags.c_contiguous:
        return _write(by_pixels.reshape(1, -1), np.float32(white), out.reshape(-1, 1))
    return _write(
        np.ascontiguousarray(estimate).reshape(len(estimate), -1), np.float32(white), out.reshape(-1, len(estimate))
    )


@compiled
def _write(values: np.ndarray, white: np.float32, out: np.ndarray) -> bool:
    """For values of (C, n) and `out` of (n, C)."""
    not_finite = 0
    half, none = white / np.float32(2), np.float32(0)
    for channel in range(values.shape[0]):
        for i in range(values.shape[1]):
            value = values[channel, i]
            not_finite += value - value != none
            scaled = (value + np.float32(1)) * half
            scaled = scaled if scaled >= none else none  # NaN too
            out[i, channel] = np.rint(scaled if scaled <= white else white)
    return not_finite == 0
