"""The training samples of a whole run as one Ray Data pipeline: tasks → their rows, loaded and cropped.

A row is a micro-batch: `micro_batch_size` consecutive places of the endless stream of samples (samples.places).
Row r goes to worker r mod N, because each row is its own Ray block, blocks stay in order, and Ray deals equal blocks to
the workers in turn. So the rows of a step, and its gradient, are the same for any number of workers.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset, ExecutionOptions, ExecutionResources
from ray.util.annotations import RayDeprecationWarning

from imagewizard.config.train import TrainImage
from imagewizard.distributed import cluster, readers
from imagewizard.distributed.allocation import nodes
from imagewizard.images.decoding import quiet
from imagewizard.training import images as training_images
from imagewizard.training import samples as training_samples
from imagewizard.training import versions
from imagewizard.training.image_store import BenchmarkImageError, ImageStore, UnusableImageError
from imagewizard.training.versions import Version

# Rows per task. They share the fixed cost of a task, and a loader works this many rows ahead of the workers.
TASK_ROWS = 8
# Greatest number of tasks, however long the run, because the driver holds an entry for each.
MAX_TASKS = 10_000
# Micro-batches that may wait for a worker. Loading must be faster than training; otherwise no buffer helps.
ROWS_AHEAD = 16
# An unusable image is replaced by the next one in the epoch's order, up to this many times.
MAX_REPLACEMENTS = 1000


@dataclass(frozen=True)
class StreamSamples:
    """Everything that the rows of a run depend on."""

    images: "ray.ObjectRef[pa.Table]"
    """The training images by `images.SCHEMA`."""
    count: int
    seed: int
    crop: int
    small: str
    """pad | skip: how to treat images with a side below `crop`."""
    camera: float
    """Share of the crops of images that have no noisy partner, which get a camera's noise."""
    noisy: bool
    """Whether any image has a noisy version."""
    micro_batch_size: int


def build(samples: StreamSamples, first_row: int, rows: int, gpus_per_worker: float) -> Dataset:
    """Rows [first_row, rows) of a run, in order, each made by `load_row`."""
    size = max(TASK_ROWS, math.ceil((rows - first_row) / MAX_TASKS))
    tasks = [{"start": start, "stop": min(start + size, rows)} for start in range(first_row, rows, size)]
    with warnings.catch_warnings():
        # Ray deprecates options that are no parameters of its maps, and scheduling_strategy is none.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = ray.data.from_items(tasks, override_num_blocks=len(tasks)).flat_map(
            load_task, fn_kwargs={"samples": samples}, **readers.options(nodes(), gpus_per_worker)
        )
    readers.follow_cluster(dataset.context, gpus_per_worker)
    cluster.configure(dataset.context)
    return dataset


def execution_options(samples: StreamSamples, workers: int) -> ExecutionOptions:
    """Keeps rows in order, and limits how far loading runs ahead of the workers."""
    row = samples.micro_batch_size * samples.crop**2 * 3 * (2 if samples.noisy else 1)
    return ExecutionOptions(
        preserve_order=True, resource_limits=ExecutionResources(object_store_memory=workers * ROWS_AHEAD * row)
    )


def load_task(task: dict[str, int], samples: StreamSamples) -> Iterator[dict[str, Any]]:
    """The rows of a task, one by one."""
    quiet()
    for row in range(task["start"], task["stop"]):
        yield load_row(row, samples)


_store = ImageStore()  # shared by all tasks of this process


def load_row(number: int, samples: StreamSamples) -> dict[str, Any]:
    """A micro-batch: row, clean (bytes of the uint8 crops), epochs, image_ids, and problems with the data.

    noisy, sigmas: the same crops of noisy versions (of the clean image for white noise) and `Version.sigmas`, or -1;
    both empty if no image has one. skipped: `image id: reason` of each replaced image. refused: [what, fix, key] if the
    data must not or cannot be used for training, else [].
    """
    loaded: dict[str, Any] = {"row": number, "epochs": [], "image_ids": [], "skipped": [], "refused": []}
    crops: list[np.ndarray] = []
    noisy_crops: list[np.ndarray] = []
    sigmas: list[tuple[float, float]] = []
    table = ray.get(samples.images)
    start = number * samples.micro_batch_size
    for position in range(start, start + samples.micro_batch_size):
        epoch, image_id, image, version = _load(table, samples, position, loaded)
        key = training_samples.key(samples.seed, image_id)
        crops.append(training_samples.crop(image, samples.crop, key, epoch))
        if samples.noisy:
            noisy = version.pixels if version else image
            noisy_crops.append(training_samples.crop(noisy, samples.crop, key, epoch))
            sigmas.append(version.sigmas if version else (-1.0, -1.0))
        loaded["epochs"].append(epoch)
        loaded["image_ids"].append(image_id)
    loaded["clean"] = np.stack(crops).tobytes()
    return loaded | {"noisy": b"".join(crop.tobytes() for crop in noisy_crops), "sigmas": sigmas}


def _load(
    table: pa.Table, samples: StreamSamples, position: int, loaded: dict[str, Any]
) -> tuple[int, str, np.ndarray, Version | None]:
    """(epoch, image id, image, noisy version) of a position, or of the next position with a usable image."""
    for replacement in range(min(samples.count, MAX_REPLACEMENTS)):
        (epoch,), (index,) = training_samples.places(samples.seed, samples.count, position + replacement, 1)
        [wanted] = training_images.as_list(table.slice(int(index), 1))
        image_id = wanted.image_id
        try:
            image = _store.load(wanted.uri)
            if samples.small == "skip" and min(image.shape[:2]) < samples.crop:
                raise UnusableImageError(f"smaller than the crop of {samples.crop}")
            return int(epoch), image_id, image, _version(wanted, image, samples, int(epoch))
        except UnusableImageError as error:
            loaded["skipped"].append(f"{image_id}: {error}")
        except BenchmarkImageError as error:
            loaded["refused"] = [f"{image_id} is CBSD68's {error}, of the benchmark", "take it out", wanted.key]
            break
    else:
        what = f"{loaded['skipped'][0]}, and no other can be used either"
        loaded["refused"] = [what, "give clean images", wanted.key]
    return int(epoch), image_id, np.zeros((samples.crop, samples.crop, 3), np.uint8), None


def _version(image: TrainImage, clean: np.ndarray, samples: StreamSamples, epoch: int) -> Version | None:
    """The noisy version that an epoch's crop takes; None: it gets white noise."""
    share, count = versions.share(image, samples.camera), versions.count(image, samples.camera)
    key = training_samples.key(samples.seed, image.image_id)
    number = training_samples.version(share, count, key, epoch)
    return None if number is None else _store.version(image, clean, number, samples.seed)
