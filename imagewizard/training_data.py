"""Training samples that hang on (seed, epoch, image id) alone: no resume and no worker count changes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagewizard import images, seeding
from imagewizard.errors import UserError

MAX_TRAINING_PIXELS = 100_000_000


@dataclass(frozen=True)
class TrainingBatch:
    clean: np.ndarray
    """uint8, (N, crop, crop, 3)."""
    noise: np.ndarray
    """float32 standard normal, (N, crop, crop, 3)."""
    sigmas: np.ndarray
    """float64, (N,), 0-255 scale."""


def load_folder(folder: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """({image id: uint8 (H, W, 3)}, [ids of files that could not be read or decoded]); all images are held in memory.

    Raises UserError if there is no folder or no usable image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"data: {folder} is no folder; give one with clean images")
    loaded, broken = {}, []
    for path in sorted(p for p in root.rglob("*") if images.is_image_name(p.name) and p.is_file()):
        image_id = path.relative_to(root).as_posix()
        try:
            loaded[image_id] = images.decode(path.read_bytes(), MAX_TRAINING_PIXELS)
        except (images.ImageError, OSError):
            broken.append(image_id)
    if not loaded:
        raise UserError(f"data: {folder} holds no usable image; give a folder with clean png, jpg, … files")
    return loaded, broken


def sample(image: np.ndarray, key: tuple[int, int, str], crop: int, sigma: tuple[float, float]) -> TrainingBatch:
    """One random crop of `image`, flipped and turned at random, with its noise and level: a batch of one."""
    rng = seeding.generator(*key)
    height, width = image.shape[:2]
    if height < crop or width < crop:
        image = np.pad(image, ((0, max(0, crop - height)), (0, max(0, crop - width)), (0, 0)), mode="reflect")
        height, width = image.shape[:2]
    top, left = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
    patch = np.rot90(image[top : top + crop, left : left + crop], k=int(rng.integers(4)))
    if rng.integers(2):
        patch = patch[:, ::-1]
    noise = rng.standard_normal((1, crop, crop, 3), dtype=np.float32)
    return TrainingBatch(patch[None], noise, rng.uniform(*sigma, size=1))


def batches(
    images_by_id: dict[str, np.ndarray], seed: int, batch_size: int, crop: int, sigma: tuple[float, float], step: int
) -> Iterator[TrainingBatch]:
    """The endless run of batches from `step` on: each epoch draws every image once, in an order of its own."""
    ids = sorted(images_by_id)
    position = step * batch_size
    while True:
        samples = []
        for index in range(position, position + batch_size):
            epoch, place = divmod(index, len(ids))
            order = seeding.generator(seed, epoch, "order").permutation(len(ids))
            image_id = ids[order[place]]
            samples.append(sample(images_by_id[image_id], (seed, epoch, image_id), crop, sigma))
        position += batch_size
        yield TrainingBatch(
            np.concatenate([s.clean for s in samples]),
            np.concatenate([s.noise for s in samples]),
            np.concatenate([s.sigmas for s in samples]),
        )
