"""A drawn scene for tests of noise: edges, flat places and texture."""

import numpy as np


def scene(height: int = 256, width: int = 320) -> np.ndarray:
    """Discs of all colours over a gradient, with a fine pattern on a third; uint8 (H, W, 3)."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:height, :width].astype(float)
    image = np.stack([60 + 120 * rows / height, 200 - 90 * columns / width, 90 + 60 * np.sin(rows / 50)], axis=-1)
    for _ in range(60):
        row, column, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(4, 40)
        image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = rng.uniform(20, 235, 3)
    weave = 15 * np.sin(rows * 1.9) * np.sin(columns * 1.3 + rows)
    image += (weave * (columns > 2 * width / 3))[:, :, None]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def noisy(clean: np.ndarray, sigma: float) -> np.ndarray:
    """With white noise: float32, neither clipped nor rounded."""
    noise = np.random.default_rng(11).standard_normal(clean.shape, dtype=np.float32)
    return clean + np.float32(sigma) * noise


def to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
