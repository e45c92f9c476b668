"""The files of a model folder, checked without torch: for the driver, which never loads a model."""

import hashlib
import json
import struct
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

from imagewizard.diffusion.architecture import check_network, takes_fractional_timesteps
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.errors import UserError
from imagewizard.models import fetch
from imagewizard.models import weights as model_weights
from imagewizard.models.fetch import PIPELINE, SCHEDULER, SCHEDULER_CONFIG, UNET, UNET_CONFIG
from imagewizard.models.weights import WEIGHTS

_COPY = "copy it or save the model again"
# The files that a model of a class has beside its config. What is done with them: restorers.KINDS.
NEEDED = {"UNet2DModel": (WEIGHTS, SCHEDULER_CONFIG)}


@dataclass(frozen=True)
class ModelFiles:
    """The files of a local model folder in diffusers' layout: at its root, or under unet/ and scheduler/.

    Those that its class does not need may be missing.
    """

    config: Path
    weights: Path
    """One file, or the index of several."""
    scheduler: Path

    @property
    def weight_files(self) -> list[Path]:
        """The files with tensors. Raises UserError if the index that names them is broken."""
        if model_weights.is_index(self.weights):
            return model_weights.parts(self.weights, read_json(self.weights))
        return [self.weights]

    @property
    def class_name(self) -> str:
        """The class that the config is of."""
        return str(read_json(self.config).get("_class_name", "UNet2DModel"))

    @property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over weights and both configs: what a result depends on, wherever the files lie."""
        digest = hashlib.sha256()
        for path in (self.config, self.scheduler):
            if path.is_file():
                digest.update(json.dumps(arguments(read_json(path)), sort_keys=True).encode())
        for path in self.weight_files if self.weights.is_file() else ():
            with path.open("rb") as weights:
                while chunk := weights.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()[:16]

    def check(self, max_sigma: float) -> None:
        """Raises UserError unless this is a denoiser for RGB images up to the noise level `max_sigma` (0-255 scale)."""
        config = read_json(self.config)
        check_network(config)
        schedule = NoiseSchedule.from_config(read_json(self.scheduler))
        schedule.check(max_sigma)
        known, needed = config.get("num_train_timesteps"), len(schedule.alphas_cumprod)
        if not takes_fractional_timesteps(config) and isinstance(known, int) and known < needed:
            what = f"it has learned {known} timesteps, and its schedule has {needed}"
            raise UserError(what, "give the scheduler_config.json that it was trained with", "model")
        self._check_weights()

    def _check_weights(self) -> None:
        """Reads the header only. Of a pickle, in the ZIP archive of torch.save, nothing else may be read."""
        for path in self.weight_files:
            if path.suffix == ".bin":
                if not zipfile.is_zipfile(path):
                    raise UserError(f"{path} is no whole file of torch.save", "copy it again", "model")
                continue
            try:
                with path.open("rb") as stream:
                    safetensors_shapes(stream, path.stat().st_size)
            except (OSError, ValueError) as error:
                raise UserError(f"{path} is no whole safetensors file ({error})", _COPY, "model") from None


def embedded_folder() -> Path:
    """The folder of the model that ships inside the package."""
    return Path(str(resources.files("imagewizard.models"))) / "embedded"


def find(model: str) -> ModelFiles:
    """The files of `model` (`embedded`, a local or s3:// folder, a hub id) on this node, fetched if need be.

    Raises UserError naming what is missing or cannot be fetched.
    """
    folder = embedded_folder() if model == "embedded" else fetch.local_folder(model)
    unet = folder / UNET if (folder / UNET).is_dir() else folder
    scheduler = folder / SCHEDULER if (folder / SCHEDULER).is_dir() else folder
    _check_pipeline(model, folder / PIPELINE)
    chosen = model_weights.choose([path.name for path in unet.glob("*") if path.is_file()])
    files = ModelFiles(unet / UNET_CONFIG, unet / (chosen or WEIGHTS), scheduler / SCHEDULER_CONFIG)
    needed = _needed(model, files) if files.config.is_file() else (WEIGHTS, SCHEDULER_CONFIG)
    wanted = [
        files.config,
        *([files.weights] if WEIGHTS in needed else []),
        *([files.scheduler] if SCHEDULER_CONFIG in needed else []),
    ]
    if files.weights.is_file() and WEIGHTS in needed:
        wanted += files.weight_files
    for path in wanted:
        if not path.is_file():
            there = sorted(other.name for other in path.parent.glob("*") if other.is_file())
            raise UserError(
                f"{model} has no {path.relative_to(folder)} (found {', '.join(there[:5]) or 'nothing'})",
                "save network and scheduler with diffusers' save_pretrained",
                "model",
            )
    return files


def _check_pipeline(model: str, index: Path) -> None:
    """Raises UserError if the pipeline that `index` describes codes images before its network sees them."""
    if index.is_file():
        parts = read_json(index)
        for name in ("vae", "vqvae", "movq"):
            if isinstance(found := parts.get(name), list) and found[-1]:
                what = f"{model} is a {parts.get('_class_name')} with a {name} ({found[-1]})"
                raise UserError(what, "give a network that works on images, not on their code", "model")


def _needed(model: str, files: ModelFiles) -> tuple[str, ...]:
    if files.class_name not in NEEDED:
        raise UserError(
            f"{model} holds a {files.class_name}, which nothing here restores with",
            f"give a folder of one of {', '.join(NEEDED)}",
            "model",
        )
    return NEEDED[files.class_name]


def safetensors_shapes(stream: BinaryIO, size: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file of `size` bytes. Raises ValueError unless it is whole.

    Reads the header only: its length in 8 bytes, then JSON that says where each tensor's bytes lie behind it.
    """
    prefix = stream.read(8)
    if len(prefix) < 8 or (length := struct.unpack("<Q", prefix)[0]) > size:
        raise ValueError("it has no header")
    try:
        header = json.loads(stream.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 8 + length + max(entry["data_offsets"][1] for entry in tensors.values())
        shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("its header is broken") from None
    if end != size:
        raise ValueError(f"it is {size} bytes, its header says {end}")
    return shapes


def arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Without diffusers' notes (`_diffusers_version`, `_name_or_path`, …), on which no result depends."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def read_json(path: Path) -> dict[str, Any]:
    """Raises UserError unless the file holds a JSON object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no readable JSON ({error})", _COPY, "model") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no JSON object", _COPY, "model")
    return data
