"""Joining a Ray cluster, or starting a local one, and deciding how wide a job may spread on it."""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback

from imagewizard.config.denoise import ResourcesSection
from imagewizard.config.train import TrainResourcesSection
from imagewizard.errors import UserError

# Four blocks of the largest kind in front of each actor, and the one that it works on, twice over.
STORE_BYTES_PER_ACTOR = 1 << 30

# What a block of images (64 MB encoded, 128 MB of pixels) takes in a process that works on it, with its copies: …
PROCESS_BYTES = 1_000_000_000
# … and what a larger image takes, in bytes a pixel (`python -m tests.support.megapixels`): 9.7 GB for 100 million.
IMAGE_COPIES = 100


@dataclass(frozen=True)
class Allocation:
    """How many model actors, and what each gets."""

    actors: int
    threads_per_actor: int
    gpus_per_actor: float
    readers: int
    store_bytes: int
    """What images may take of the nodes' shared memory, on their way from one process to the next."""

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


def start(address: str | None) -> None:
    """Connects to the cluster at `address`, the one around (RAY_ADDRESS), or a new local one; quiet in the log.

    Raises UserError if there is no cluster at the address.
    """
    if not ray.is_initialized():
        local = address is None and "RAY_ADDRESS" not in os.environ
        options = {
            "address": address,
            "num_cpus": available_cpus() if local else None,
            "include_dashboard": False if local else None,
            "log_to_driver": False,
            "logging_level": logging.ERROR,
        }
        try:
            with _quiet_core():
                _init(options)
        except ConnectionError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"resources.address: no Ray cluster at {address}: {reason}") from None
    context = DataContext.get_current()
    context.enable_progress_bars = False
    pace(context)
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # its log file stays; what ends a job is raised anyway
            handler.setLevel(logging.CRITICAL)


def _init(options: dict[str, Any]) -> None:
    """ray.init, a second time where a busy machine has not started its processes within the 30 s that Ray waits."""
    try:
        ray.init(**options)
    except Exception as error:  # Ray has no class for it
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()
        ray.init(**options)


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Silences Ray's C++ side, which reports as errors on our stderr what it deals with itself (say, restarts).

    It tells on stderr even that it was silenced, so that is diverted meanwhile, and given back if the start fails.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as diverted:
        os.dup2(diverted.fileno(), 2)
        try:
            yield
        except BaseException:
            diverted.seek(0)
            os.write(stderr, diverted.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


# Ray Data's scheduling loop waits until a task is ready. A task with unconsumed output is always ready, so the loop
# spins on a whole core while outputs wait for a slower consumer. Fifty rounds a second start and finish all that is
# ready in each.
PAUSE_SECONDS = 0.02


class Pace(ExecutionCallback):
    """Pauses the loop after each of its rounds."""

    def on_execution_step(self, executor: object) -> None:
        time.sleep(PAUSE_SECONDS)


def pace(context: DataContext) -> None:
    """Gives the pace to all that is executed in a context."""
    context.custom_execution_callback_classes = [Pace]


def available_cpus() -> int:
    """The cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allocate(resources: ResourcesSection) -> Allocation:
    """Starts or joins Ray and fits the actors to it. Raises UserError if it cannot hold what was asked for."""
    start(resources.address)
    total = ray.cluster_resources()
    cpus, gpus = max(1, int(total.get("CPU", 1))), total.get("GPU", 0.0)
    gpus_per_actor = resources.gpus_per_actor
    if gpus_per_actor == "auto":
        gpus_per_actor = 1.0 if gpus else 0.0
    # On CPUs an actor a core: one-thread actors waste nothing on waiting for each other.
    room = int(gpus / gpus_per_actor) if gpus_per_actor else cpus
    if room < 1:
        raise UserError(
            f"resources.gpus_per_actor: {gpus_per_actor:g} asked for, but the cluster has {gpus:g}; lower it"
        )
    actors = room if resources.actors == "auto" else resources.actors
    if actors > room:
        raise UserError(f"resources.actors: {actors} asked for, but the cluster has room for {room}; lower it")
    # A reader for every two cores that the actors leave, or share.
    readers = max(1, (cpus - actors if gpus_per_actor else cpus) // 2)
    # Shared memory for some blocks on their way to each actor; half of it is others'.
    store = min(total.get("object_store_memory", 0.0) / 2, actors * STORE_BYTES_PER_ACTOR)
    return Allocation(actors, max(1, cpus // actors), gpus_per_actor, readers, int(store))


# A training worker's reserved share of the CPUs where it has no GPU; the loaders take theirs from what is left.
WORKER_CPUS = 0.5


@dataclass(frozen=True)
class TrainingAllocation:
    """How many training workers, and what each gets."""

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
    """Starts or joins Ray and fits the workers to it. Raises UserError if it cannot hold the least number of them.

    `pieces`: micro-batches of a batch; where the number is left to the cluster, every worker gets one at least.
    """
    start(resources.address)
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
        raise UserError(
            f"resources.workers: {least} asked for, but the cluster's {have} have room for {room}; "
            "lower it or gpus_per_worker"
        )
    return TrainingAllocation(least, most, max(1, int(cpus // most)), gpus_per_worker)
