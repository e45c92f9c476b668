"""Estimates the level of white Gaussian noise in a single image, for blind restoration.

Chen, Zhu, Heng, "An Efficient Statistical Method for Image Noise Level Estimation" (ICCV 2015): patches of a clean
image span few dimensions, so the smaller eigenvalues of the patches' covariance come from the noise alone. Two steps
are added here. Patches with more texture than noise explains are left out (as in Liu, Tanaka, Okutomi, "Single-Image
Noise Level Estimation for Blind Denoising", TIP 2013). Noise that clipping to 0-255 removed is added to the estimate.
"""

import math
import statistics
from dataclasses import dataclass

import numpy as np

# Patches are spread evenly over the image. With this limit an image of any size takes 20 to 40 ms.
MAX_PATCHES = 15_000
# Smaller images have too few patches for a covariance (32x32 pixels have 625 patches of 8x8, with 64 dimensions each).
MIN_SIDE = 32
ROUNDS = 4

# A standard normal variable as 200 equally likely values.
_NORMAL = np.array([statistics.NormalDist().inv_cdf((i + 0.5) / 200) for i in range(200)])
_NORMAL /= _NORMAL.std()


@dataclass(frozen=True)
class Found:
    """What was found of the noise in an image. All values are on the 0-255 scale."""

    std: float | None
    """Standard deviation of the noise, finite, >= 0; None: too little of the image varies to find any."""
    level: float | None
    """The sigma that serves the denoiser best on this noise, finite, >= 0; None where `std` is None."""
    kind: str
    """none: there is no noise. white: it is independent from pixel to pixel. camera: it is smeared, or grows with
    brightness."""
    gain: float | None
    """How much the noise's variance grows for each grey level of brightness; None if that was not measured."""


def find(image: np.ndarray, alpha: np.ndarray | None = None) -> Found:
    """What noise there is in `image`, as `estimate_sigma` takes it.

    `alpha`: (H, W); where it is 0, pixels do not count. None: all do.
    """
    level = estimate_sigma(image)
    return Found(level, level, "white" if level > 0 else "none", None)


def estimate_sigma(image: np.ndarray) -> float:
    """Standard deviation of the noise in `image` on the 0-255 scale: finite, never negative, 0 for a constant image.

    `image` is (H, W, 3) or (H, W, 1), uint8 or float (0-255 scale), clipped or not; the estimate is of the noise before
    clipping. It is 0 if a side is shorter than 3 pixels, which is too small for an estimate.
    """
    if min(image.shape[:2]) < MIN_SIDE:
        return _laplacian_sigma(image.astype(np.float32))
    channels = image.shape[2]
    green = _patch_sigma(image[:, :, channels // 2, np.newaxis], side=8)
    if channels == 1:
        return green
    colour = _patch_sigma(image, side=3)
    # The channels of a clean image share their texture, so patches of all three separate texture from noise far better.
    # But they only see noise that the channels do not share: none in a grey image, almost none if JPEG has subsampled
    # the colours. Measured from sigma 5 up, the two estimates nearly always differ by a factor of 7 or more in such
    # images, and by at most 4.2 (in foliage) if the noise is white.
    return colour if colour > green / 5 else green


def _laplacian_sigma(image: np.ndarray) -> float:
    """Immerkær, "Fast Noise Variance Estimation" (CVIU 1996); 0 if a side is shorter than its 3x3 mask."""
    if min(image.shape[:2]) < 3:
        return 0.0
    response = np.diff(np.diff(image, 2, axis=0), 2, axis=1)
    return float(np.abs(response).mean()) * math.sqrt(math.pi / 2) / 6


def _patch_sigma(image: np.ndarray, side: int) -> float:
    """Estimates sigma from `side` x `side` patches of `image` (H, W, C), with all channels of a patch as one vector.

    The level decides which patches are usable, and the patches decide the level. So it iterates a few rounds, starting
    from a level that is too high.
    """
    patches = _patches(image, side)
    # Exactly constant patches are padding or fully clipped. If most patches are constant, the image is a drawing
    # without noise.
    varied = (patches != patches[:, :1]).any(axis=1)
    if 2 * np.count_nonzero(varied) > len(patches):
        patches = patches[varied]
    channel_means = patches.reshape(len(patches), image.shape[2], -1) @ np.full(side * side, side**-2, dtype=np.float32)
    from_grey = np.abs(channel_means).max(axis=1)
    texture, expected, deviation = _texture(patches, side, image.shape[2])
    clipped = bool(image.min() >= 0 and image.max() <= 255)
    enough = 20 * patches.shape[1]

    sigma = _flat_sigma(patches)
    for _ in range(ROUNDS):
        kept, share = np.full(len(patches), True), np.ones(len(patches))
        if clipped:
            # Keeps at least half of the patches: those nearest to mid-grey lost the least noise to clipping.
            kept = from_grey <= max(127.5 - 1.5 * sigma, _nth(from_grey, len(patches) // 2))
            share = _unclipped_share(channel_means, sigma).mean(axis=1)
        level = sigma**2 * share[kept].mean()
        kept &= texture <= max(level * (expected + 3.5 * deviation), _nth(texture[kept], enough))
        sigma = _flat_sigma(patches[kept]) / np.sqrt(share[kept].mean())
    return float(sigma)


def _patches(image: np.ndarray, side: int) -> np.ndarray:
    """At most MAX_PATCHES patches on a regular grid: float32, (N, C * side * side), mid-grey at 0."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(0, 1))
    step = math.ceil(math.sqrt(windows.shape[0] * windows.shape[1] / MAX_PATCHES))
    patches = windows[::step, ::step].reshape(-1, image.shape[2] * side * side)
    return patches.astype(np.float32) - np.float32(127.5)


def _texture(patches: np.ndarray, side: int, channels: int) -> tuple[np.ndarray, float, float]:
    """(each patch's sum of squared differences between neighbours, its mean and deviation for white noise of sigma 1).

    The sum is the quadratic form of the grid's graph Laplacian L: mean tr(L), variance 2 tr(L²).
    """
    steps = np.diff(np.eye(side, dtype=np.float32), axis=0)
    line, same = steps.T @ steps, np.eye(side, dtype=np.float32)
    laplacian = np.kron(np.eye(channels, dtype=np.float32), np.kron(line, same) + np.kron(same, line))
    energy = np.einsum("ij,ij->i", patches @ laplacian, patches)
    return energy, float(np.trace(laplacian)), float(np.sqrt(2 * np.square(laplacian).sum()))


def _flat_sigma(patches: np.ndarray) -> float:
    """Square root of the mean of the n smallest eigenvalues, with the largest n that keeps mean <= median."""
    centred = patches - patches.mean(axis=0)
    values = np.linalg.eigvalsh((centred.T @ centred).astype(np.float64) / (len(patches) - 1))
    last = np.arange(len(values))
    means = np.cumsum(values) / (last + 1)
    medians = (values[last // 2] + values[(last + 1) // 2]) / 2
    return float(np.sqrt(max(means[means <= medians][-1], 0.0)))


def _unclipped_share(means: np.ndarray, sigma: float) -> np.ndarray:
    """Share of the noise variance that remains after clipping, for observed patch means (mid-grey at 0)."""
    sigma = max(sigma, 1.0)  # a lower sigma has the same share, but would divide by almost zero
    seen = np.clip(np.linspace(-127.5, 127.5, 64)[:, None] + sigma * _NORMAL, -127.5, 127.5)
    return np.interp(means, seen.mean(axis=1), seen.var(axis=1)) / sigma**2


def _nth(values: np.ndarray, n: int) -> float:
    n = min(n, len(values) - 1)
    return float(np.partition(values, n)[n])
