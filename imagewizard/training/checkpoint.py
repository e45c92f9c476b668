"""A trainer's state as files: weights, their average and the optimizer's moments as safetensors, the rest as JSON."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from imagewizard.errors import UserError
from imagewizard.training.trainer import Trainer

TENSORS = "state.safetensors"
NUMBERS = "state.json"
_MOMENTS = ("exp_avg", "exp_avg_sq")


def save(trainer: Trainer, folder: Path) -> None:
    """Writes the state into `folder`. All else that a step depends on is drawn from (seed, epoch, image id, step)."""
    parameters = dict(trainer.unet.named_parameters())
    tensors = {f"unet.{name}": parameter.detach() for name, parameter in parameters.items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in trainer.ema.items()}
    for name, parameter in parameters.items():
        moments = trainer.optimizer.state[parameter]
        tensors |= {f"{key}.{name}": moments[key] for key in _MOMENTS if key in moments}
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
    numbers = {"step": trainer.step, "smoothed_loss": trainer.smoothed_loss, "least_loss": trainer.least_loss}
    (folder / NUMBERS).write_text(json.dumps(numbers))


def load(trainer: Trainer, folder: Path, name: str) -> None:
    """Puts the state of `folder` into a new trainer. Raises UserError, by `name`, if it is broken or another network's.

    Read to the CPU first: a GPU that trains has no room for everything twice.
    """
    try:
        tensors = load_file(folder / TENSORS)
        numbers = json.loads((folder / NUMBERS).read_text())
        trainer.step = int(numbers["step"])
        trainer.smoothed_loss, trainer.least_loss = float(numbers["smoothed_loss"]), float(numbers["least_loss"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name}: cannot be read ({reason}); bring it back, or start anew in another output") from None
    parameters = dict(trainer.unet.named_parameters())
    expected = {f"{kind}.{key}": p.shape for kind in ("unet", "ema", *_MOMENTS) for key, p in parameters.items()}
    if {key: tensor.shape for key, tensor in tensors.items()} != expected:
        raise UserError(f"{name}: holds another architecture than model or network says; give another output")
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(tensors[f"unet.{key}"])
            trainer.ema[key].copy_(tensors[f"ema.{key}"])
            trainer.optimizer.state[parameter] = {
                "step": torch.tensor(float(trainer.step)),
                # Strided as the parameter, or the optimizer takes the slow way from here on.
                **{kind: torch.empty_like(parameter).copy_(tensors[f"{kind}.{key}"]) for kind in _MOMENTS},
            }


def averaged_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of a checkpoint, float32, by parameter name."""
    tensors = load_file(folder / TENSORS)
    return {key.removeprefix("ema."): tensor for key, tensor in tensors.items() if key.startswith("ema.")}
