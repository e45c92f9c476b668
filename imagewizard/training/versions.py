"""Noisy versions of training images: photographs by cameras at random, or the noisy image of a pair."""

from typing import NamedTuple

import numpy as np

from imagewizard import seeding
from imagewizard.config.train import TrainImage
from imagewizard.noise import camera
from imagewizard.noise.effective import effective_level

# Photographs of a training image. More of them take memory, and a hundred images have hundreds of cameras as it is.
PHOTOGRAPHS = 4


class Version(NamedTuple):
    """A noisy version of an image."""

    pixels: np.ndarray
    """uint8 (H, W, 3)."""
    sigmas: tuple[float, float]
    """The level that the network is told, of the version and of the same in grey; 0-255 scale."""


def count(image: TrainImage, camera_share: float) -> int:
    """How many noisy versions an image has if the share `data.camera` of its crops takes one."""
    return 1 if image.noisy_uri is not None else PHOTOGRAPHS if camera_share else 0


def share(image: TrainImage, camera_share: float) -> float:
    """Share of an image's crops that take a noisy version; the others get white noise."""
    return 1.0 if image.noisy_uri is not None else camera_share


def photographed(clean: np.ndarray, image_id: str, number: int, seed: int) -> Version:
    """Photograph `number` of `clean` (uint8 (H, W, 3)): a function of (seed, image id, number) alone."""
    generator = seeding.generator(seed, image_id, "camera", number)
    noisy = camera.draw(generator).expose(clean, generator)
    return version(noisy.astype(np.uint8), clean)


def version(noisy: np.ndarray, clean: np.ndarray) -> Version:
    """The version of `clean` that `noisy` is; both are uint8 (H, W, 3)."""
    noise = noisy.astype(np.float32) - clean
    return Version(noisy, (effective_level(noise), effective_level(camera.luma_of(noise)[:, :, np.newaxis])))
