"""Draws the samples of a run from decoded images in the training device's memory."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from imagewizard.config.train import TrainTask
from imagewizard.errors import UserError
from imagewizard.training import samples
from imagewizard.training.batches import Batch, DecodedImages, Sampler
from imagewizard.training.image_store import BenchmarkImageError, ImageStore, UnusableImageError
from imagewizard.training.loop import Worker
from imagewizard.training.trainer import Trainer

READ_THREADS = 8
# Steps for which places are computed and sent to the device at once, because a GPU takes only milliseconds for a step.
STEPS_AHEAD = 64

Images = tuple[tuple[str, str], ...]


def shares(task: TrainTask, worker: Worker, trainer: Trainer, skipped: set[str]) -> Iterator[list[Batch]]:
    """`loop.Shares` over the task's images. Raises UserError if an image belongs to CBSD68, or if none can be used."""
    config, device, images = task.config, worker.device, task.in_memory
    loaded = _load(config.data.crop, config.data.small, images, skipped)
    usable = np.array([image is not None for image in loaded])
    keys = [samples.key(config.seed, image_id) for image_id, _ in images]
    decoded = DecodedImages(
        [image for image in loaded if image is not None],
        [key for key, is_usable in zip(keys, usable, strict=True) if is_usable],
        config.data.crop,
        device,
    )
    numbers = np.cumsum(usable) - 1  # each image's number among the usable ones
    draw = drawing(decoded, Sampler(config, trainer.schedule, device), device)
    per_step, size = task.rows_per_step, task.micro_batch_size
    step = trainer.step
    while True:
        epochs, indices = _places(config.seed, usable, step * per_step * size, STEPS_AHEAD * per_step * size)
        rows = np.stack([epochs, numbers[indices]]).reshape(2, -1, size)
        first = step * per_step
        mine = [row for row in range(first, first + STEPS_AHEAD * per_step) if row % worker.workers == worker.rank]
        sent = torch.from_numpy(np.ascontiguousarray(rows[:, np.array(mine) - first]))
        sent = (sent.pin_memory() if device.type == "cuda" else sent).to(device, non_blocking=True)
        for _ in range(STEPS_AHEAD):
            share = []
            while mine and mine[0] < (step + 1) * per_step:
                at = sent.shape[1] - len(mine)
                share.append(draw(sent[1, at], sent[0, at]))
                mine.pop(0)
            yield share
            step += 1


def _load(size: int, small: str, images: Images, skipped: set[str]) -> list[np.ndarray | None]:
    """Each image as uint8 (H, W, 3), or None if it cannot be used; `skipped` then gets the reason."""
    with ThreadPoolExecutor(READ_THREADS) as pool:
        found = list(pool.map(_load_one, images))
    loaded: list[np.ndarray | None] = []
    for (image_id, _), image in zip(images, found, strict=True):
        reason = image if isinstance(image, str) else ""
        if not isinstance(image, str) and small == "skip" and min(image.shape[:2]) < size:
            reason = f"smaller than the crop of {size}"
        if reason:
            skipped.add(f"{image_id}: {reason}")
        loaded.append(None if reason or isinstance(image, str) else image)
    if not any(image is not None for image in loaded):
        raise UserError(f"{sorted(skipped)[0]}, and no other can be used either", "give clean images", "data.train")
    return loaded


def _load_one(image: tuple[str, str]) -> np.ndarray | str:
    """The pixels, or the reason why they cannot be used."""
    image_id, uri = image
    try:
        return ImageStore(kept_bytes=0).load(uri)
    except UnusableImageError as error:
        return str(error)
    except BenchmarkImageError as error:
        raise UserError(f"{image_id} is CBSD68's {error}, of the benchmark", "take it out", "data.train") from None


def _places(seed: int, usable: np.ndarray, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`samples.places`, with each unusable image replaced by the next usable one in the epoch's order."""
    epochs, indices = samples.places(seed, len(usable), first, count)
    for at in np.flatnonzero(~usable[indices]):
        position = first + int(at)
        while not usable[indices[at]]:
            position += 1
            (epochs[at],), (indices[at],) = samples.places(seed, len(usable), position, 1)
    return epochs, indices


def drawing(decoded: DecodedImages, sampler: Sampler, device: torch.device) -> Callable[[Tensor, Tensor], Batch]:
    """(indices, epochs) → Batch. Compiled on a GPU, which fuses about 400 integer operations into a few kernels."""

    def draw(indices: Tensor, epochs: Tensor) -> Batch:
        clean, keys = decoded(indices, epochs)
        return sampler(clean, keys, epochs)

    return torch.compile(draw, dynamic=False) if device.type == "cuda" else draw
