"""Draws the samples that samples.py defines on the training device."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imagewizard.config.train import TrainConfig
from imagewizard.diffusion import pixels
from imagewizard.diffusion.schedule import NoiseSchedule, alpha_bar_of_sigma
from imagewizard.noise import device as noise
from imagewizard.training.samples import LEVELS, NOISE, PLACE, levels, padded

# ITU-R 601-2 luma in 16 bits, as Pillow's convert("L").
_LUMA, _HALF = (19595, 38470, 7471), 0x8000


class Batch(NamedTuple):
    """Clean crops with their noise and levels, on one device."""

    clean: Tensor
    """float32 (N, 3, H, W), [-1, 1]."""
    eps: Tensor
    """Standard normal, float32 (N, 3, H, W)."""
    alpha_bar: Tensor
    """Signal fraction at each crop's level, float32 (N, 1, 1, 1)."""
    timesteps: Tensor
    """float32 (N,)."""


class DecodedImages:
    """Images in a device's memory, from which it cuts random crops."""

    def __init__(self, images: list[np.ndarray], keys: list[int], size: int, device: torch.device) -> None:
        """`images`: uint8 (H, W, 3) of any size; `keys`: their `samples.key`; `size`: side of the crops."""
        images = [padded(image, size) for image in images]
        areas = [image.shape[0] * image.shape[1] for image in images]
        self._size = size
        self._pixels = torch.from_numpy(np.concatenate([image.reshape(-1, 3) for image in images])).to(device)
        shapes = [image.shape[:2] for image in images]
        starts = np.cumsum([0, *areas[:-1]])
        self._layout = torch.tensor([(*shape, start) for shape, start in zip(shapes, starts, strict=True)]).to(device)
        self._keys = noise.key_tensor(keys).to(device)
        self._turns = _turns(size).to(device)
        self._at = torch.arange(size, device=device)
        self._counters = noise.counters(1, device)

    def __call__(self, indices: Tensor, epochs: Tensor) -> tuple[Tensor, Tensor]:
        """The crops that `samples.crop` cuts, uint8 (N, size, size, 3), and their keys, int64 (N, 2).

        `indices` of the images, and `epochs`: int64 (N,).
        """
        keys, layout = self._keys[indices], self._layout[indices]
        words = noise.words(keys, epochs, PLACE, self._counters)
        room = layout[:, :2] - self._size + 1
        corner = (noise.halves(words[:, :1]) * room) >> 32
        # The patch's row = r0 + ri*i + rj*j, its column likewise; (i, j) is the position in the crop.
        turns = self._turns[words[:, 1] & 7]
        row, column = (
            turns[:, axis, 0, None, None]
            + turns[:, axis, 1, None, None] * self._at[None, :, None]
            + turns[:, axis, 2, None, None] * self._at[None, None, :]
            + corner[:, axis, None, None]
            for axis in range(2)
        )
        return self._pixels[layout[:, 2, None, None] + row * layout[:, 1, None, None] + column], keys


def _turns(size: int) -> Tensor:
    """int64 (8, 2, 3): maps positions of the turned crop to the patch; first index: quarter turns + 4 * flip."""
    ends = np.array([[0, 0], [0, size - 1], [size - 1, 0]])
    numbers = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1)
    table = []
    for flip in (False, True):
        for turn in range(4):
            turned = np.rot90(numbers, k=turn)
            turned = turned[:, ::-1] if flip else turned
            origin, right, down = (turned[tuple(end)] for end in ends)
            table.append(np.stack([origin, (down - origin) // (size - 1), (right - origin) // (size - 1)], axis=-1))
    return torch.from_numpy(np.stack(table))


class Sampler:
    """Adds noise to crops, on their device."""

    def __init__(self, config: TrainConfig, schedule: NoiseSchedule, device: torch.device) -> None:
        sigmas = levels(config.sigma, schedule if config.draw == "timestep" else None)
        self._alpha_bar = _float32([alpha_bar_of_sigma(s) for s in sigmas]).to(device)
        self._timesteps = _float32([schedule.timestep(s) for s in sigmas]).to(device)
        self._grey = round(config.data.grey * 2**32)
        self._table = noise.table(device)
        self._place = noise.counters(1, device)
        self._noise = noise.counters(-(-(config.data.crop**2) * 3 // 2), device)

    def __call__(self, clean: Tensor, keys: Tensor, epochs: Tensor) -> Batch:
        """Makes a batch of crops (uint8 (N, H, W, 3)) from their keys (int64 (N, 2)) and epochs (int64 (N,)).

        A share `data.grey` of the crops becomes grey, with the same noise in all three channels.
        """
        count, height, width, _ = clean.shape
        words = noise.words(keys, epochs, PLACE, self._place)
        drawn = noise.halves(words[:, 1:3])  # the lowest bits of the first half turn the crop
        level = (drawn[:, 2] * LEVELS) >> 32
        eps = noise.standard_normal(noise.words(keys, epochs, NOISE, self._noise), self._table)
        eps = eps[:, : height * width * 3].view(count, height, width, 3)
        if self._grey:
            grey = (drawn[:, 1] < self._grey)[:, None, None, None]
            red, green, blue = (factor * clean[..., i : i + 1].int() for i, factor in enumerate(_LUMA))
            luma = (red + green + blue + _HALF) >> 16
            clean = torch.where(grey, luma.to(torch.uint8), clean)
            eps = torch.where(grey, eps[..., :1], eps)
        return Batch(
            pixels.from_bytes(clean),
            eps.permute(0, 3, 1, 2),
            self._alpha_bar[level].view(-1, 1, 1, 1),
            self._timesteps[level],
        )


def _float32(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
