"""PSNR and SSIM of batches of tensors on any device, in float64. Nothing waits for the device."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imagewizard.metrics.formula import C1, C2, MARGIN, PSNR_CAP, SAMPLES

# Samples that are compared at a time: a dozen float64 planes of so many are 200 MB.
PIECE = 1 << 21


def scores(clean: Tensor, images: Tensor) -> dict[str, Tensor]:
    """All METRICS of each image by name: float64 (N,), on the device of both.

    `clean` and `images` are (N, H, W, C), uint8 or float (0-255, unclipped). SSIM is NaN where a side is shorter than
    its 7x7 window. Raises ValueError where the shapes differ.
    """
    squared_error, similarity = sums(clean, images)
    _, height, width, channels = images.shape
    psnr = 10 * (math.log10(255**2 * height * width * channels) - squared_error.log10())
    windows = max(0, height - MARGIN) * max(0, width - MARGIN) * channels
    return {"psnr": psnr.clamp(max=PSNR_CAP), "ssim": similarity / windows}  # 0 / 0 is NaN


def sums(clean: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """For each image the sums of the squared error, and of SSIM over all windows inside it: float64 (N,)."""
    if images.shape != clean.shape:
        raise ValueError(f"images {tuple(images.shape)} and references {tuple(clean.shape)} differ in shape")
    squared_error, similarity = torch.zeros(2, len(images), dtype=torch.float64, device=images.device)
    for some, rows, band in _pieces(*images.shape):
        y, x = (each[some, band].permute(0, 3, 1, 2).to(torch.float64) for each in (clean, images))
        squared_error[some] += (x - y)[:, :, :rows].square().sum((1, 2, 3))
        if min(y.shape[2:]) > MARGIN:
            similarity[some] += _similarity(y, x).sum((1, 2, 3))
    return squared_error, similarity


def _pieces(count: int, height: int, width: int, channels: int) -> Iterator[tuple[slice, int, slice]]:
    """Which images, how many rows of their own, and these rows with those that their windows reach into."""
    at_once = max(1, PIECE // (height * width * channels))
    rows = max(1, PIECE // (at_once * width * channels))
    for first in range(0, count, at_once):
        for top in range(0, height, rows):
            yield slice(first, first + at_once), rows, slice(top, top + rows + MARGIN)


def _similarity(y: Tensor, x: Tensor) -> Tensor:
    """SSIM of each window: float64 (n, C, H - 6, W - 6)."""
    quantities = torch.cat([y, x, y * y + x * x, y * x])
    for window in ((MARGIN + 1, 1), (1, MARGIN + 1)):
        quantities = F.avg_pool2d(quantities, window, stride=1, divisor_override=1)
    y_sum, x_sum, squares, products = quantities.chunk(4)
    product, sum_squares = y_sum * x_sum, y_sum * y_sum + x_sum * x_sum
    covariance, variances = SAMPLES * products - product, SAMPLES * squares - sum_squares
    return (2 * product + C1) * (2 * covariance + C2) / ((sum_squares + C1) * (variances + C2))


def compare(clean: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    """As kernel.compare, where there is no numba."""
    pair = (torch.from_numpy(each.copy())[None] for each in (clean, image))  # torch warns of what is read-only
    squared_error, similarity = sums(*pair)
    return float(squared_error), float(similarity)
