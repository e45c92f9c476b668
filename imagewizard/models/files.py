"""The files of a model folder, checked without torch: for the driver, which never loads a model."""

import hashlib
import json
import struct
import zipfile
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

from imagewizard.diffusion.architecture import check_network
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.errors import UserError
from imagewizard.models import fetch
from imagewizard.models.fetch import PICKLED_WEIGHTS, SCHEDULER_CONFIG, UNET_CONFIG, WEIGHTS

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
    scheduler: Path

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
        if self.weights.is_file():
            with self.weights.open("rb") as weights:
                while chunk := weights.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()[:16]

    def check(self, max_sigma: float) -> None:
        """Raises UserError unless this is a denoiser for RGB images up to the noise level `max_sigma` (0-255 scale)."""
        check_network(read_json(self.config))
        NoiseSchedule.from_config(read_json(self.scheduler)).check(max_sigma)
        self._check_weights()

    def _check_weights(self) -> None:
        """Reads the header only. Of a pickle, in the ZIP archive of torch.save, nothing else may be read."""
        if self.weights.name == PICKLED_WEIGHTS:
            if not zipfile.is_zipfile(self.weights):
                raise UserError(f"{self.weights} is no whole file of torch.save", "copy it again", "model")
            return
        try:
            with self.weights.open("rb") as stream:
                safetensors_shapes(stream, self.weights.stat().st_size)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.weights} is no whole safetensors file ({error})", "copy it or save the model again", "model"
            ) from None


def embedded_folder() -> Path:
    """The folder of the model that ships inside the package."""
    return Path(str(resources.files("imagewizard.models"))) / "embedded"


def find(model: str) -> ModelFiles:
    """The files of `model` (`embedded`, a local or s3:// folder, a hub id) on this node, fetched if need be.

    Pickled weights only where there are no others. Raises UserError naming what is missing or cannot be fetched.
    """
    folder = embedded_folder() if model == "embedded" else fetch.local_folder(model)
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    scheduler = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    files = ModelFiles(unet / UNET_CONFIG, unet / WEIGHTS, scheduler / SCHEDULER_CONFIG)
    if not files.weights.is_file() and (unet / PICKLED_WEIGHTS).is_file():
        files = replace(files, weights=unet / PICKLED_WEIGHTS)
    needed = _needed(model, files) if files.config.is_file() else (WEIGHTS, SCHEDULER_CONFIG)
    for path in (files.weights, files.config, files.scheduler):
        if not path.is_file() and (path == files.config or path.name in needed):
            there = sorted(other.name for other in path.parent.glob("*") if other.is_file())
            raise UserError(
                f"{model} has no {path.relative_to(folder)} (found {', '.join(there[:5]) or 'nothing'})",
                "save network and scheduler with diffusers' save_pretrained",
                "model",
            )
    return files


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
