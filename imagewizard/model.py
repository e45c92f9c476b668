"""Model folders in diffusers' layout: a UNet2DModel's config and safetensors weights, and its scheduler's config."""

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from imagewizard.errors import UserError
from imagewizard.schedule import NoiseSchedule

WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET_CONFIG = "config.json"
SCHEDULER_CONFIG = "scheduler_config.json"


@dataclass(frozen=True)
class ModelFiles:
    """Where the three files of a local model folder lie: at its root, or under unet/ and scheduler/."""

    config: Path
    weights: Path
    scheduler: Path

    @property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over weights and both configs: what a result depends on, wherever the files lie."""
        digest = hashlib.sha256()
        for path in (self.config, self.scheduler):
            digest.update(json.dumps(_read_json(path), sort_keys=True).encode())
        with self.weights.open("rb") as weights:
            while chunk := weights.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()[:16]


def embedded_folder() -> Path:
    """The folder of the model that ships inside the package."""
    return Path(str(resources.files("imagewizard"))) / "models" / "embedded"


def find_files(folder: Path) -> ModelFiles:
    """The model's files below a local `folder`. Raises UserError naming what is missing."""
    if not folder.is_dir():
        raise UserError(f"model: {folder} is no folder; give `embedded` or a folder in diffusers' layout")
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    scheduler = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    files = ModelFiles(unet / UNET_CONFIG, unet / WEIGHTS, scheduler / SCHEDULER_CONFIG)
    if not files.weights.is_file():
        others = sorted(p.name for p in unet.glob("*") if p.suffix in {".bin", ".pt", ".pth", ".ckpt", ".safetensors"})
        found = f" (found {', '.join(others)})" if others else ""
        raise UserError(f"model: {unet} has no {WEIGHTS}{found}; save it with UNet2DModel.save_pretrained")
    for path in (files.config, files.scheduler):
        if not path.is_file():
            raise UserError(f"model: {path} is missing; a model folder holds {UNET_CONFIG} and {SCHEDULER_CONFIG}")
    return files


def load(files: ModelFiles) -> tuple[UNet2DModel, NoiseSchedule]:
    """The network (float32, on the CPU, in eval mode) and its schedule. Raises UserError if they cannot be used."""
    schedule = NoiseSchedule.from_config(_read_json(files.scheduler))
    unet = build_unet(_read_json(files.config))
    try:
        weights = load_file(files.weights)
    except (SafetensorError, OSError) as error:
        raise UserError(f"model: {files.weights} is no readable safetensors file ({error})") from None
    try:
        unet.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except RuntimeError as error:
        reason = str(error).split("\n")[1].strip()
        raise UserError(f"model: {files.weights} does not fit {files.config.name} beside it: {reason}") from None
    return unet.eval().requires_grad_(False), schedule


def build_unet(config: dict[str, Any]) -> UNet2DModel:
    """A network with random weights. Raises UserError unless it maps 3*k*k channels to as many."""
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    try:
        unet = UNet2DModel(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"model: UNet2DModel refuses its config: {error}") from None
    channels = unet.config.in_channels
    if channels != unet.config.out_channels or channels not in {3 * k * k for k in (1, 2, 3, 4, 8)}:
        raise UserError(
            f"model: it maps {channels} to {unet.config.out_channels} channels; RGB needs 3*k*k to 3*k*k (3, 12, 27, …)"
        )
    return unet


def save(unet: UNet2DModel, weights: dict[str, torch.Tensor], schedule: dict[str, Any], folder: Path) -> None:
    """Writes `weights` in float16, with both configs, so that UNet2DModel.from_pretrained(folder) reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    unet.save_config(folder)
    DDIMScheduler(**schedule).save_config(folder)
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in weights.items()}
    save_file(half, folder / WEIGHTS, metadata={"format": "pt"})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"model: {path} is no readable JSON ({error})") from None
    return dict(data)
