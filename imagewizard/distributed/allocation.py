"""What a job gets of a Ray cluster: how many actors or workers, and how much each."""

from dataclasses import dataclass

import ray

from imagewizard.bulk.block import PIXEL_BYTES
from imagewizard.config.denoise import ResourcesSection
from imagewizard.config.train import TrainResourcesSection
from imagewizard.errors import UserError
from imagewizard.manifest.shards import BLOCK_BYTES

# Five blocks of the largest kind for each actor: the one it works on, and four that wait for it.
STORE_BYTES_PER_ACTOR = 5 * (BLOCK_BYTES + PIXEL_BYTES)

# What a block of images (64 MB encoded, 128 MB of pixels) takes, with its copies, in a process that works on it …
PROCESS_BYTES = 1_000_000_000
# … and what a larger image takes, in bytes a pixel (`python -m tests.support.megapixels`): 9.7 GB for 100 million.
IMAGE_COPIES = 100


@dataclass(frozen=True)
class Allocation:
    """What a bulk job gets of a cluster: how many model actors, and what each gets."""

    actors: int
    threads_per_actor: int
    gpus_per_actor: float
    readers: int
    store_bytes: int
    """Of the nodes' shared memory, for images on their way from one process to the next."""

    @property
    def memory(self) -> str:
        """How many bytes of images may be in flight, for the plan."""
        processes = self.readers + self.actors
        total = self.store_bytes + processes * PROCESS_BYTES
        return (
            f"at most {total / 1e9:.1f} GB in flight: {self.store_bytes / 1e9:.1f} GB of shared memory, and "
            f"{PROCESS_BYTES / 1e9:.1f} GB in each of {processes} processes (more for an image of over "
            f"{PROCESS_BYTES // IMAGE_COPIES // 1_000_000} megapixels)"
        )

    def __str__(self) -> str:
        gpus = f", {self.gpus_per_actor:g} GPU each" if self.gpus_per_actor else ""
        threads = "1 thread" if self.threads_per_actor == 1 else f"{self.threads_per_actor} threads"
        return f"{self.actors} actor{'s' if self.actors > 1 else ''} of {threads}{gpus}"


def allocate(resources: ResourcesSection) -> Allocation:
    """Fits the actors to the cluster. Ray must run. Raises UserError if it cannot hold what was asked for."""
    total = ray.cluster_resources()
    cpus, gpus = max(1, int(total.get("CPU", 1))), total.get("GPU", 0.0)
    gpus_per_actor = resources.gpus_per_actor
    if gpus_per_actor == "auto":
        gpus_per_actor = 1.0 if gpus else 0.0
    # On CPUs an actor a core: one-thread actors waste nothing on waiting for each other.
    room = int(gpus / gpus_per_actor) if gpus_per_actor else cpus
    if room < 1:
        what = f"{gpus_per_actor:g} asked for, but the cluster has {gpus:g}"
        raise UserError(what, "lower it", "resources.gpus_per_actor")
    actors = room if resources.actors == "auto" else resources.actors
    if actors > room:
        what = f"{actors} asked for, but the cluster has room for {room}"
        raise UserError(what, "lower it", "resources.actors")
    # A reader for every two cores that the actors leave, or share.
    readers = max(1, (cpus - actors if gpus_per_actor else cpus) // 2)
    # The other half of the shared memory is for what Ray and its other users put there.
    store = min(total.get("object_store_memory", 0.0) / 2, actors * STORE_BYTES_PER_ACTOR)
    return Allocation(actors, max(1, cpus // actors), gpus_per_actor, readers, int(store))


# A training worker's reserved share of the CPUs where it has no GPU; the loaders take theirs from what is left.
WORKER_CPUS = 0.5


@dataclass(frozen=True)
class TrainingAllocation:
    """What a training job gets of a cluster: how many workers, and what each gets."""

    least: int
    most: int
    threads_per_worker: int
    gpus_per_worker: float

    def __str__(self) -> str:
        number = f"{self.most}" if self.least == self.most else f"{self.least} to {self.most}"
        each = (
            f"{self.gpus_per_worker:g} GPU each" if self.gpus_per_worker else f"{self.threads_per_worker} threads each"
        )
        return f"{number} worker{'s' if self.most > 1 else ''}, {each}"


def allocate_training(resources: TrainResourcesSection, pieces: int) -> TrainingAllocation:
    """Fits the workers to the cluster. Ray must run. Raises UserError if it cannot hold the least number of them.

    `pieces`: micro-batches of a batch; where the number is left to the cluster, every worker gets one at least.
    """
    total = ray.cluster_resources()
    cpus, gpus = max(1.0, total.get("CPU", 1.0)), total.get("GPU", 0.0)
    gpus_per_worker = resources.gpus_per_worker
    if gpus_per_worker == "auto":
        gpus_per_worker = 1.0 if gpus else 0.0
    room = int(gpus / gpus_per_worker) if gpus_per_worker else int((cpus - WORKER_CPUS) / WORKER_CPUS)
    workers = resources.workers
    if workers == "auto":
        least = most = max(1, min(room, pieces)) if gpus_per_worker else 1
    else:
        least, most = workers if isinstance(workers, tuple) else (workers, workers)
    if least > room:
        have = f"{gpus:g} GPUs" if gpus_per_worker else f"{cpus:g} CPUs"
        what = f"{least} asked for, but the cluster's {have} have room for {room}"
        raise UserError(what, "lower it or gpus_per_worker", "resources.workers")
    return TrainingAllocation(least, most, max(1, int(cpus // most)), gpus_per_worker)
