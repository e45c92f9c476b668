"""The DDPM's noise schedule, and where the noise level of a real image lies on it.

Let y = x0 + s*n be a noisy image with s = 2*sigma/255 (images in [-1, 1], sigma on the 0-255 scale). Then
sqrt(abar_t)*y is exactly the DDPM's x_t = sqrt(abar_t)*x0 + sqrt(1 - abar_t)*eps (Ho et al. 2020, eq. 4), at the t with
sqrt((1 - abar_t)/abar_t) = s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from imagewizard.errors import UserError
from imagewizard.schema import level_text


def sigma_to_std(sigma: float) -> float:
    """Converts a noise level `sigma` on the 0-255 scale to a standard deviation on the [-1, 1] scale."""
    return 2.0 * sigma / 255.0


Prediction = Literal["epsilon", "v_prediction", "sample"]
"""What a network predicts, in diffusers' words: the noise, v, or the image x0."""

# What changes the levels that a network was trained on, or what it is told of them, and its value in a DDPM. All other
# keys of diffusers' schedulers choose steps for its own samplers, which are not used here.
_DDPM = {"use_flow_sigmas": False, "timestep_type": "discrete", "snr_shift_scale": 1.0}


@dataclass(frozen=True)
class NoiseSchedule:
    """The levels of a trained DDPM, and what its network predicts there."""

    alphas_cumprod: np.ndarray
    """Cumulative signal fractions abar_t, float64, shape (T,), falling, within (0, 1)."""
    clip: float | None
    """DDIM clips each estimate of x0 to [-clip, clip]; None: it does not."""
    prediction: Prediction = "epsilon"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """From a diffusers scheduler config. Raises UserError, which names what it finds, unless it is a DDPM's."""
        prediction: Any = config.get("prediction_type") or "epsilon"
        if prediction not in get_args(Prediction):
            raise _unusable(f"prediction_type={prediction}", f"{', '.join(get_args(Prediction))} can be used")
        # A scheduler without betas (score SDE, flow matching) must not silently get a DDPM's default betas.
        if "_class_name" in config and not (config.get("beta_schedule") or config.get("trained_betas")):
            what = f"its scheduler is a {config['_class_name']} without betas"
            raise UserError(what, "only a DDPM's can be used", "model")
        for key, usual in _DDPM.items():
            if config.get(key, usual) not in (usual, None):
                raise _unusable(f"{key}={config[key]}", f"only a DDPM's can be used ({key}={usual})")
        try:
            alphas_cumprod = np.cumprod(1.0 - _betas(**{key: config[key] for key in _BETA_KEYS if key in config}))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"its scheduler's config makes no betas: {error}", "correct scheduler_config.json", "model"
            ) from None
        if config.get("rescale_betas_zero_snr"):
            alphas_cumprod = _rescaled(alphas_cumprod)
        if not len(alphas_cumprod) or not np.all(np.diff(alphas_cumprod, prepend=1.0, append=0.0) < 0.0):
            what = "its scheduler's alphas_cumprod do not fall within (0, 1), step by step"
            raise UserError(what, "correct its betas", "model")
        return cls(alphas_cumprod, _clip(config), prediction)

    @cached_property
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
        return float(np.interp(np.log(sigma_to_std(sigma)), self._levels, self._steps))

    def alpha_bar(self, timestep: float) -> float:
        """abar at a fractional timestep, the inverse of `timestep`'s interpolation."""
        return float(1.0 / (1.0 + np.exp(2.0 * np.interp(timestep, self._steps, self._levels))))

    # Cached, because a training asks for thousands of timesteps before its first step.
    @cached_property
    def _levels(self) -> np.ndarray:
        """log(noise-to-signal) of each step."""
        return 0.5 * (np.log1p(-self.alphas_cumprod) - np.log(self.alphas_cumprod))

    @cached_property
    def _steps(self) -> np.ndarray:
        return np.arange(len(self.alphas_cumprod), dtype=np.float64)


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


def _rescaled(alphas_cumprod: np.ndarray) -> np.ndarray:
    """With `rescale_betas_zero_snr` (Lin et al. 2024, algorithm 1), but without the last step, which has no signal.

    That step is pure noise; no image has its level.
    """
    if len(alphas_cumprod) < 2:
        return alphas_cumprod[:0]
    signal = np.sqrt(alphas_cumprod)
    return ((signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1])))[:-1] ** 2


def _clip(config: Mapping[str, Any]) -> float | None:
    """`NoiseSchedule.clip`, as diffusers' schedulers do it. Raises UserError for what depends on the whole image."""
    if config.get("thresholding"):
        # With the default, 1, it is the same as to clip. Above, it changes an image's contrast by its brightest pixels.
        if (most := config.get("sample_max_value", 1.0)) != 1.0:
            fix = "it changes the contrast; give thresholding=false or sample_max_value=1"
            raise _unusable(f"thresholding=true with sample_max_value={most}", fix)
        return 1.0
    if not config.get("clip_sample", True):
        return None
    reach = config.get("clip_sample_range", 1.0)
    if not isinstance(reach, int | float) or not reach > 0:
        raise _unusable(f"clip_sample_range={reach}", "give a number above 0")
    return float(reach)


def _unusable(found: str, fix: str) -> UserError:
    return UserError(f"its scheduler_config.json says {found}", fix, "model")


def alpha_bar_of_sigma(sigma: float) -> float:
    """abar of exactly the level `sigma` (0-255 scale): 1/(1 + s^2), also between or below the schedule's steps."""
    return 1.0 / (1.0 + sigma_to_std(sigma) ** 2)
