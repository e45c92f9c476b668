"""Training samples that hang on (seed, epoch, image id) alone: no resume and no number of workers changes them."""

import functools
from dataclasses import dataclass

import numpy as np

from imagewizard import seeding
from imagewizard.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class TrainingBatch:
    """Clean crops and the noise to put on them."""

    clean: np.ndarray
    """uint8, (N, crop, crop, 3)."""
    noise: np.ndarray
    """float32 standard normal, (N, crop, crop, 3)."""
    sigmas: np.ndarray
    """float64, (N,), 0-255 scale."""


def place(seed: int, images: int, position: int) -> tuple[int, int]:
    """(epoch, index of the image) at a position of the endless stream of samples.

    Every epoch draws each of the `images` once, in an order of its own.
    """
    epoch, offset = divmod(position, images)
    return epoch, int(_order(seed, images, epoch)[offset])


@functools.lru_cache(maxsize=2)  # a batch may lie across two epochs
def _order(seed: int, images: int, epoch: int) -> np.ndarray:
    return seeding.generator(seed, epoch, "order").permutation(images)


def crop(image: np.ndarray, size: int, key: tuple[int, int, str]) -> np.ndarray:
    """A random `size` x `size` crop of `image` (uint8, (H, W, 3)), flipped and turned at random.

    `key`: seed, epoch and image id. A side shorter than `size` is reflect-padded.
    """
    rng = seeding.generator(*key, "crop")
    height, width = image.shape[:2]
    if height < size or width < size:
        image = np.pad(image, ((0, max(0, size - height)), (0, max(0, size - width)), (0, 0)), mode="reflect")
        height, width = image.shape[:2]
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    patch = np.rot90(image[top : top + size, left : left + size], k=int(rng.integers(4)))
    return patch[:, ::-1] if rng.integers(2) else patch


def draw_sigma(
    rng: np.random.Generator, sigma: tuple[float, float], timesteps_of: NoiseSchedule | None = None
) -> float:
    """A level between the two of `sigma` (0-255 scale), uniform in sigma, or in the timestep of a given schedule."""
    if timesteps_of is None:
        return float(rng.uniform(*sigma))
    timestep = rng.uniform(timesteps_of.timestep(sigma[0]), timesteps_of.timestep(sigma[1]))
    alpha_bar = timesteps_of.alpha_bar(timestep)
    # Clipped: the way there and back rounds, and ends at the schedule's least level.
    return float(np.clip(127.5 * np.sqrt((1.0 - alpha_bar) / alpha_bar), *sigma))


def add_noise(
    clean: np.ndarray,
    keys: list[tuple[int, int, str]],
    sigma: tuple[float, float],
    timesteps_of: NoiseSchedule | None = None,
) -> TrainingBatch:
    """Crops (uint8, (N, size, size, 3)) with the noise and the level that belong to their keys.

    `timesteps_of`: the schedule in whose timestep the level is drawn uniformly; None: uniformly in sigma.
    """
    noise, sigmas = np.empty(clean.shape, np.float32), np.empty(len(keys))
    for i, key in enumerate(keys):
        rng = seeding.generator(*key, "noise")
        sigmas[i] = draw_sigma(rng, sigma, timesteps_of)
        rng.standard_normal(dtype=np.float32, out=noise[i])
    return TrainingBatch(clean, noise, sigmas)
