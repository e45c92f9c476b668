"""Draws the samples that samples.py defines on the training device."""

from collections.abc import Sequence
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
    """Noise divided by its level, float32 (N, 3, H, W); standard normal if it is white."""
    alpha_bar: Tensor
    """Signal fraction at each crop's level, float32 (N, 1, 1, 1)."""
    timesteps: Tensor
    """float32 (N,)."""


class Crops(NamedTuple):
    """Crops before their noise, on one device."""

    clean: Tensor
    """uint8 (N, H, W, 3)."""
    keys: Tensor
    """`samples.key` of their images, int64 (N, 2)."""
    epochs: Tensor
    """int64 (N,)."""
    noisy: Tensor | None = None
    """The same crops of noisy versions, uint8 (N, H, W, 3); None if all crops get white noise."""
    levels: Tensor | None = None
    """Levels of these versions, in colour and in grey: `Sampler.level_numbers`, -1 for a crop with white noise."""


class Noisy(NamedTuple):
    """The noisy versions of an image."""

    pixels: Sequence[np.ndarray]
    """uint8, each of the image's shape."""
    levels: Tensor
    """Their `Sampler.level_numbers`."""
    share: float
    """Share of the image's crops that take one of them."""


class DecodedImages:
    """Images in a device's memory, from which it cuts random crops."""

    def __init__(
        self,
        images: Sequence[np.ndarray],
        keys: list[int],
        size: int,
        device: torch.device,
        noisy: Sequence[Noisy] = (),
    ) -> None:
        """`images`: uint8 (H, W, 3) of any size; `keys`: their `samples.key`; `size`: side of the crops.

        `noisy`: of each image; none if all crops get white noise.
        """
        # Each image lies before its own noisy versions.
        planes = [[image, *(noisy[i].pixels if noisy else ())] for i, image in enumerate(images)]
        shapes = [padded(image, size).shape[:2] for image in images]
        starts = np.cumsum([0, *(len(each) * h * w for each, (h, w) in zip(planes, shapes, strict=True))][:-1])
        pixels = [padded(plane, size).reshape(-1, 3) for each in planes for plane in each]
        self._size = size
        self._pixels = torch.from_numpy(np.concatenate(pixels)).to(device)
        self._layout = torch.tensor([(*shape, start) for shape, start in zip(shapes, starts, strict=True)]).to(device)
        self._versions = _Versions(noisy, device) if noisy else None
        self._keys = noise.key_tensor(keys).to(device)
        self._turns = _turns(size).to(device)
        self._at = torch.arange(size, device=device)
        self._counters = noise.counters(1, device)

    def __call__(self, indices: Tensor, epochs: Tensor) -> Crops:
        """The crops that `samples.crop` cuts. `indices` of the images, and `epochs`: int64 (N,)."""
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
        place = layout[:, 2, None, None] + row * layout[:, 1, None, None] + column
        if self._versions is None:
            return Crops(self._pixels[place], keys, epochs)
        number, levels = self._versions(indices, words[:, 3:4])
        noisy = self._pixels[place + (number * layout[:, 0] * layout[:, 1])[:, None, None]]
        return Crops(self._pixels[place], keys, epochs, noisy, levels)


class _Versions:
    """Which noisy version each crop takes, as `samples.version` says."""

    def __init__(self, noisy: Sequence[Noisy], device: torch.device) -> None:
        most = max(len(each.levels) for each in noisy)
        levels = torch.full((len(noisy), 1 + most, 2), -1)
        for own, each in zip(levels, noisy, strict=True):
            own[1 : 1 + len(each.levels)] = each.levels
        self._levels = levels.to(device)
        self._counts = torch.tensor([len(each.levels) for each in noisy]).to(device)
        self._shares = torch.tensor([round(each.share * 2**32) for each in noisy]).to(device)

    def __call__(self, indices: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """(number from 1, or 0 for white noise: int64 (N,), levels: int64 (N, 2)) by a random word, (N, 1), of each."""
        drawn = noise.halves(words)
        version = (drawn[:, 1] * self._counts[indices]) >> 32
        number = torch.where(drawn[:, 0] < self._shares[indices], 1 + version, 0)
        return number, self._levels[indices, number]


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
        self._sigmas = sigmas
        # No device divides: compilers replace a division by what rounds otherwise.
        self._per_sigma = _float32([1.0 / s for s in sigmas]).to(device)
        self._alpha_bar = _float32([alpha_bar_of_sigma(s) for s in sigmas]).to(device)
        self._timesteps = _float32([schedule.timestep(s) for s in sigmas]).to(device)
        self._grey = round(config.data.grey * 2**32)
        self._table = noise.table(device)
        self._place = noise.counters(1, device)
        self._noise = noise.counters(-(-(config.data.crop**2) * 3 // 2), device)

    def level_numbers(self, sigmas: Sequence[tuple[float, float]]) -> Tensor:
        """Numbers, in the table of `samples.levels`, of the levels nearest to `sigmas`: int64 (N, 2), on the CPU.

        That clips them to the range of training. -1 where a sigma is below 0.
        """
        middles = (self._sigmas[1:] + self._sigmas[:-1]) / 2
        wanted = np.array(sigmas, np.float64).reshape(-1, 2)
        return torch.from_numpy(np.where(wanted < 0, -1, np.searchsorted(middles, wanted)))

    def __call__(self, crops: Crops) -> Batch:
        """Makes a batch of crops, which get white noise or keep that of their noisy versions.

        A share `data.grey` of the crops becomes grey, with the same noise in all three channels.
        """
        clean, keys, epochs, noisy, levels = crops
        count, height, width, _ = clean.shape
        words = noise.words(keys, epochs, PLACE, self._place)
        drawn = noise.halves(words[:, 1:3])  # the lowest bits of the first half turn the crop
        level = (drawn[:, 2] * LEVELS) >> 32
        eps = noise.standard_normal(noise.words(keys, epochs, NOISE, self._noise), self._table)
        eps = eps[:, : height * width * 3].view(count, height, width, 3)
        if self._grey:
            grey = (drawn[:, 1] < self._grey)[:, None, None, None]
            clean = torch.where(grey, _luma(clean), clean)
            eps = torch.where(grey, eps[..., :1], eps)
            if noisy is not None and levels is not None:
                noisy = torch.where(grey, _luma(noisy), noisy)
                levels = torch.where(grey[:, :, 0, 0], levels[:, 1:], levels)
        if noisy is not None and levels is not None:
            own = levels[:, 0] >= 0
            level = torch.where(own, levels[:, 0], level)
            own_eps = (noisy.int() - clean.int()).float() * self._per_sigma[level].view(-1, 1, 1, 1)
            eps = torch.where(own[:, None, None, None], own_eps, eps)
        return Batch(
            pixels.from_bytes(clean),
            eps.permute(0, 3, 1, 2),
            self._alpha_bar[level].view(-1, 1, 1, 1),
            self._timesteps[level],
        )


def _luma(crops: Tensor) -> Tensor:
    """uint8 (N, H, W, 1) of uint8 (N, H, W, 3)."""
    red, green, blue = (factor * crops[..., i : i + 1].int() for i, factor in enumerate(_LUMA))
    return ((red + green + blue + _HALF) >> 16).to(torch.uint8)


def _float32(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
