"""Synthetic noise, a function of (run seed, image id, level) alone and bit-identical on every machine."""

import numpy as np

from imagewizard import seeding


def add_gaussian(clean: np.ndarray, image_id: str, sigma: float, mean: float, seed: int) -> np.ndarray:
    """`clean` (uint8, (H, W, 3)) + Gaussian noise: float32, 0-255 scale, neither clipped nor quantised.

    `sigma` and `mean` are on the 0-255 scale. Drawn by numpy on the CPU, whatever device denoises, so that two
    devices get the same bits.
    """
    rng = seeding.generator(seed, image_id, "gaussian", sigma)
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    noise *= np.float32(sigma)
    noise += np.float32(mean)
    noise += clean
    return noise
