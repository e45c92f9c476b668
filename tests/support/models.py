"""Tiny networks and model folders for tests: real UNet2DModels, 40,000 random weights, milliseconds a forward."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file

from imagewizard.diffusion.schedule import NoiseSchedule, Prediction
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.errors import UserError
from imagewizard.models import files as model_files
from imagewizard.models import network
from imagewizard.models.weights import WEIGHTS

# A tiny network gains nothing from a second thread, and threads that wait for a busy core cost it a hundredfold.
torch.set_num_threads(1)

PICKLED_WEIGHTS = "diffusion_pytorch_model.bin"
LINEAR = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
"""The DDPM's own schedule, T = 1000."""


CELEBAHQ_NETWORK: dict[str, Any] = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "center_input_sample": False,
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 256,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
}
"""config.json of google/ddpm-celebahq-256, as published: 113,673,219 parameters."""

CELEBAHQ_SCHEDULER: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "variance_type": "fixed_small",
}
"""Its scheduler_config.json."""


def published_form(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`weights` under the names that diffusers gave attention's parameters when the DDPM authors' models came out."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in weights.items():
        for new, former in old.items():
            name = name.replace(f".{new}.", f".{former}.")
        renamed[name] = tensor
    return renamed


def tiny_network(k: int = 1, **changes: Any) -> dict[str, Any]:
    """Arguments of a UNet2DModel on k x k pixel-unshuffled images; its multiple of height and width is 2*k."""
    return {
        "in_channels": 3 * k * k,
        "out_channels": 3 * k * k,
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "add_attention": False,
        **changes,
    }


def tiny_unet(k: int = 1, *, zero: bool = False, seed: int = 0, **changes: Any) -> UNet2DModel:
    """A network in eval mode. `zero`: it predicts eps = 0, so that the posterior mean is the noisy image itself."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DModel(**tiny_network(k, **changes))
    if zero:
        torch.nn.init.zeros_(unet.conv_out.weight)
        torch.nn.init.zeros_(unet.conv_out.bias)
    return unet.eval().requires_grad_(False)


class Reparametrised(torch.nn.Module):
    """A network of eps that tells v or x0 instead: the same knowledge in other words, at the schedule's own levels."""

    def __init__(self, unet: UNet2DModel, kind: Prediction, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.unet, self.kind, self.schedule = unet, kind, schedule

    @property
    def config(self) -> Any:
        return self.unet.config

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    def forward(self, x_t: torch.Tensor, timesteps: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        eps = self.unet(x_t, timesteps, return_dict=return_dict)[0]
        alpha_bar = torch.tensor([self.schedule.alpha_bar(t) for t in timesteps.tolist()]).view(-1, 1, 1, 1)
        x0 = (x_t - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()
        v = alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x0
        return ({"epsilon": eps, "v_prediction": v, "sample": x0}[self.kind],)


def tiny_model(
    folder: Path,
    k: int = 1,
    *,
    nested: bool = False,
    zero: bool = False,
    seed: int = 0,
    schedule: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Writes a model folder with diffusers' own save methods and returns it.

    `nested`: files lie under unet/ and scheduler/, as in a diffusers pipeline, instead of at the root. `schedule`:
    arguments of DDIMScheduler; `changes`: arguments of UNet2DModel.
    """
    unet = tiny_unet(k, zero=zero, seed=seed, **changes)
    unet.save_pretrained(folder / "unet" if nested else folder)
    DDIMScheduler(**(schedule or LINEAR)).save_pretrained(folder / "scheduler" if nested else folder)
    return folder


def refusal(folder: Path, named: Path | str) -> str:
    """The one-line error that refuses a folder, in the driver's checks or on loading; it must name `named`."""
    with pytest.raises(UserError) as error:
        network.load(model_files.find(str(folder)))
    line = str(error.value)
    assert line.startswith("model: ") and "\n" not in line and len(line) < 500 and str(named) in line
    return line


def pickle_weights(folder: Path) -> Path:
    """Replaces the folder's safetensors by a pickle, as in older models."""
    weights = next(folder.rglob(WEIGHTS))
    torch.save(load_file(weights), weights.with_name(PICKLED_WEIGHTS))
    weights.unlink()
    return folder
