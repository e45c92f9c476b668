"""The network of a model folder: built, loaded, saved. What does not need torch is in `model_files`."""

import textwrap
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from imagewizard.errors import UserError
from imagewizard.model_files import WEIGHTS, ModelFiles, arguments, check_network, read_json
from imagewizard.schedule import NoiseSchedule


def load(files: ModelFiles) -> tuple[UNet2DModel, NoiseSchedule]:
    """The network (float32, on the CPU, in eval mode) and its schedule. Raises UserError if they cannot be used."""
    schedule = NoiseSchedule.from_config(read_json(files.scheduler))
    unet = build_unet(read_json(files.config))
    try:
        weights = load_file(files.weights)
    except (SafetensorError, OSError) as error:
        raise UserError(f"model: {files.weights} is no readable safetensors file ({error})") from None
    # Strict loading overlooks what lies below a module that is None, as attention that the config leaves out.
    if unknown := sorted(weights.keys() - unet.state_dict().keys()):
        raise UserError(f"model: {files.weights} does not fit {files.config}, which has no {unknown[0]}")
    try:
        unet.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except RuntimeError as error:
        reason = textwrap.shorten(str(error).split("\n")[1], 200)  # may name a thousand parameters
        raise UserError(f"model: {files.weights} does not fit {files.config}: {reason}") from None
    return unet.eval().requires_grad_(False), schedule


def build_unet(config: dict[str, Any]) -> UNet2DModel:
    """A network with random weights. Raises UserError if diffusers or `check_network` refuses it."""
    check_network(config)
    try:
        return UNet2DModel(**arguments(config))
    except Exception as error:  # what the constructor raises for a value that it does not foresee is anybody's guess
        reason = textwrap.shorten(str(error), 200)
        raise UserError(f"model: UNet2DModel refuses its config: {reason}") from None


def save(unet: UNet2DModel, weights: dict[str, torch.Tensor], schedule: dict[str, Any], folder: Path) -> None:
    """Writes `weights` in float16, with both configs, so that UNet2DModel.from_pretrained(folder) reads them.

    `schedule`: arguments of DDIMScheduler.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unet.save_config(folder)
    DDIMScheduler(**schedule).save_config(folder)
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in weights.items()}
    save_file(half, folder / WEIGHTS, metadata={"format": "pt"})
