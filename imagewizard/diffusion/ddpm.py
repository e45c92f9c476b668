"""A DDPM as a restorer: its estimate from one step, from several, or a blend of both."""

import torch
from torch import Tensor

from imagewizard.config.denoise import DenoiseSection
from imagewizard.diffusion import batch_size
from imagewizard.diffusion.architecture import size_multiple
from imagewizard.diffusion.fast_forward import FastForward
from imagewizard.diffusion.sampling import ddim, posterior_mean
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.diffusion.unet import UNet2DModel


class DDPM:
    """A network, its schedule and the `denoise` section's mode, steps and lambda. A denoiser.Restorer."""

    def __init__(self, unet: UNet2DModel, schedule: NoiseSchedule, options: DenoiseSection) -> None:
        self.unet = self._network = unet
        self.schedule = schedule
        self.options = options
        self.multiple = size_multiple(unet.config)
        self.max_sigma = schedule.max_sigma

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        # Not unet.to: diffusers' version warns about modules to keep in float32, although this network has none.
        torch.nn.Module.to(self.unet, device, dtype)
        torch.nn.Module.to(self.unet, memory_format=torch.channels_last)
        # A CPU has no launches to save, and its compiler would take longer than most of its jobs.
        self._network = FastForward(self.unet) if device.type == "cuda" else self.unet

    def best_batch(self, tile: torch.Size) -> int:
        return batch_size.found(self.unet, tile)

    def estimate(self, noisy: Tensor, sigmas: list[float]) -> Tensor:
        options = self.options
        if options.mode == "mmse":
            return posterior_mean(self._network, self.schedule, noisy, sigmas)
        sampled = ddim(self._network, self.schedule, noisy, sigmas, options.steps)
        if options.mode == "ddim":
            return sampled
        mean = posterior_mean(self._network, self.schedule, noisy, sigmas)
        return options.blend_lambda * sampled + (1.0 - options.blend_lambda) * mean

    def timestep(self, sigma: float) -> float | None:
        return self.schedule.timestep(sigma) if sigma > 0 else None
