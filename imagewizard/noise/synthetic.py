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
        """`clean` (uint8, (H, W, C)) with noise: float32, 0-255 scale, neither clipped nor quantised.

        `sigma` is the level on the 0-255 scale. Drawn by numpy on the CPU, whatever device denoises, so that two
        devices get the same bits.
        """

    @property
    @abstractmethod
    def offset(self) -> float:
        """The mean of what is added, 0-255 scale: known, so it is subtracted before denoising."""

    @abstractmethod
    def describe(self) -> str:
        """The noise without its level, in the words of a plan and a report: `Gaussian, mean 40`."""

    def params(self) -> str:
        """The parameters as canonical JSON, which is what the column noise_params holds."""
        return json.dumps(asdict(self), sort_keys=True)  # type: ignore[call-overload]  # each kind is a dataclass


@dataclass(frozen=True)
class Gaussian(Noise):
    """White noise of standard deviation sigma, independent in each channel."""

    mean: float = 0.0

    def add(self, clean: np.ndarray, image_id: str, sigma: float, seed: int) -> np.ndarray:
        rng = seeding.generator(seed, image_id, "gaussian", sigma)
        noise = rng.standard_normal(clean.shape, dtype=np.float32)
        noise *= np.float32(sigma)
        noise += np.float32(self.mean)
        noise += clean
        return noise

    @property
    def offset(self) -> float:
        return self.mean

    def describe(self) -> str:
        return f"Gaussian, mean {self.mean:g}" if self.mean else "Gaussian"


# By the word in a config (`noise.kind`) and in result rows. A new kind takes an entry here and a section in
# config/noise.py, whose fields are its parameters.
KINDS: dict[str, type[Noise]] = {"gaussian": Gaussian}
# What a config gets that names no kind, and what trainings and benchmarks add.
DEFAULT = Gaussian()


def make(kind: str, params: Mapping[str, Any]) -> Noise:
    """The noise of a kind in KINDS, from the fields of its config section or of a row's noise_params."""
    return KINDS[kind](**params)
