"""Draws the samples of a run from decoded images in the training device's memory."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from imagewizard.config.train import TrainConfig, TrainImage, TrainTask
from imagewizard.diffusion import compile_cache
from imagewizard.errors import UserError
from imagewizard.training import image_store, samples, versions
from imagewizard.training.batches import Batch, DecodedImages, Noisy, Sampler
from imagewizard.training.image_store import LoadedImage
from imagewizard.training.trainer import Trainer
from imagewizard.training.worker import Worker

# Steps for which places are computed and sent to the device at once, because a GPU takes only milliseconds for a step.
STEPS_AHEAD = 64
# Micro-batches are drawn at once up to this size; clean crop and noise of a pixel take 24 bytes.
DRAWN_BYTES, SAMPLE_BYTES = 32 << 20, 24


def shares(task: TrainTask, worker: Worker, trainer: Trainer, skipped: set[str]) -> Iterator[list[Batch]]:
    """`loop.Shares` over the task's images. Raises UserError if an image belongs to CBSD68, or if none can be used."""
    config, device = task.config, worker.device
    loaded = _load(config, task.in_memory, skipped)
    usable = np.array([image is not None for image in loaded])
    sampler = Sampler(config, trainer.schedule, device)
    found = [(image, pixels) for image, pixels in zip(task.in_memory, loaded, strict=True) if pixels is not None]
    decoded = _decoded(config, found, sampler, device)
    numbers = np.cumsum(usable) - 1  # each image's number among the usable ones
    draw = drawing(decoded, sampler, device)
    per_step, size = task.rows_per_step, task.micro_batch_size
    at_once = rows_at_once(STEPS_AHEAD * per_step, worker.workers, size, config.data.crop)
    step = trainer.step
    while True:
        epochs, indices = _places(config.seed, usable, step * per_step * size, STEPS_AHEAD * per_step * size)
        rows = np.stack([epochs, numbers[indices]]).reshape(2, -1, size)
        first = step * per_step
        mine = [row for row in range(first, first + STEPS_AHEAD * per_step) if row % worker.workers == worker.rank]
        sent = torch.from_numpy(np.ascontiguousarray(rows[:, np.array(mine) - first]))
        sent = (sent.pin_memory() if device.type == "cuda" else sent).to(device, non_blocking=True)
        batches = drawn(draw, sent[1], sent[0], at_once)
        for count in np.bincount(np.array(mine) // per_step - step, minlength=STEPS_AHEAD).tolist():
            yield list(islice(batches, count))
        step += STEPS_AHEAD


def _load(config: TrainConfig, images: Sequence[TrainImage], skipped: set[str]) -> list[LoadedImage | None]:
    """Each image, or None if it cannot be used; `skipped` then gets the reason."""
    smallest = config.data.crop if config.data.small == "skip" else 0

    def load(image: TrainImage) -> LoadedImage | str:
        return image_store.load(image, image.key, smallest, config.data.camera, config.seed)

    with ThreadPoolExecutor(image_store.READ_THREADS) as pool:
        loaded = list(pool.map(load, images))
    skipped.update(
        f"{image.image_id}: {found}" for image, found in zip(images, loaded, strict=True) if isinstance(found, str)
    )
    if all(isinstance(found, str) for found in loaded):
        what = f"{sorted(skipped)[0]}, and no other can be used either"
        raise UserError(what, "give clean images", images[0].key)
    return [None if isinstance(found, str) else found for found in loaded]


def _decoded(
    config: TrainConfig, images: Sequence[tuple[TrainImage, LoadedImage]], sampler: Sampler, device: torch.device
) -> DecodedImages:
    """The usable images on the device, with their noisy versions if any image has one."""
    noisy = [
        Noisy(
            [version.pixels for version in loaded.versions],
            sampler.level_numbers([version.sigmas for version in loaded.versions]),
            versions.share(image, config.data.camera),
        )
        for image, loaded in images
    ]
    return DecodedImages(
        [loaded.clean for _, loaded in images],
        [samples.key(config.seed, image.image_id) for image, _ in images],
        config.data.crop,
        device,
        noisy if any(each.pixels for each in noisy) else (),
    )


def _places(seed: int, usable: np.ndarray, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`samples.places`, with each unusable image replaced by the next usable one in the epoch's order."""
    epochs, indices = samples.places(seed, len(usable), first, count)
    for at in np.flatnonzero(~usable[indices]):
        position = first + int(at)
        while not usable[indices[at]]:
            position += 1
            (epochs[at],), (indices[at],) = samples.places(seed, len(usable), position, 1)
    return epochs, indices


def rows_at_once(rows: int, workers: int, size: int, crop: int) -> int:
    """How many of its share of `rows` micro-batches a worker draws at once: a power of two that divides the share.

    Each micro-batch has `size` crops with sides of `crop` pixels.
    """
    if rows % workers:
        return 1  # shares differ in length, and another length would be compiled anew
    share, most = rows // workers, DRAWN_BYTES // (size * crop**2 * SAMPLE_BYTES)
    return min(share & -share, 1 << max(0, most.bit_length() - 1))


def drawn(draw: Callable[[Tensor, Tensor], Batch], indices: Tensor, epochs: Tensor, at_once: int) -> Iterator[Batch]:
    """The micro-batches of `indices` and `epochs`, int64 (rows, size) each; `at_once` of them are drawn in one go.

    To launch the kernels of a small batch takes longer than to run them.
    """
    size = indices.shape[1]
    for first in range(0, len(indices), at_once):
        several = draw(indices[first : first + at_once].flatten(), epochs[first : first + at_once].flatten())
        yield from (Batch(*parts) for parts in zip(*(part.split(size) for part in several), strict=True))


def drawing(decoded: DecodedImages, sampler: Sampler, device: torch.device) -> Callable[[Tensor, Tensor], Batch]:
    """(indices, epochs) → Batch. Compiled on a GPU, which fuses about 400 integer operations into a few kernels."""

    def draw(indices: Tensor, epochs: Tensor) -> Batch:
        return sampler(decoded(indices, epochs))

    if device.type != "cuda":
        return draw
    compile_cache.use()
    return torch.compile(draw, dynamic=False)
