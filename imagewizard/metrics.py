"""How close an image is to its reference, on the 0-255 scale. METRICS lists the numbers for it.

PSNR and SSIM equal scikit-image's to 1e-6. They are made for a bulk job, where one reference is compared with many
images and scikit-image's SSIM would cost more than the rest of the row. Numpy on one core, thread-safe. An image is
(H, W, C) or (H, W), uint8 or float (0-255, unclipped).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PSNR_CAP = 100.0
# SSIM works in tiles whose dozen planes, 200 KB each for RGB in float64, stay in the processor's cache.
TILE_ROWS, TILE_COLUMNS = 32, 256
# The reference's moments are kept for so many tiles (2 megapixels, 50 MB for uint8 RGB) and beyond them computed anew.
KEPT_TILES = 256

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_MARGIN = 6  # of a 7x7 window: how much smaller than the image the map of SSIM is
_N = (_MARGIN + 1) ** 2


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels, at most 100 (which equal images get)."""
    _check_shapes(image, reference)
    total = 0.0
    for top in range(0, len(image), TILE_ROWS):
        rows = slice(top, top + TILE_ROWS)
        error = np.subtract(image[rows], reference[rows], dtype=np.float64).ravel()
        total += float(np.einsum("i,i->", error, error))  # not a BLAS product, which would start threads of its own
    if total == 0.0:
        return PSNR_CAP
    return min(10 * (math.log10(255**2 * image.size) - math.log10(total)), PSNR_CAP)


class Reference:
    """A clean image, and what comparing it with one image after another needs to know of it only once."""

    def __init__(self, clean: np.ndarray) -> None:
        self.clean = clean
        self._kept: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def psnr(self, image: np.ndarray) -> float:
        """Peak signal-to-noise ratio of `image` in dB, as the function of this name."""
        return psnr(image, self.clean)

    def ssim(self, image: np.ndarray) -> float | None:
        """Structural similarity in scikit-image's default form; None where a side is shorter than the 7x7 window.

        The mean over channels and over all windows inside the image, with uniform weights and sample covariance.
        """
        _check_shapes(image, self.clean)
        height, width = image.shape[0] - _MARGIN, image.shape[1] - _MARGIN
        if min(height, width) < 1:
            return None
        places = [(top, left) for top in range(0, height, TILE_ROWS) for left in range(0, width, TILE_COLUMNS)]
        return sum(self._tile_ssim(image, *place) for place in places) / (height * width * math.prod(image.shape[2:]))

    def _tile_ssim(self, image: np.ndarray, top: int, left: int) -> float:
        """Sum of SSIM over the windows of one tile.

        With sums over a window's N samples in the place of means: squares of means are N² times the formula's, and
        sample (co)variances N (N - 1) times.
        """
        tile = slice(top, top + TILE_ROWS + _MARGIN), slice(left, left + TILE_COLUMNS + _MARGIN)
        shape = self.clean[tile].shape
        # Of uint8 images all these terms are integers below 2³¹: exact in int32, so that only the quotient is rounded.
        exact = image.dtype == self.clean.dtype == np.uint8
        dtype, real = (np.int32, np.float32) if exact else (np.float64, np.float64)
        x, y = _flat(image[tile], dtype), _flat(self.clean[tile], dtype)
        x_sum, variances = _moments(x, shape)
        y_sum, y_variance = self._clean_moments(tile)
        y_sum = y_sum.astype(dtype, copy=False)
        variances += y_variance
        means = x_sum * y_sum
        covariance = _box_sum(x * y, shape)
        covariance *= _N
        covariance -= means

        ratio = _shifted(means * 2, _N * _N * _C1, real)
        ratio *= _shifted(covariance * 2, _N * (_N - 1) * _C2, real)
        below = _shifted(x_sum * x_sum + y_sum * y_sum, _N * _N * _C1, real)
        below *= _shifted(variances, _N * (_N - 1) * _C2, real)
        ratio /= below
        height, width, channels = (*shape, 1)[:3]
        windows = ratio.reshape(height - _MARGIN, width * channels)[:, : (width - _MARGIN) * channels]
        return float(windows.sum(dtype=np.float64))

    def _clean_moments(self, tile: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        key = tile[0].start, tile[1].start
        moments = self._kept.get(key)
        if moments is None:
            clean = self.clean[tile]
            moments = _moments(_flat(clean, np.int32 if clean.dtype == np.uint8 else np.float64), clean.shape)
            if len(self._kept) < KEPT_TILES:
                self._kept[key] = moments
        return moments


def _check_shapes(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape:
        raise ValueError(f"image {image.shape} and reference {reference.shape} differ in shape")


def _flat(tile: np.ndarray, dtype: type) -> np.ndarray:
    """The samples of `tile` row after row, then zeros for what windows of the last row look at beyond it."""
    flat: np.ndarray = np.zeros(tile.size + _MARGIN * math.prod(tile.shape[2:]), dtype)
    flat[: tile.size].reshape(tile.shape)[...] = tile
    return flat


def _box_sum(flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sums over the 7x7 windows of a flat plane of `shape`, one for each place in its rows but the last 6.

    Flat, neighbours of both kinds are a fixed step apart: one long vector operation does what a row at a time would.
    The last 6 columns mix two rows and mean nothing.
    """
    channels = math.prod(shape[2:])
    for step in (shape[1] * channels, channels):
        size = len(flat) - _MARGIN * step
        twos = flat[:-step] + flat[step:]
        sevens = twos[:size] + twos[2 * step :][:size]
        sevens += twos[4 * step :][:size]
        sevens += flat[6 * step :]
        flat = sevens
    return flat


def _moments(flat: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Over each window: the sum S and N·(sum of squares) - S², which is N (N - 1) times the sample variance."""
    total = _box_sum(flat, shape)
    variance = _box_sum(flat * flat, shape)
    variance *= _N
    variance -= total * total
    return total, variance


def _shifted(term: np.ndarray, constant: float, dtype: type) -> np.ndarray:
    return term.astype(dtype, copy=False) + dtype(constant)


@dataclass(frozen=True)
class Metric:
    """A number for how close an image is to its reference, and how it is shown."""

    measure: Callable[[Reference, np.ndarray], float | None]
    """None where the image has none, as a small one has no SSIM."""
    label: str
    unit: str
    """Empty where it has none."""
    decimals: int
    higher_is_better: bool

    def text(self, value: float | None) -> str:
        """`PSNR 31.42 dB`; empty without a value."""
        return "" if value is None else f"{self.label} {value:.{self.decimals}f} {self.unit}".rstrip()

    def change(self, noisy: float | None, denoised: float | None) -> str:
        """`PSNR 20.17 → 31.42 dB`; empty without values."""
        return "" if noisy is None else self.text(denoised).replace(" ", f" {noisy:.{self.decimals}f} → ", 1)


# By name, which is the metric's column in result rows. A new one takes an entry here, and its columns in schema.py.
METRICS = {
    "psnr": Metric(Reference.psnr, "PSNR", "dB", 2, higher_is_better=True),
    "ssim": Metric(Reference.ssim, "SSIM", "", 4, higher_is_better=True),
}
