"""Synthetic noise: a function of (run seed, image id, level) alone, and bit-identical on every machine."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imagewizard import seeding


class Noise(ABC):
    """A kind of noise with its parameters, which are the fields of a dataclass."""

    @abstractmethod
    def add(self, clean: np.ndarray, image_id: str, sigma: float, seed: int) -> np.ndarray:
        """Returns `clean` (uint8 or float) plus noise: float32, 0-255 scale, neither clipped nor quantised.

        `clean` is (H, W, 3), (H, W, 1) or (H, W). A grey image, of one channel or of three equal ones, gets one plane
        of noise. `sigma` is the level on the 0-255 scale. numpy draws the noise on the CPU, so that all devices denoise
        the same bits.
        """

    @property
    @abstractmethod
    def offset(self) -> float:
        """Mean of the noise, 0-255 scale; it is known and therefore subtracted before denoising."""

    @abstractmethod
    def describe(self) -> str:
        """The noise without its level, as plans and reports show it: `Gaussian, mean 40`."""

    def params(self) -> str:
        """The parameters as canonical JSON, for the column noise_params."""
        return json.dumps(asdict(self), sort_keys=True)  # type: ignore[call-overload]  # each kind is a dataclass


def noise_shape(clean: np.ndarray) -> tuple[int, ...]:
    """The shape of the noise for an image: its own, or (H, W, 1) if it is grey in three equal planes."""
    if clean.ndim == 3 and all(np.array_equal(clean[:, :, 0], clean[:, :, i]) for i in range(1, clean.shape[2])):
        return *clean.shape[:2], 1
    return clean.shape


@dataclass(frozen=True)
class Gaussian(Noise):
    """White noise of standard deviation sigma, independent in each channel of a colour image."""

    mean: float = 0.0

    def add(self, clean: np.ndarray, image_id: str, sigma: float, seed: int) -> np.ndarray:
        rng = seeding.generator(seed, image_id, "gaussian", sigma)
        noise = rng.standard_normal(noise_shape(clean), dtype=np.float32)
        noise *= np.float32(sigma)
        noise += np.float32(self.mean)
        return np.add(noise, clean, out=noise if noise.shape == clean.shape else None, dtype=np.float32)

    @property
    def offset(self) -> float:
        return self.mean

    def describe(self) -> str:
        return f"Gaussian, mean {self.mean:g}" if self.mean else "Gaussian"


# Keys are the words of a config (`noise.kind`) and of result rows. A new kind needs an entry here and a section in
# config/noise.py with the same parameters as fields.
KINDS: dict[str, type[Noise]] = {"gaussian": Gaussian}
# The noise of a config without `noise.kind`, and of trainings and benchmarks.
DEFAULT = Gaussian()


def make(kind: str, params: Mapping[str, Any]) -> Noise:
    """Makes a noise of KINDS from the fields of its config section or of a row's noise_params."""
    return KINDS[kind](**params)
