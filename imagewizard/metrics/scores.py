"""Compares images with a clean one: uint8 or float (0-255, unclipped), (H, W, C) or (H, W). Thread-safe."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imagewizard.metrics.formula import MARGIN, decibels


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels, at most 100 (which equal images get)."""
    return Reference(reference).psnr(image)


class Reference:
    """A clean image, with which others are compared. Raises ValueError for one of another shape."""

    def __init__(self, clean: np.ndarray) -> None:
        self.clean = clean

    def psnr(self, image: np.ndarray) -> float:
        """Peak signal-to-noise ratio of `image` in dB, as the function of this name."""
        return decibels(self._compared(image)[0], image.size)

    def ssim(self, image: np.ndarray) -> float | None:
        """Structural similarity in scikit-image's default form; None where a side is shorter than the 7x7 window.

        The mean over channels and over all windows inside the image, with uniform weights and sample covariance.
        """
        return self._mean_similarity(self._compared(image)[1])

    def scores(self, image: np.ndarray) -> dict[str, float | None]:
        """All METRICS of `image` by name, for the price of one."""
        squared_error, similarity = self._compared(image)
        return {"psnr": decibels(squared_error, image.size), "ssim": self._mean_similarity(similarity)}

    def _mean_similarity(self, total: float) -> float | None:
        height, width = self.clean.shape[:2]
        windows = max(0, height - MARGIN) * max(0, width - MARGIN) * self.clean[:1, :1].size
        return total / windows if windows else None

    def _compared(self, image: np.ndarray) -> tuple[float, float]:
        """Sums of the squared error over all samples, and of SSIM over all windows inside the image."""
        if image.shape != self.clean.shape:
            raise ValueError(f"image {image.shape} and reference {self.clean.shape} differ in shape")
        return _compare()(_samples(self.clean), _samples(image))


def _samples(image: np.ndarray) -> np.ndarray:
    """What both versions take: uint8, float32 or float64, (H, W, C), C-contiguous."""
    dtype = image.dtype if image.dtype in (np.uint8, np.float32) else np.float64
    return np.ascontiguousarray(image, dtype).reshape(*image.shape[:2], -1)


@functools.cache
def _compare() -> Callable[[np.ndarray, np.ndarray], tuple[float, float]]:
    """By numba on one core; by torch, which takes about thirty times as long, where numba is missing.

    Neither is imported before the first image is compared.
    """
    try:
        from imagewizard.metrics import kernel
    except ImportError:
        from imagewizard.metrics import device

        return device.compare
    return kernel.compare


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
