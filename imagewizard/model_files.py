"""Where a model's files lie, checked as far as that goes without torch: for the driver, which never loads a model."""

import hashlib
import json
import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from imagewizard.errors import UserError
from imagewizard.schedule import NoiseSchedule

WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET_CONFIG = "config.json"
SCHEDULER_CONFIG = "scheduler_config.json"

# 3*k*k channels in and out: RGB, or RGB pixel-unshuffled by k.
CHANNELS = [3 * k * k for k in (1, 2, 3, 4, 8)]


@dataclass(frozen=True)
class ModelFiles:
    """The three files of a local model folder in diffusers' layout: at its root, or under unet/ and scheduler/."""

    config: Path
    weights: Path
    scheduler: Path

    @property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over weights and both configs: what a result depends on, wherever the files lie."""
        digest = hashlib.sha256()
        for path in (self.config, self.scheduler):
            digest.update(json.dumps(arguments(read_json(path)), sort_keys=True).encode())
        with self.weights.open("rb") as weights:
            while chunk := weights.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()[:16]

    def check(self, max_sigma: float) -> None:
        """Raises UserError unless this is a denoiser for RGB images up to the noise level `max_sigma` (0-255 scale)."""
        check_network(read_json(self.config))
        schedule = NoiseSchedule.from_config(read_json(self.scheduler))
        if max_sigma > schedule.max_sigma:
            raise UserError(
                f"sigma: {max_sigma:g} is beyond the model's schedule, which ends at {schedule.max_sigma:.0f}"
            )
        self._check_weights()

    def _check_weights(self) -> None:
        """Reads the safetensors header: its length in 8 bytes, then JSON that says where each tensor's bytes end."""
        try:
            with self.weights.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(min(length, 100 << 20)))
            end = 8 + length + max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")
        except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"model: {self.weights} is no safetensors file; save the model again") from None
        if end != self.weights.stat().st_size:
            raise UserError(
                f"model: {self.weights} is {self.weights.stat().st_size} bytes, its header says {end}; copy it again"
            )


def embedded_folder() -> Path:
    """The folder of the model that ships inside the package."""
    return Path(str(resources.files("imagewizard"))) / "models" / "embedded"


def find(model: str) -> ModelFiles:
    """The files of `model`: `embedded`, or a local folder. Raises UserError naming what is missing."""
    folder = embedded_folder() if model == "embedded" else Path(model).expanduser()
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


def check_network(config: dict[str, Any]) -> None:
    """Raises UserError unless a UNet2DModel's config is an unconditional DDPM's that maps 3*k*k channels to as many."""
    channels = config.get("in_channels", 3), config.get("out_channels", 3)
    if channels[0] != channels[1] or channels[0] not in CHANNELS:
        raise UserError(
            f"model: it maps {channels[0]} to {channels[1]} channels; RGB needs 3*k*k to 3*k*k (3, 12, 27, 48 or 192)"
        )
    # A score network's: it divides its output by what a DDPM takes for a timestep.
    if config.get("time_embedding_type") == "fourier":
        raise UserError("model: time_embedding_type is fourier; a DDPM has positional or learned")
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        raise UserError("model: it wants class labels; only unconditional networks can be used")


def arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Without diffusers' notes to itself (`_diffusers_version`, `_name_or_path`, …), on which no result depends."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def read_json(path: Path) -> dict[str, Any]:
    """Raises UserError unless the file holds a JSON object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"model: {path} is no readable JSON ({error})") from None
    if not isinstance(data, dict):
        raise UserError(f"model: {path} holds no JSON object")
    return data
