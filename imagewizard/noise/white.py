"""Measures white noise in an image to within a percent or two.

Chen, Zhu, Heng, "An Efficient Statistical Method for Image Noise Level Estimation" (ICCV 2015): patches of a clean
image span few dimensions, so the smaller eigenvalues of the patches' covariance come from the noise alone. Two steps
are added here. Patches with more texture than noise explains are left out (as in Liu, Tanaka, Okutomi, "Single-Image
Noise Level Estimation for Blind Denoising", TIP 2013). Noise that clipping to 0-255 removed is added to the estimate.

It sees nothing of noise that neighbours share: that has few dimensions, too. And to it a page of text is noise.
"""

import functools
import math
import statistics

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# Patches lie on regular grids all over the pixels that count: half of all there are, within these bounds.
LEAST_PATCHES, MOST_PATCHES = 8_000, 20_000
ROUNDS = 3

# A standard normal variable as 200 equally likely values.
_NORMAL = np.array([statistics.NormalDist().inv_cdf((i + 0.5) / 200) for i in range(200)])
_NORMAL /= _NORMAL.std()
# Means of patches, mid-grey at 0, for which the share that clipping leaves is tabled: every half grey level.
_MEANS = np.linspace(-127.5, 127.5, 511)


def sigma(tiles: Tensor, counted: Tensor) -> float | None:
    """Standard deviation of the white noise in an image, before any clipping: finite, >= 0, 0-255 scale.

    `tiles`: float32 (N, C, H, W), 0-255 scale, parts of the image; a grey one has a single channel. `counted`: bool
    (N, H, W), the pixels that tell something. None if too few of them lie together.
    """
    # The channels of a clean image share their texture, so patches of all three separate texture from noise far better.
    channels = tiles.shape[1]
    side = 3 if channels > 1 else 8
    patches = _patches(tiles, counted, side)
    size, count = patches.shape
    enough = 20 * size
    if count < enough // 4:
        return None
    means = patches.view(channels, -1, count).mean(1)
    from_grey, entries = means.abs().amax(0), ((means + 127.5) * 2).round().int()
    patches -= patches.mean(1, keepdim=True)  # or rounding would matter in products
    texture, expected, deviation = _texture(patches, side, channels)
    clipped = bool(tiles.amin() >= 0 and tiles.amax() <= 255)
    kept = torch.ones(count, dtype=torch.bool, device=tiles.device)
    share = torch.ones(count, device=tiles.device)
    # The level decides which patches are usable, and the patches decide the level. So it iterates a few rounds, from a
    # level that is too high.
    found = _flat_sigma(patches, kept)
    for _ in range(ROUNDS):
        usable = torch.ones_like(kept)
        if clipped:
            # Keeps at least half of the patches: those nearest to mid-grey lost the least noise to clipping.
            usable = from_grey <= torch.clamp(127.5 - 1.5 * found, min=_nth(from_grey, count // 2))
            share = _unclipped_share(entries, float(found)).mean(0)
        level = found.square() * _mean(share, usable)
        most = torch.maximum(level * (expected + 3.5 * deviation), _nth(texture[usable], enough))
        kept = usable & (texture <= most)
        found = _flat_sigma(patches, kept) / _mean(share, kept).sqrt()
    return float(found)


def _patches(tiles: Tensor, counted: Tensor, side: int) -> Tensor:
    """Patches of counted pixels alone, (C * side * side, M), mid-grey at 0."""
    channels, height, width = tiles.shape[1:]
    if min(height, width) < side:
        return tiles.new_empty(channels * side * side, 0)
    pixels = int(counted.sum())
    excess = max(1, math.ceil(pixels / min(max(pixels / 2, LEAST_PATCHES), MOST_PATCHES)))
    down = math.isqrt(excess)
    across = math.ceil(excess / down)
    rows = [slice(i, height - side + i + 1, down) for i in range(side)]
    columns = [slice(i, width - side + i + 1, across) for i in range(side)]
    # One place of the patch after the other, since each is a view of the tiles.
    places = [tiles[:, channel, row, column] for channel in range(channels) for row in rows for column in columns]
    patches = torch.stack(places).flatten(1) - 127.5
    whole = (F.avg_pool2d(counted.float(), side, (down, across)) > 0.999).flatten()
    return patches if bool(whole.all()) else patches[:, whole]


@functools.cache
def _laplacian(side: int, channels: int) -> np.ndarray:
    """The graph Laplacian of a patch's grid, whose quadratic form sums the squared differences between neighbours."""
    steps = np.diff(np.eye(side, dtype=np.float32), axis=0)
    line, same = steps.T @ steps, np.eye(side, dtype=np.float32)
    return np.kron(np.eye(channels, dtype=np.float32), np.kron(line, same) + np.kron(same, line))


def _texture(patches: Tensor, side: int, channels: int) -> tuple[Tensor, float, float]:
    """(each patch's sum of squared differences between neighbours, its mean and deviation for white noise of sigma 1).

    The sum is the quadratic form of the grid's graph Laplacian L: mean tr(L), variance 2 tr(L²).
    """
    laplacian = _laplacian(side, channels)
    energy = ((torch.from_numpy(laplacian).to(patches.device) @ patches) * patches).sum(0)
    return energy, float(np.trace(laplacian)), float(np.sqrt(2 * np.square(laplacian).sum()))


def _flat_sigma(patches: Tensor, kept: Tensor) -> Tensor:
    """Square root of the mean of the n smallest eigenvalues, with the largest n that keeps mean <= median.

    Of the covariance of the `kept` patches.
    """
    some, count = patches * kept, kept.sum()
    mean = some.sum(1).double() / count
    values = torch.linalg.eigvalsh((some @ patches.T).double() / count - mean.outer(mean))
    last = torch.arange(len(values), device=values.device)
    means = values.cumsum(0) / (last + 1)
    medians = (values[last // 2] + values[(last + 1) // 2]) / 2
    return means[means <= medians][-1].clamp(min=0).sqrt().float()


def _unclipped_share(entries: Tensor, level: float) -> Tensor:
    """Share of the noise variance that remains after clipping, for observed patch means, given as entries of _MEANS."""
    level = max(level, 1.0)  # a lower one has the same share, but would divide by almost zero
    seen = np.clip(np.linspace(-127.5, 127.5, 64)[:, None] + level * _NORMAL, -127.5, 127.5)
    shares = np.interp(_MEANS, seen.mean(1), seen.var(1) / level**2)
    return torch.from_numpy(shares).float().to(entries.device)[entries]


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Of the chosen ones. A product takes half of the time that indexing does."""
    return (values * chosen).sum() / chosen.sum()


def _nth(values: Tensor, n: int) -> Tensor:
    """The value with `n` smaller ones; the greatest if there are fewer."""
    return values.kthvalue(min(n, len(values) - 1) + 1).values
