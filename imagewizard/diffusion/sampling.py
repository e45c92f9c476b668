"""Estimates a clean image from a noisy one: by the posterior mean in one step, or by DDIM in several.

All images are (N, 3, H, W) float32 on the [-1, 1] scale; H and W are multiples of architecture.size_multiple.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imagewizard.diffusion.architecture import takes_fractional_timesteps, unshuffle_factor
from imagewizard.diffusion.schedule import NoiseSchedule, Prediction, alpha_bar_of_sigma
from imagewizard.diffusion.unet import UNet2DModel

LEAST_NOISE = 1e-4
"""Least sqrt(1 - abar) that divides: that of level 0.013."""


def network_inputs(unet: UNet2DModel, x_t: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Both as the network takes them. `x_t` becomes (N, 3*k*k, H/k, W/k), of the network's type, channels last."""
    if not takes_fractional_timesteps(unet.config):
        timesteps = timesteps.round().long()
    x = F.pixel_unshuffle(x_t, unshuffle_factor(unet.config))
    return x.to(unet.dtype, memory_format=torch.channels_last), timesteps


def predict(unet: UNet2DModel, x_t: Tensor, timesteps: Tensor) -> Tensor:
    """What the network predicts of `x_t` (eps, x0 or v), float32, same shape. `timesteps`: float32, shape (N,).

    Timesteps are a tensor, because UNet2DModel.forward turns a Python float into a long.
    """
    predicted = unet(*network_inputs(unet, x_t, timesteps), return_dict=False)[0].float()
    return F.pixel_shuffle(predicted, unshuffle_factor(unet.config))


def solve(kind: Prediction, predicted: Tensor, x_t: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """(x0, eps), the image and the noise that `predicted` finds in `x_t`. `alpha_bar`: shape (N, 1, 1, 1).

    Both solve x_t = sqrt(abar)*x0 + sqrt(1 - abar)*eps (Ho et al. 2020, eq. 15) for what the network predicts: eps, x0
    ("sample"), or v = sqrt(abar)*eps - sqrt(1 - abar)*x0 (Salimans and Ho 2022, appendix D).
    """
    signal, noise = alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()
    if kind == "v_prediction":
        return signal * x_t - noise * predicted, signal * predicted + noise * x_t
    if kind == "sample":
        # At levels below 0.03, 1 - abar is 0 in float32; what eps is there does not matter, but it must be finite.
        return predicted, (x_t - signal * predicted) / noise.clamp(min=LEAST_NOISE)
    return (x_t - noise * predicted) / signal, predicted


def ddim_step(x0: Tensor, eps: Tensor, alpha_bar_next: Tensor) -> Tensor:
    """The deterministic DDIM move to the level `alpha_bar_next` (Song et al. 2021, eq. 12, eta = 0).

    It replaces diffusers' step, which derives the next timestep from a full-length grid: wrong for a start in
    mid-schedule.
    """
    return alpha_bar_next.sqrt() * x0 + (1.0 - alpha_bar_next).sqrt() * eps


def _sent(values: Sequence[float] | np.ndarray, device: torch.device) -> Tensor:
    """`values` as float32 on the device; a GPU's queue goes on meanwhile."""
    tensor = torch.tensor(values, dtype=torch.float32)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def posterior_mean(unet: UNet2DModel, schedule: NoiseSchedule, noisy: Tensor, sigmas: list[float]) -> Tensor:
    """E[x0 | noisy] in one forward pass, unclamped. `noisy` = x0 + s*n; `sigmas`: level of each image, > 0, 0-255."""
    alpha_bar = _sent([alpha_bar_of_sigma(s) for s in sigmas], noisy.device).view(-1, 1, 1, 1)
    x_t = alpha_bar.sqrt() * noisy
    timesteps = _sent([schedule.timestep(s) for s in sigmas], noisy.device)
    return solve(schedule.prediction, predict(unet, x_t, timesteps), x_t, alpha_bar)[0]


def ddim_timesteps(start: float, steps: int) -> np.ndarray:
    """`steps` falling timesteps, evenly spaced from `start` towards 0, without 0 itself (unless `start` is 0)."""
    return np.linspace(start, 0.0, steps + 1)[:-1]


def ddim(unet: UNet2DModel, schedule: NoiseSchedule, noisy: Tensor, sigmas: list[float], steps: int) -> Tensor:
    """An approximate posterior sample, by `steps` DDIM steps from each image's own level down to 0. Unclamped."""
    grids = np.stack([ddim_timesteps(schedule.timestep(s), steps) for s in sigmas])
    own = np.array([alpha_bar_of_sigma(s) for s in sigmas])
    # The first level is exactly the image's own. The schedule's lowest may be above it, but no step may add noise.
    alpha_bars = np.maximum(np.vectorize(schedule.alpha_bar)(grids), own[:, None])
    alpha_bars[:, 0] = own
    timesteps = _sent(grids.T, noisy.device)
    levels = _sent(alpha_bars.T, noisy.device).view(steps, -1, 1, 1, 1)
    x_t = levels[0].sqrt() * noisy
    for step in range(steps):
        x0, eps = solve(schedule.prediction, predict(unet, x_t, timesteps[step]), x_t, levels[step])
        if schedule.clip is not None:
            x0 = x0.clamp(-schedule.clip, schedule.clip)
        if step + 1 < steps:
            x_t = ddim_step(x0, eps, levels[step + 1])
    return x0
