"""The training samples of a whole run as one Ray Data chain: tasks → their rows, loaded and cropped.

A row is a micro-batch: `micro_batch_size` consecutive places of the endless stream of samples (samples.places).
Row r goes to worker r mod N, for rows are Ray blocks of their own, in order, and Ray deals equal blocks out in turns.
So a step's rows, and with them its gradient, are the same for any number of workers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset, ExecutionOptions, ExecutionResources

from imagewizard.distributed import cluster
from imagewizard.images.decoding import quiet
from imagewizard.schema import IMAGE_ID, URI
from imagewizard.training import samples as training_samples
from imagewizard.training.image_store import BenchmarkImageError, ImageStore, UnusableImageError

# Rows of a task: a loader works ahead of the workers by as many, and a task's own cost is shared by them.
TASK_ROWS = 8
# No more tasks than this, however long the run: the driver holds an entry for each.
MAX_TASKS = 10_000
# A loader's share of a CPU: on a machine of few cores the workers take most of them.
LOADER_CPUS = 0.5
# Micro-batches that wait for a worker. A step takes longer than its loading, or no number of them would do.
ROWS_AHEAD = 16
# An image that cannot be used is replaced by the next in the epoch's order, but not without end.
MAX_REPLACEMENTS = 1000


@dataclass(frozen=True)
class StreamSamples:
    """What the rows of a run are made from; all they depend on."""

    images: "ray.ObjectRef[pa.Table]"
    """The training manifest, image_id and uri."""
    count: int
    seed: int
    crop: int
    small: str
    """pad | skip: images with a side below `crop`."""
    micro_batch_size: int


def build(samples: StreamSamples, first_row: int, rows: int) -> Dataset:
    """Rows [first_row, rows) of a run, in order, each by `load_row`."""
    size = max(TASK_ROWS, math.ceil((rows - first_row) / MAX_TASKS))
    tasks = [{"start": start, "stop": min(start + size, rows)} for start in range(first_row, rows, size)]
    dataset = ray.data.from_items(tasks, override_num_blocks=len(tasks)).flat_map(
        load_task, fn_kwargs={"samples": samples}, num_cpus=LOADER_CPUS
    )
    cluster.configure(dataset.context)
    return dataset


def execution_options(samples: StreamSamples, workers: int) -> ExecutionOptions:
    """In order, and not further ahead of the workers than helps."""
    row = samples.micro_batch_size * samples.crop**2 * 3
    return ExecutionOptions(
        preserve_order=True, resource_limits=ExecutionResources(object_store_memory=workers * ROWS_AHEAD * row)
    )


def load_task(task: dict[str, int], samples: StreamSamples) -> Iterator[dict[str, Any]]:
    """The rows of a task, one by one."""
    quiet()
    for row in range(task["start"], task["stop"]):
        yield load_row(row, samples)


_store = ImageStore()  # of this process, over all of its tasks


def load_row(number: int, samples: StreamSamples) -> dict[str, Any]:
    """A micro-batch: row, clean (uint8 crops, one after another), epochs and image_ids; what is wrong with the data.

    skipped: `image id: reason` of images that others stand in for. refused: why the data must not or cannot be trained
    on and what to do about it, or nothing.
    """
    loaded: dict[str, Any] = {"row": number, "epochs": [], "image_ids": [], "skipped": [], "refused": []}
    crops = []
    table = ray.get(samples.images)
    start = number * samples.micro_batch_size
    for position in range(start, start + samples.micro_batch_size):
        epoch, image_id, image = _load(table, samples, position, loaded)
        key = training_samples.key(samples.seed, image_id)
        crops.append(training_samples.crop(image, samples.crop, key, epoch))
        loaded["epochs"].append(epoch)
        loaded["image_ids"].append(image_id)
    loaded["clean"] = np.stack(crops).tobytes()
    return loaded


def _load(
    table: pa.Table, samples: StreamSamples, position: int, loaded: dict[str, Any]
) -> tuple[int, str, np.ndarray]:
    """(epoch, image id, image) of a position, or of the first one after it whose image can be used."""
    for replacement in range(min(samples.count, MAX_REPLACEMENTS)):
        (epoch,), (index,) = training_samples.places(samples.seed, samples.count, position + replacement, 1)
        image_id, uri = table[IMAGE_ID][int(index)].as_py(), table[URI][int(index)].as_py()
        try:
            image = _store.load(uri)
        except UnusableImageError as error:
            loaded["skipped"].append(f"{image_id}: {error}")
            continue
        except BenchmarkImageError as error:
            loaded["refused"] = [f"{image_id} is CBSD68's {error}, of the benchmark", "take it out"]
            break
        if samples.small == "skip" and min(image.shape[:2]) < samples.crop:
            loaded["skipped"].append(f"{image_id}: smaller than the crop of {samples.crop}")
            continue
        return int(epoch), image_id, image
    else:
        loaded["refused"] = [f"{loaded['skipped'][0]}, and no other can be used either", "give clean images"]
    return int(epoch), image_id, np.zeros((samples.crop, samples.crop, 3), np.uint8)
