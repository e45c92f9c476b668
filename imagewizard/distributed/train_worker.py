"""Runs the training loop in a Ray Train worker, with samples from memory or from the Ray Data stream."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
import torch
from ray.data.collate_fn import ArrowBatchCollateFn
from ray.train.torch import get_device

from imagewizard.config.train import TrainTask
from imagewizard.errors import UserError
from imagewizard.noise.device import key_tensor
from imagewizard.training import in_memory, loop, samples
from imagewizard.training.batches import Batch, Crops, Sampler
from imagewizard.training.trainer import Trainer
from imagewizard.training.worker import Worker

# Rows that background threads unpack ahead of training.
PREFETCHED = 4


def run(task: TrainTask) -> None:
    """Trains from the last checkpoint to the end. Raises the errors of `loop.run`."""
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), get_device())
    shares = partial(in_memory.shares if task.in_memory else _shares, task, worker)
    # No reporter: the driver follows metrics.jsonl, which the first worker writes on whatever node it runs.
    loop.run(task, worker, shares, lambda row: None)


class _Unpack(ArrowBatchCollateFn):
    """Unpacks a row of the stream into crops, keys and epochs, in Ray's threads. The loop raises a row's errors."""

    def __init__(self, task: TrainTask) -> None:
        self._seed, self._size = task.config.seed, task.config.data.crop

    def __call__(self, row: pa.Table) -> dict[str, Any]:
        found: dict[str, Any] = row.to_pylist()[0]
        for name in ("clean", "noisy"):
            pixels = np.frombuffer(found.pop(name), np.uint8).reshape(-1, self._size, self._size, 3)
            found[name] = torch.from_numpy(pixels.copy())
        found["keys"] = key_tensor([samples.key(self._seed, image_id) for image_id in found.pop("image_ids")])
        found["epochs"] = torch.tensor(found["epochs"])
        return found


def _shares(task: TrainTask, worker: Worker, trainer: Trainer, skipped: set[str]) -> Iterator[list[Batch]]:
    """`loop.Shares`: this worker's rows of the stream, at least one per step."""
    rows = iter(
        ray.train.get_dataset_shard("train").iter_torch_batches(
            batch_size=1, prefetch_batches=PREFETCHED, collate_fn=_Unpack(task)
        )
    )
    sampler = Sampler(task.config, trainer.schedule, worker.device)
    per_step = task.rows_per_step
    expected = trainer.step * per_step + worker.rank
    step = trainer.step
    while True:
        share = []
        while expected < (step + 1) * per_step:
            row = next(rows)
            if row["row"] != expected:
                raise RuntimeError(f"row {row['row']} of the training stream came where {expected} was due")
            if row["refused"]:
                raise UserError(*row["refused"])
            skipped.update(row["skipped"])
            share.append(sampler(_crops(row, sampler, worker.device)))
            expected += worker.workers
        yield share
        step += 1


def _crops(row: dict[str, Any], sampler: Sampler, device: torch.device) -> Crops:
    """A row of the stream as `_Unpack` leaves it."""
    crops = Crops(*(row[name].to(device) for name in ("clean", "keys", "epochs")))
    if not row["sigmas"]:
        return crops
    levels = sampler.level_numbers(row["sigmas"])
    return crops._replace(noisy=row["noisy"].to(device), levels=levels.to(device))
