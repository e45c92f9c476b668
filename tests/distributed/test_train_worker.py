"""A row of the stream becomes the batch that images in memory give, bit for bit."""

from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import torch

from imagewizard.distributed import train_worker
from imagewizard.distributed.train_fit import stream_samples
from imagewizard.distributed.train_stream import load_row
from imagewizard.progress import silent
from imagewizard.training import in_memory, job
from imagewizard.training.batches import Batch, Sampler
from imagewizard.training.worker import Worker
from tests.support.training_jobs import train_config, write_pairs, write_photographs
from tests.support.training_parts import CPU, trainer

pytestmark = pytest.mark.usefixtures("ray_cluster")
STEPS = 6


@pytest.mark.parametrize("data", [{}, {"camera": 0.6}, {"camera": 0.6, "pairs": True, "grey": 0.3}])
def test_rows_are_the_samples_of_images_in_memory(tmp_path: Path, data: dict[str, Any]) -> None:
    photographs = write_photographs(tmp_path / "photographs")
    pairs = {"pairs": write_pairs(tmp_path / "pairs")} if "pairs" in data else {}
    config = train_config(photographs, tmp_path / "run", data=data | pairs, sigma=[2.0, 60.0])
    plan = job.prepare(config)
    images = job.begin(plan, lambda: None, silent)
    task = job.task(plan, images, 1, 1)
    run = trainer(config)
    skipped: set[str] = set()
    expected = list(islice(in_memory.shares(task, Worker(0, 1, CPU), run, skipped), STEPS))
    unpack, sampler = train_worker._Unpack(task), Sampler(config, run.schedule, CPU)
    samples = stream_samples(task, ray.put(images))
    told: set[str] = set()
    for number in range(STEPS * task.rows_per_step):
        row = load_row(number, samples)
        told.update(row["skipped"])
        found = sampler(train_worker._crops(unpack(pa.Table.from_pylist([row])), sampler, CPU))
        assert_equal(found, expected[number // task.rows_per_step][number % task.rows_per_step])
    assert told == skipped and len(told) == 1 + len(pairs)


def assert_equal(found: Batch, expected: Batch) -> None:
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
