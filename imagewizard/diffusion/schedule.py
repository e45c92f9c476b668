"""The DDPM's noise schedule, and where the noise level of a real image lies on it.

Let y = x0 + s*n be a noisy image with s = 2*sigma/255 (images in [-1, 1], sigma on the 0-255 scale). Then
sqrt(abar_t)*y is exactly the DDPM's x_t = sqrt(abar_t)*x0 + sqrt(1 - abar_t)*eps (Ho et al. 2020, eq. 4), at the t with
sqrt((1 - abar_t)/abar_t) = s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from imagewizard.errors import UserError
from imagewizard.schema import level_text


def sigma_to_std(sigma: float) -> float:
    """Converts a noise level `sigma` on the 0-255 scale to a standard deviation on the [-1, 1] scale."""
    return 2.0 * sigma / 255.0


@dataclass(frozen=True)
class NoiseSchedule:
    """Cumulative signal fractions abar_t of a trained DDPM, float64, shape (T,), falling."""

    alphas_cumprod: np.ndarray
    clip_sample: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """From a diffusers scheduler config. Raises UserError unless it belongs to a DDPM that predicts epsilon."""
        prediction = config.get("prediction_type", "epsilon")
        if prediction != "epsilon":
            raise UserError(f"its scheduler says prediction_type={prediction}", "only epsilon is supported", "model")
        # A scheduler without betas (score SDE, flow matching) must not silently get a DDPM's default betas.
        if "_class_name" in config and not config.keys() & {"beta_schedule", "trained_betas"}:
            what = f"its scheduler is a {config['_class_name']} without betas"
            raise UserError(what, "only a DDPM's can be used", "model")
        if config.get("rescale_betas_zero_snr"):
            what = "its scheduler rescales its betas to end without signal, where epsilon tells nothing"
            raise UserError(what, "only a schedule that keeps some signal can be used", "model")
        try:
            alphas_cumprod = np.cumprod(1.0 - _betas(**{key: config[key] for key in _BETA_KEYS if key in config}))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"its scheduler's config makes no betas: {error}", "correct scheduler_config.json", "model"
            ) from None
        if not len(alphas_cumprod) or np.any(np.diff(alphas_cumprod, prepend=1.0, append=0.0) >= 0.0):
            what = "its scheduler's alphas_cumprod do not fall within (0, 1), step by step"
            raise UserError(what, "correct its betas", "model")
        clip = bool(config.get("clip_sample", True)) and config.get("clip_sample_range", 1.0) == 1.0
        return cls(alphas_cumprod, clip)

    @property
    def max_sigma(self) -> float:
        """The highest noise level of the schedule, 0-255 scale."""
        last = self.alphas_cumprod[-1]
        return float(np.sqrt((1.0 - last) / last) * 127.5)

    def check(self, sigma: float) -> None:
        """Raises UserError if `sigma` is above `max_sigma`."""
        if sigma > self.max_sigma:
            what = f"{level_text(sigma)} is beyond the model's schedule, which ends at {self.max_sigma:.0f}"
            raise UserError(what, "give a lower level or another model", "sigma")

    def timestep(self, sigma: float) -> float:
        """The (fractional, 0-based) timestep with noise level `sigma` (0-255 scale, > 0).

        Interpolates log(noise-to-signal) between the schedule's steps; below the lowest level it is 0.
        Raises UserError above `max_sigma`.
        """
        self.check(sigma)
        levels = 0.5 * (np.log1p(-self.alphas_cumprod) - np.log(self.alphas_cumprod))
        return float(np.interp(np.log(sigma_to_std(sigma)), levels, np.arange(len(levels))))

    def alpha_bar(self, timestep: float) -> float:
        """abar at a fractional timestep, the inverse of `timestep`'s interpolation."""
        levels = 0.5 * (np.log1p(-self.alphas_cumprod) - np.log(self.alphas_cumprod))
        level = np.interp(timestep, np.arange(len(levels)), levels)
        return float(1.0 / (1.0 + np.exp(2.0 * level)))


_BETA_KEYS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")


def _betas(
    num_train_timesteps: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    beta_schedule: str = "linear",
    trained_betas: list[float] | None = None,
) -> np.ndarray:
    """diffusers' beta schedules, with its names and defaults. Its own code would make the driver import torch."""
    if trained_betas is not None:
        return np.asarray(trained_betas, np.float64)
    if beta_schedule == "linear":
        return np.linspace(beta_start, beta_end, num_train_timesteps)
    if beta_schedule == "scaled_linear":
        return np.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps) ** 2
    if beta_schedule == "squaredcos_cap_v2":  # Nichol and Dhariwal 2021, eq. 17
        edges = np.cos((np.arange(num_train_timesteps + 1) / num_train_timesteps + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1.0 - edges[1:] / edges[:-1], 0.999)
    raise ValueError(f"unknown beta_schedule {beta_schedule!r}")


def alpha_bar_of_sigma(sigma: float) -> float:
    """abar of exactly the level `sigma` (0-255 scale): 1/(1 + s^2), also between or below the schedule's steps."""
    return 1.0 / (1.0 + sigma_to_std(sigma) ** 2)
