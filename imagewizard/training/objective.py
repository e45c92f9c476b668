"""What training minimises: the error of the estimated noise or image, and of VGG19's features of it."""

import torch
from torch import Tensor, nn

from imagewizard.config.train import LossSection
from imagewizard.diffusion import pixels
from imagewizard.diffusion.sampling import predict_eps, predict_x0
from imagewizard.diffusion.schedule import NoiseSchedule, alpha_bar_of_sigma
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.training.losses import VGG19Features, perceptual_loss
from imagewizard.training.samples import TrainingBatch


class Objective(nn.Module):
    """The network with its loss, as one module, so that DistributedDataParallel sees the forward of both."""

    def __init__(self, unet: UNet2DModel, loss: LossSection, features: VGG19Features | None, bf16: bool) -> None:
        super().__init__()
        self.unet = unet
        self.features = features
        self._loss = loss
        self._bf16 = bf16

    @property
    def terms(self) -> list[str]:
        """Names of the rows of what `forward` returns."""
        return ["loss", "mse", "perceptual"] if self.features is not None else ["loss", "mse"]

    def forward(self, clean: Tensor, eps: Tensor, alpha_bar: Tensor, timesteps: Tensor) -> Tensor:
        """Losses (len(terms), N) of images `clean` ((N, 3, H, W), [-1, 1]) with the noise `eps` at levels `alpha_bar`.

        mse: mean square over an image of the error of eps (Ho et al. 2020, eq. 14) or of x0. `alpha_bar`: (N, 1, 1, 1).
        """
        x_t = alpha_bar.sqrt() * clean + (1.0 - alpha_bar).sqrt() * eps
        with torch.autocast(clean.device.type, torch.bfloat16, enabled=self._bf16):
            predicted = predict_eps(self.unet, x_t, timesteps)
        error = predicted - eps
        if self._loss.mse == "x0":
            error = error * ((1.0 - alpha_bar) / alpha_bar).sqrt()
        mse = error.square().mean(dim=(1, 2, 3))
        if self.features is None or self._loss.perceptual is None:
            return torch.stack([mse, mse])
        with torch.autocast(clean.device.type, torch.bfloat16, enabled=self._bf16):
            perceptual = perceptual_loss(self.features, predict_x0(x_t, predicted, alpha_bar), clean).float()
        return torch.stack([mse + self._loss.perceptual.weight * perceptual, mse, perceptual])


def inputs(batch: TrainingBatch, schedule: NoiseSchedule, device: torch.device) -> tuple[Tensor, ...]:
    """What `Objective.forward` takes, on `device`, for a batch of crops with their noise."""
    clean = pixels.to_tensor(batch.clean).to(device, non_blocking=True)
    eps = torch.from_numpy(batch.noise).to(device, non_blocking=True).permute(0, 3, 1, 2)
    levels = torch.tensor([alpha_bar_of_sigma(s) for s in batch.sigmas], dtype=torch.float32)
    timesteps = torch.tensor([schedule.timestep(s) for s in batch.sigmas], dtype=torch.float32)
    return clean, eps, levels.view(-1, 1, 1, 1).to(device), timesteps.to(device)
