"""The bulk job as one Ray Data chain: list → read → decode → [noise → denoise → score → write].

A row of the chain is one block of the manifest with its images inside (bulk/block.py), so one block in is one
result file out, whatever Ray does with rows. Pixels cross processes once, as integers. The last four steps share an
actor, so each block is written before the next one begins: a crash costs each actor one block at most.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset
from ray.util.annotations import RayDeprecationWarning

from imagewizard.bulk import block as blocks
from imagewizard.bulk import outputs, pending
from imagewizard.bulk.block import Block
from imagewizard.bulk.pending import BlockRange, Setting
from imagewizard.config.denoise import ActorConfig, ImagesSection
from imagewizard.distributed import cluster, readers, tries
from imagewizard.distributed.allocation import Allocation, nodes
from imagewizard.distributed.nodes import View
from imagewizard.errors import JobError, UserError, one_line
from imagewizard.images import picture
from imagewizard.images.decoding import quiet
from imagewizard.images.errors import ImageError
from imagewizard.runs import compaction, results
from imagewizard.schema import ERROR, REASON, STAGE, STATUS
from imagewizard.sources.reading import ImageReader, byte_limit
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
    """The chain over all that is left of a run. Its rows, by WRITTEN_SCHEMA, report each block as it is committed.

    `actor`: DenoiseActor or a stand-in, made with `config`. Disk and server errors in the chain are JobErrors.
    """
    ranges = ray.data.from_items([asdict(each) for each in work.ranges], override_num_blocks=len(work.ranges))
    cluster.configure(ranges.context)
    # Readers wait while this much lies between them and the actors.
    options = ranges.context.execution_options
    options.resource_limits = options.resource_limits.copy(object_store_memory=allocation.store_bytes)
    by_block = {"batch_size": 1, "batch_format": "pyarrow"}
    task = {"work": replace(work, ranges=[])}
    readers.follow_cluster(ranges.context, allocation.gpus_per_actor)
    reader = {**readers.options(nodes(), allocation.gpus_per_actor), "fn_kwargs": task}
    with warnings.catch_warnings():
        # Ray deprecates options that are no parameters of its maps; scheduling_strategy and max_task_retries are none.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return (
            ranges.flat_map(list_pending_blocks, **reader)
            .map_batches(read_images, **reader, **by_block)
            .map_batches(decode_images, **reader, **by_block)
            .map_batches(
                actor,
                fn_constructor_args=(config, task["work"]),
                compute=ActorPoolStrategy(
                    min_size=allocation.least, max_size=allocation.most, initial_size=allocation.actors
                ),
                num_cpus=allocation.cpus_per_actor,
                num_gpus=allocation.gpus_per_actor or None,
                max_task_retries=-1,  # `tries` counts
                **by_block,
            )
        )


@contextmanager
def storage_needed() -> Iterator[None]:
    """Turns an OSError into a JobError: without the disk or server that failed the job cannot go on."""
    try:
        yield
    except OSError as error:
        raise JobError(one_line(f"{type(error).__name__}: {error}")) from error


def list_pending_blocks(block_range: dict[str, Any], work: Work) -> Iterator[dict[str, Any]]:
    """The blocks of a BlockRange (as a dict) that are still to be done."""
    _check_view(work.view)
    with storage_needed():
        blocks_left = pending.pending_blocks(
            work.run, BlockRange(**block_range), work.settings, work.block_rows, work.retry_failed
        )
        for file, table in blocks_left:
            yield Block(file, table).pack().to_pylist()[0]


@cache
def _check_view(view: View | None) -> None:
    """Has the first task of each process look for the job's files."""
    if view is not None:
        view.check(with_models=False, later=True)


_reader = ImageReader()  # of this process, over all of its tasks


def read_images(row: pa.Table, work: Work) -> pa.Table:
    """Adds each image's encoded `data`, or the `stage` and `error` of the attempt."""
    _check_view(work.view)
    block = Block.unpack(row)
    with block.times.timed("read", time.process_time):
        contents = _reader.read(block.images.to_pylist(), byte_limit(work.max_pixels))
    errors = [one_line(each) if isinstance(each, OSError) else None for each in contents]
    data = [None if isinstance(each, OSError) else each for each in contents]
    table = block.images.append_column(blocks.DATA, pa.array(data, pa.large_binary()))
    table = table.append_column(STAGE, pa.array([error and "read" for error in errors], pa.string()))
    return replace(block, images=table.append_column(REASON, pa.array(errors, pa.string()))).pack()


def decode_images(row: pa.Table, work: Work) -> pa.Table:
    """Decodes `data` into pictures, up to PIXEL_BYTES; later images stay encoded, and the actor decodes them."""
    quiet()
    block = Block.unpack(row)
    rows = block.images.drop_columns(blocks.DATA).to_pylist()
    held = 0
    with block.times.timed("decode"):
        for index, image in enumerate(rows):
            data = block.images[blocks.DATA][index]
            if image[REASON] is not None:
                continue
            if held > blocks.PIXEL_BYTES:
                image[blocks.DATA] = memoryview(data.as_buffer())
                continue
            try:
                decoded = picture.decode(data.as_buffer(), work.max_pixels, work.keep)
            except ImageError as error:
                image |= {STAGE: "decode", REASON: str(error)}
                continue
            image |= blocks.picture_columns(decoded)
            held += decoded.nbytes
    return replace(block, images=pa.Table.from_pylist(rows, schema=blocks.DECODED_SCHEMA)).pack()


class DenoiseActor:
    """Denoises and commits blocks. Imports block_denoiser, and so torch, only in its own process."""

    def __init__(self, config: ActorConfig, work: Work) -> None:
        quiet()  # large images are decoded here
        self._work = work
        self._refusal: UserError | None = None
        try:
            if work.view is not None:
                work.view.check(with_models=True, later=True)
        except UserError as error:  # to be raised by the first call: Ray tells a constructor's errors only as text
            self._refusal = error
        else:
            self._denoise_block = self.load(config)

    def load(self, config: ActorConfig) -> Callable[[Block], Block]:
        """A function from a decoded block (blocks.DECODED_SCHEMA) to its result rows (blocks.DENOISED_SCHEMA)."""
        from imagewizard.bulk.block_denoiser import BlockDenoiser

        return BlockDenoiser(config)

    def __call__(self, row: pa.Table) -> pa.Table:
        if self._refusal is not None:
            raise self._refusal
        started = time.perf_counter()
        block = Block.unpack(row)
        with tries.counted(self._work.run, block.file.name):
            name, rows, failed = write_rows(self._denoise_block(block), self._work)
        return pa.table([[name], [rows], [failed], [time.perf_counter() - started]], schema=WRITTEN_SCHEMA)


# `seconds`: what the actor has spent on the block.
WRITTEN_SCHEMA = pa.schema(
    [("block", pa.string()), ("rows", pa.int64()), ("failed", pa.int64()), ("seconds", pa.float64())]
)


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
