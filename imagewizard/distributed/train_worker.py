"""What each worker of a training job runs: the loop, fed from memory or by its part of the Ray Data stream."""

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
from imagewizard.training.batches import Batch, Sampler
from imagewizard.training.loop import Worker
from imagewizard.training.trainer import Trainer

# Rows that are unpacked, in threads beside the training, before they are needed.
PREFETCHED = 4


def run(task: TrainTask) -> None:
    """Trains from the last checkpoint to the end; raises as `loop.run`."""
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), get_device())
    shares = partial(in_memory.shares if task.in_memory else _shares, task, worker)
    # The driver follows metrics.jsonl, from wherever the first worker writes it.
    loop.run(task, worker, shares, lambda row: None)


class _Unpack(ArrowBatchCollateFn):
    """A row of the stream as crops, keys and epochs, in Ray's threads; its errors are for the loop to raise."""

    def __init__(self, task: TrainTask) -> None:
        self._seed, self._size = task.config.seed, task.config.data.crop

    def __call__(self, row: pa.Table) -> dict[str, Any]:
        found: dict[str, Any] = row.to_pylist()[0]
        pixels = np.frombuffer(found.pop("clean"), np.uint8).reshape(-1, self._size, self._size, 3)
        found["clean"] = torch.from_numpy(pixels.copy())
        found["keys"] = key_tensor([samples.key(self._seed, image_id) for image_id in found.pop("image_ids")])
        found["epochs"] = torch.tensor(found["epochs"])
        return found


def _shares(task: TrainTask, worker: Worker, trainer: Trainer, skipped: set[str]) -> Iterator[list[Batch]]:
    """`loop.Shares`: this worker's rows of the stream, of which there is at least one a step."""
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
                what, fix = row["refused"]
                raise UserError(what, fix, "data.train")
            skipped.update(row["skipped"])
            share.append(sampler(*(row[name].to(worker.device) for name in ("clean", "keys", "epochs"))))
            expected += worker.workers
        yield share
        step += 1
