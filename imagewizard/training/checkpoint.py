"""Saves and loads a trainer's state: weights, averages and optimizer moments as safetensors, the rest as JSON."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from pyarrow import fs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from imagewizard import storage
from imagewizard.errors import UserError, one_line
from imagewizard.tracking import checkpoints
from imagewizard.tracking.checkpoints import NUMBERS, TENSORS, Checkpoint
from imagewizard.training.trainer import Trainer
from imagewizard.training.worker import Worker

_MOMENTS = ("exp_avg", "exp_avg_sq")


def save(trainer: Trainer, run: str, psnr: float, facts: dict[str, Any]) -> str:
    """Adds a checkpoint to a run and returns its name. `psnr`, `facts`: as in `checkpoints.Checkpoint`."""
    name = checkpoints.folder_name(trainer.step)
    with tempfile.TemporaryDirectory(prefix="imagewizard-") as scratch:
        write(trainer, Path(scratch), psnr, facts)
        filesystem, path = storage.resolve(checkpoints.folder_of(run).uri_of(name))
        filesystem.create_dir(path)
        for file in (TENSORS, NUMBERS):  # in this order: the second completes the checkpoint
            fs.copy_files(f"{scratch}/{file}", f"{path}/{file}", fs.LocalFileSystem(), filesystem)
            if isinstance(filesystem, fs.LocalFileSystem):
                with Path(path, file).open("rb") as stream:
                    os.fsync(stream.fileno())  # a power cut must not leave the second without the first
    return name


def write(trainer: Trainer, folder: Path, psnr: float, facts: dict[str, Any]) -> None:
    """Writes the state into a local folder. (seed, epoch, image id, step) determine everything else in a step."""
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors_of(trainer).items()}, folder / TENSORS)
    with (folder / TENSORS).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    numbers = {
        "step": trainer.step,
        "rate_factor": trainer.rate_factor,
        "smoothed_loss": float(trainer.watch.smoothed),
        "least_loss": float(trainer.watch.least),
        "psnr": psnr,
        "facts": facts,
        "sha256": digest,
    }
    (folder / NUMBERS).write_text(json.dumps(numbers))


def tensors_of(trainer: Trainer) -> dict[str, Tensor]:
    """The tensors of the state, not copied, on the trainer's device. Before the first step there are no moments."""
    parameters = dict(trainer.unet.named_parameters())
    tensors = {f"unet.{name}": parameter.detach() for name, parameter in parameters.items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in trainer.ema.items()}
    for name, parameter in parameters.items():
        moments = trainer.optimizer.state.get(parameter, {})
        tensors |= {f"{key}.{name}": moments[key] for key in _MOMENTS if key in moments}
    return tensors


@torch.no_grad()
def put_back(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    """Copies `tensors_of` into a trainer of the same network; they may be on another device."""
    for name, parameter in trainer.unet.named_parameters():
        parameter.copy_(tensors[f"unet.{name}"])
        trainer.ema[name].copy_(tensors[f"ema.{name}"])
        trainer.optimizer.state.pop(parameter, None)
        if f"{_MOMENTS[0]}.{name}" in tensors:
            trainer.optimizer.state[parameter] = {
                "step": torch.tensor(float(trainer.step), device=parameter.device),
                # With the strides of the parameter, or else the optimizer takes a slow path from here on.
                **{kind: torch.empty_like(parameter).copy_(tensors[f"{kind}.{name}"]) for kind in _MOMENTS},
            }


def newest(run: str, worker: Worker) -> Checkpoint | None:
    """The checkpoint that is the newest to the first worker, on every worker; a collective call.

    Raises FileNotFoundError on a worker that does not see it: another node's view of a shared disk may lag behind.
    """
    kept = {found.step: found for found in checkpoints.kept(run)}
    step = int(worker.from_first(max(kept, default=0)))
    if step and step not in kept:
        raise FileNotFoundError(f"worker {worker.rank} does not see {checkpoints.folder_name(step)} of {run}")
    return kept.get(step)


def resume(trainer: Trainer, run: str, name: str) -> None:
    """Loads the checkpoint `name` of a run into a new trainer. Raises UserError as `load` does."""
    filesystem, path = storage.resolve(checkpoints.folder_of(run).uri_of(name))
    with tempfile.TemporaryDirectory(prefix="imagewizard-") as scratch:
        fs.copy_files(path, scratch, source_filesystem=filesystem)
        load(trainer, Path(scratch), checkpoints.folder_of(run).uri_of(name))


def load(trainer: Trainer, folder: Path, name: str) -> None:
    """Loads the state in `folder` into a new trainer. Raises UserError, with key `name`, if it is broken or belongs to
    another network.

    Tensors are read to the CPU first, because a training GPU has no room for two copies.
    """
    try:
        tensors = load_file(folder / TENSORS)
        numbers = json.loads((folder / NUMBERS).read_text())
        trainer.step = int(numbers["step"])
        trainer.rate_factor = float(numbers.get("rate_factor", 1.0))  # checkpoints of earlier versions have none
        trainer.watch.smoothed.fill_(float(numbers["smoothed_loss"]))
        trainer.watch.least.fill_(float(numbers["least_loss"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot be read ({one_line(error)})", "restore it, or start again in another output", name
        ) from None
    parameters = dict(trainer.unet.named_parameters())
    expected = {f"{kind}.{key}": p.shape for kind in ("unet", "ema", *_MOMENTS) for key, p in parameters.items()}
    if {key: tensor.shape for key, tensor in tensors.items()} != expected:
        raise UserError("holds another architecture than model or network", "give another output", name)
    put_back(trainer, tensors)
