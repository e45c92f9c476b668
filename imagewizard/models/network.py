"""The network of a model folder: built, loaded, saved. What does not need torch is in files.py."""

import re
import textwrap
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from imagewizard.diffusion.architecture import check_network, size_multiple
from imagewizard.diffusion.sampling import predict
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.errors import UserError
from imagewizard.models.files import ModelFiles, arguments, read_json
from imagewizard.models.weights import WEIGHTS

# What diffusers called attention's parameters when the DDPM authors' models were published (before 0.15), and since.
_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_ATTENTION = re.compile(r"(?<=\.)(query|key|value|proj_attn)(?=\.(weight|bias)$)")

_FIT = "give the config that the weights were saved with"


def load(files: ModelFiles) -> tuple[UNet2DModel, NoiseSchedule]:
    """The network (float32, on the CPU, in eval mode) and its schedule. Raises UserError if they cannot be used."""
    schedule = NoiseSchedule.from_config(read_json(files.scheduler))
    unet = build_unet(read_json(files.config))
    weights = {name: tensor for path in files.weight_files for name, tensor in _read_weights(path).items()}
    # Strict loading overlooks what lies below a module that is None, as attention that the config leaves out.
    if unknown := sorted(weights.keys() - unet.state_dict().keys()):
        raise UserError(f"{files.weights} does not fit {files.config}, which has no {unknown[0]}", _FIT, "model")
    try:
        unet.load_state_dict(weights)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error).split("\n")[1], 200)  # may name a thousand parameters
        raise UserError(f"{files.weights} does not fit {files.config}: {reason}", _FIT, "model") from None
    return unet.eval().requires_grad_(False), schedule


def _read_weights(path: Path) -> dict[str, Tensor]:
    """float32 tensors by today's names. Raises UserError if the file is broken, or a pickle of more than tensors."""
    try:
        # weights_only: what a pickle would run on loading is refused.
        is_pickle = path.suffix == ".bin"
        weights = torch.load(path, map_location="cpu", weights_only=True) if is_pickle else load_file(path)
        return {
            _OLD_ATTENTION.sub(lambda old: _ATTENTION_NAMES[old[0]], name): w.float() for name, w in weights.items()
        }
    except Exception as error:  # a broken file makes torch.load raise exceptions of all kinds
        reason = textwrap.shorten(str(error), 150)
        raise UserError(f"{path} is no readable weights file ({reason})", "copy it again", "model") from None


def build_unet(config: dict[str, Any]) -> UNet2DModel:
    """A network with random weights. Raises UserError if diffusers or `check_network` refuses it."""
    check_network(config)
    try:
        return UNet2DModel(**arguments(config))
    except Exception as error:  # the constructor does not check its values: it may raise anything
        reason = textwrap.shorten(str(error), 200)
        raise UserError(f"UNet2DModel refuses its config: {reason}", "correct config.json", "model") from None


def gflop_per_megapixel(unet: UNet2DModel) -> float:
    """Cost of one forward, in 10^9 floating-point operations for 10^6 RGB pixels; a multiply-add counts as two.

    Counted on about 256 x 256 pixels: attention over the whole image costs more per pixel in a larger image.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton, which an actor does without

    multiple = size_multiple(unet.config)
    side = -(-256 // multiple) * multiple
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:  # meta: shapes, no numbers
        predict(build_unet(dict(unet.config)), torch.zeros(1, 3, side, side), torch.zeros(1))
    return counter.get_total_flops() / 1e9 / (side * side / 1e6)


def save(unet: UNet2DModel, weights: dict[str, Tensor], schedule: dict[str, Any], folder: Path) -> None:
    """Writes `weights` in float16, with both configs, so that UNet2DModel.from_pretrained(folder) reads them.

    Half the bytes of float32, and less than 0.001 dB of PSNR (the embedded model on kodim01 at sigma = 15, 25, 50).
    `schedule`: the config of any DDPM's scheduler.
    """
    from diffusers import DDIMScheduler  # needed for this alone

    folder.mkdir(parents=True, exist_ok=True)
    unet.save_config(folder)
    # Unlike the constructor it takes other schedulers' fields, such as `variance_type`.
    DDIMScheduler.from_config(arguments(schedule)).save_config(folder)
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in weights.items()}
    save_file(half, folder / WEIGHTS, metadata={"format": "pt"})
