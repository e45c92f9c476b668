"""The bulk job as one Ray Data chain: ranges of blocks → actors that read, decode, add noise, denoise, score and write.

An actor takes a range and commits its blocks one after the other, each as one result file. It works on several ranges
at once: while the device denoises a block, the next one is read and the last one is written. So a crash costs each
actor three blocks at most.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import chain

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset
from ray.util.annotations import RayDeprecationWarning

from imagewizard import gpu_usage
from imagewizard.bulk import one_by_one, outputs, pending
from imagewizard.bulk.allocator import keep_freed_memory
from imagewizard.bulk.block import Block
from imagewizard.bulk.pending import BlockRange, Setting, ShardBlocks
from imagewizard.bulk.shared_lock import SharedLock
from imagewizard.config.denoise import ActorConfig, ImagesSection
from imagewizard.distributed import cluster
from imagewizard.distributed.allocation import BLOCKS_AT_ONCE, Allocation
from imagewizard.distributed.block_readers import Readers, Reading
from imagewizard.distributed.block_report import BlockReport
from imagewizard.distributed.nodes import View
from imagewizard.errors import JobError, UserError, one_line
from imagewizard.gpu_usage import GpuUsage
from imagewizard.images.decoding import quiet
from imagewizard.runs import compaction, results
from imagewizard.runs.results import BlockFile, ShardFile
from imagewizard.schema import ERROR, STATUS
from imagewizard.storage import Folder


@dataclass(frozen=True)
class Work:
    """What is left of a run, and what the chain must know to do it."""

    run: str
    ranges: list[BlockRange]
    settings: list[Setting]
    block_rows: int
    retry_failed: bool
    max_pixels: int
    images: ImagesSection | None
    keep: bool
    """Whether images are restored: then they keep their bit depth, grey, alpha and metadata."""
    view: View | None = None
    """What each node must see, on a cluster. Also those that join later: their rows would be errors, or be lost."""


def build(work: Work, actor: type["DenoiseActor"], config: ActorConfig, allocation: Allocation) -> Dataset:
    """The chain over all that is left of a run. Each BlockReport comes as its block is committed.

    `actor`: DenoiseActor or a stand-in, made with `config`. Disk and server errors in the chain are JobErrors.
    """
    ranges = ray.data.from_items([asdict(each) for each in work.ranges], override_num_blocks=len(work.ranges))
    cluster.configure(ranges.context, cluster.SlowPace)
    # A pool that may grow does so where each actor works on as much as it can.
    ranges.context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    reading = Reading(
        work.run,
        work.max_pixels,
        work.keep,
        allocation.readers_per_actor,
        allocation.gpus_per_actor,
        allocation.pixel_bytes,
        work.view,
    )
    with warnings.catch_warnings():
        # Ray deprecates options that are no parameters of its maps; max_task_retries is none.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return ranges.map_batches(
            actor,
            fn_constructor_args=(config, replace(work, ranges=[]), reading),
            compute=ActorPoolStrategy(
                min_size=allocation.least,
                max_size=allocation.most,
                initial_size=allocation.actors,
                max_tasks_in_flight_per_actor=BLOCKS_AT_ONCE + 1,
                max_concurrent_calls_per_actor=BLOCKS_AT_ONCE,
                enable_true_multi_threading=True,
            ),
            num_cpus=allocation.cpus_per_actor,
            num_gpus=allocation.gpus_per_actor or None,
            max_task_retries=-1,  # blame.py counts
            batch_size=1,
            batch_format="pyarrow",
        )


@contextmanager
def storage_needed() -> Iterator[None]:
    """Turns an OSError into a JobError: without the disk or server that failed the job cannot go on."""
    try:
        yield
    except OSError as error:
        raise JobError(one_line(f"{type(error).__name__}: {error}")) from error


class DenoiseActor:
    """Denoises and commits ranges of blocks. Imports block_denoiser, and so torch, only in its own process."""

    def __init__(self, config: ActorConfig, work: Work, reading: Reading) -> None:
        quiet()
        keep_freed_memory()
        self._work = work
        # Ranges that follow each other have the same shard.
        self._shard = lru_cache(maxsize=2)(partial(ShardBlocks.read, work.run, work.block_rows))
        self._refusal: UserError | None = None
        try:
            if work.view is not None:
                work.view.check(with_models=True, later=True)
        except UserError as error:  # to be raised by the first call: Ray tells a constructor's errors only as text
            self._refusal = error
        else:
            self._reading, self._readers, self._lock = reading, Readers(reading), SharedLock()
            self._denoise_block = self.load(config)

    def load(self, config: ActorConfig) -> Callable[[Block], Block]:
        """A function that makes the rows of a block after reading.

        Several threads call it, each with a block of its own.
        """
        from imagewizard.bulk.block_denoiser import BlockDenoiser

        return BlockDenoiser(config)

    def __call__(self, row: pa.Table) -> Iterator[pa.Table]:
        """Commits the blocks of a range (a BlockRange as a row), and reports each.

        As often as Ray calls this for a range, because an actor died, it reports the same blocks in the same order:
        Ray leaves out as many reports as it has already.
        """
        if self._refusal is not None:
            raise self._refusal
        [block_range] = (BlockRange(**each) for each in row.to_pylist())
        done, left = self._pending(block_range)
        yield from done
        for block, watch in self._readers.ahead(left, self._lock):
            started = time.perf_counter()
            if watch.is_careful:
                with self._lock.alone(), watch.at_work():
                    denoised = one_by_one.denoise(
                        block, self._reading.reader(), self._denoise_block, watch.blamed, watch.image
                    )
            else:
                with self._lock.shared(), watch.at_work():
                    denoised = self._denoise_block(block)
            name, rows, failed = write_rows(denoised, self._work)
            watch.end()
            spent = time.perf_counter() - started
            yield BlockReport(name, rows, failed, spent, self._gpu_usage()).packed()

    def _gpu_usage(self) -> GpuUsage | None:
        """That of the actor's GPU. Reading it imports torch, which an actor without a GPU may do without."""
        return gpu_usage.read() if self._reading.gpus_per_actor else None

    def _pending(self, block_range: BlockRange) -> tuple[list[pa.Table], Iterator[Block]]:
        """Reports on the range's first blocks, which another actor has committed before it died; and all others."""
        work, done = self._work, list[pa.Table]()
        with storage_needed():
            shard = self._shard(block_range.shard)
            left = pending.pending_blocks(work.run, block_range, shard, work.settings, work.retry_failed)
            for file, table in left:
                if (there := _committed(work.run, file)) is None:
                    rest = chain([(file, table)], left)
                    return done, (Block(file, table.to_pylist()) for file, table in rest)
                done.append(there)
        return done, iter(())


def _committed(run: str, file: BlockFile) -> pa.Table | None:
    """The report on a block whose rows are there already; None if they are not."""
    try:
        states = results.read_columns(run, file.name, [STATUS])[STATUS].to_pylist()
    except FileNotFoundError:
        if not Folder(run).exists(f"results/{ShardFile(file.shard, file.attempt).name}"):
            return None
        states = []  # compacted, so it has been reported before
    return BlockReport(file.name, len(states), states.count(ERROR), 0.0).packed()


def write_rows(block: Block, work: Work) -> tuple[str, int, int]:
    """Writes a block's images, then its rows to the file that is named after it, unless a twin of this task has.

    Returns the file's name, and how many rows it has and how many of them failed.

    A twin is the same task run again by Ray, or by another driver's worker that is not dead yet. Raises JobError if
    the disk or server refuses to write.
    """
    with storage_needed():
        rows = outputs.write(block, work.run, work.images)
        data = results.encode(rows, {"stage_seconds": block.times.wall, "stage_cpu_seconds": block.times.cpu})
        if not Folder(work.run).write_new(f"results/{block.file.name}", data):
            with suppress(FileNotFoundError):  # compacted already; an image too many does no harm
                committed, _ = results.read(work.run, block.file.name)
                outputs.discard(rows, committed, work.images)
    failed = rows[STATUS].to_pylist().count(ERROR)
    return block.file.name, rows.num_rows, failed


# It takes a second of one core a shard, and reserves no CPU: the chain has reserved them all.
@ray.remote(num_cpus=0)
def compact_shard(run: str, shard: int, names: list[str], levels: int) -> None:
    """compaction.compact on a worker. Raises JobError if the disk or server fails."""
    with storage_needed():
        compaction.compact(run, shard, names, levels)
