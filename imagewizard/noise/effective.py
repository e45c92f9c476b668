"""The level of any noise, white or not, in the terms of a network that knows white noise."""

import numpy as np

# A block's mean has a third of white noise's deviation.
BLOCK = 3


def effective_level(noise: np.ndarray) -> float:
    """Level of `noise` (a noisy image less the clean one, float (H, W, C), 0-255 scale), told to the network as sigma.

    It is three times the standard deviation of the means of 3x3 blocks, over all channels. For white noise that is its
    own deviation. Noise that a camera has smeared averages out less, and a network takes it for stronger noise. Of an
    image with a side below 3 it is the deviation of its pixels.
    """
    height, width, channels = noise.shape
    rows, columns = height // BLOCK, width // BLOCK
    if not rows or not columns:
        return float(noise.std(dtype=np.float64))
    blocks = noise[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, channels)
    return BLOCK * float(blocks.mean(axis=(1, 3), dtype=np.float64).std())
