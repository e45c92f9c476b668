"""`python -m imagewizard.training.level_finder PHOTOS OUTPUT [--steps N] [--start FILE]`: trains the level finder.

PHOTOS is a folder of clean photographs. OUTPUT is the weights file, which imagewizard/noise/ holds under the name
level_finder.safetensors.
"""

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imagewizard import seeding
from imagewizard.images.formats import is_image_name
from imagewizard.noise.finder import CELL, FLOOR, LevelFinder, cell_share, varied
from imagewizard.training import level_samples
from imagewizard.training.image_store import ImageStore

# Sides of the pieces in a batch: what a finder learns on large ones alone it does not know of small images.
SIDES = (32, 64, 96, 96, 128)
BATCH = 24
RATE = 1.5e-3
WARMUP = 100
AVERAGED = 0.998
# The error of the whole piece counts as much as that of so many cells.
WHOLE = 10.0
# Noise that stays is worse than detail that goes: half the level costs a denoiser more than one and a half.
TOO_LOW = 3.0


class Samples(Dataset[tuple[np.ndarray, np.ndarray, np.ndarray]]):
    """Sample `i` is a function of (seed, i) alone."""

    def __init__(self, images: list[np.ndarray], count: int, seed: int) -> None:
        self._images, self._count, self._seed = images, count, seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        generator = seeding.generator(self._seed, index, "level")
        side = SIDES[index // BATCH % len(SIDES)]
        noisy, std, level = level_samples.draw(self._images, generator, side, CELL)
        return noisy.transpose(2, 0, 1), std, level


def loss(finder: LevelFinder, noisy: Tensor, std: Tensor, level: Tensor) -> Tensor:
    """Negative log-likelihood of the cells' logarithms as normal variables, plus the squared error of the pooled ones.

    `noisy`: (N, 3, side, side), 0-255 scale; `std` and `level`: the truth of each cell.
    """
    found, share = finder(noisy), cell_share(varied(noisy))
    errors = found._replace(std=found.std - torch.log(std + FLOOR), level=found.level - torch.log(level + FLOOR))
    squares = errors.std.square() + errors.level.square()
    likelihood = 0.5 * squares * torch.exp(-2.0 * found.doubt) + 2.0 * found.doubt
    cells = (share * likelihood).sum() / share.sum()
    # Pieces that hardly vary tell nothing.
    tells = share.sum((1, 2)) > 4.0
    whole = errors.pooled(share)
    std_error, level_error = whole.std[tells], whole.level[tells]
    costs = torch.where(level_error < 0, TOO_LOW, 1.0)
    return cells + WHOLE * (std_error.square().mean() + (costs * level_error.square()).mean())


def train(images: list[np.ndarray], finder: LevelFinder, steps: int, seed: int, output: Path) -> None:
    """Makes `steps` updates of AdamW with a warm-up and a cosine decay; writes the averaged weights now and then."""
    finder.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(finder.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARMUP, 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    averaged = torch.optim.swa_utils.AveragedModel(
        finder, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGED)
    )
    started, losses = time.perf_counter(), []
    samples = Samples(images, steps * BATCH, seed)
    for step, batch in enumerate(DataLoader(samples, BATCH, num_workers=os.cpu_count() or 1), 1):
        value = loss(finder, *(part.contiguous(memory_format=_format(part)) for part in batch))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(finder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(finder)
        losses.append(value.item())
        if step % 100 == 0 or step == steps:
            print(f"step {step}  loss {np.mean(losses):.3f}  {time.perf_counter() - started:.0f} s", flush=True)
            losses = []
        if step % 500 == 0 or step == steps:
            weights = averaged.module.state_dict()
            save_file({name: weight.half().contiguous() for name, weight in weights.items()}, output)


def _format(part: Tensor) -> torch.memory_format:
    return torch.channels_last if part.ndim == 4 else torch.contiguous_format


def main() -> None:
    """Trains as the words of the command line say."""
    parser = argparse.ArgumentParser(prog="python -m imagewizard.training.level_finder")
    parser.add_argument("photos", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    store = ImageStore()
    paths = sorted(path for path in words.photos.rglob("*") if is_image_name(path.name))
    if not paths:
        parser.error(f"{words.photos} holds no images; give a folder of clean photographs")
    images = [store.load(str(path)) for path in paths]
    torch.manual_seed(words.seed)
    finder = LevelFinder()
    if words.start:
        finder.load_state_dict({name: weight.float() for name, weight in load_file(words.start).items()})
    train(images, finder, words.steps, words.seed, words.output)


if __name__ == "__main__":
    main()
