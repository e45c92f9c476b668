"""Where the blocks of an actor are read and decoded: in its own threads, or in tasks on other cores and nodes.

An actor on a CPU reads its blocks itself, which costs no process and no copy. For a GPU, which denoises more images
than one process can decode, tasks do it, also on nodes without GPUs.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pyarrow as pa
import ray

from imagewizard.bulk import overlap
from imagewizard.bulk.block import Block
from imagewizard.bulk.block_reader import BlockReader
from imagewizard.bulk.shared_lock import SharedLock
from imagewizard.distributed import readers
from imagewizard.distributed.allocation import nodes
from imagewizard.distributed.blame import Watch
from imagewizard.distributed.nodes import View
from imagewizard.images.decoding import quiet


@dataclass(frozen=True)
class Reading:
    """How an actor reads its blocks."""

    run: str
    max_pixels: int
    keep: bool
    """As those of BlockReader."""
    at_once: int
    """Blocks that are read at the same time for one actor."""
    gpus_per_actor: float
    """0: in the actor."""
    pixel_bytes: int
    view: View | None
    """What each node must see, on a cluster; of the readers' too."""

    def reader(self) -> BlockReader:
        """A reader for blocks that follow each other."""
        return BlockReader(self.max_pixels, self.keep, self.pixel_bytes)


class Readers:
    """Reads blocks of one actor ahead of their use. Thread-safe."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._pool = ThreadPoolExecutor(reading.at_once, "reader")
        self._where: dict[str, Any] = {}
        self._looked_at = -readers.FRESH_SECONDS

    def ahead(self, blocks: Iterable[Block], lock: SharedLock) -> Iterator[tuple[Block, Watch]]:
        """The blocks in order, each with its record, read and decoded unless that says to do it carefully.

        While one is in use the next one is read, and no more. `lock` is shared while the actor itself reads.
        """
        read = self._elsewhere if self._reading.gpus_per_actor else partial(_here, self._reading.reader(), lock)
        return overlap.ahead(self._pool, partial(self._watched, read), blocks, 1)

    def _watched(self, read: Callable[[Block, Watch], Block], block: Block) -> tuple[Block, Watch]:
        watch = Watch(self._reading.run, block.file.name)
        if watch.is_careful:
            return block, watch
        try:
            return read(block, watch), watch
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError:  # the reader's process has ended, and Ray's second try as well
            watch.is_careful = True
            return block, watch

    def _elsewhere(self, block: Block, watch: Watch) -> Block:
        """A block, read by a task."""
        if time.monotonic() - self._looked_at > readers.FRESH_SECONDS:
            self._looked_at = time.monotonic()
            self._where = readers.placement(nodes(), self._reading.gpus_per_actor)
        return Block.unpack(ray.get(_read_block.options(**self._where).remote(self._reading, block.pack())))


def _here(reader: BlockReader, lock: SharedLock, block: Block, watch: Watch) -> Block:
    with lock.shared(), watch.at_work():
        return reader(block)


@ray.remote(max_retries=1)
def _read_block(reading: Reading, packed: pa.Table) -> pa.Table:
    quiet()
    _check_view(reading.view)
    return _reader(reading)(Block.unpack(packed)).pack()


@cache
def _reader(reading: Reading) -> BlockReader:
    """That of this process, for all its tasks of a job: it goes on in a Parquet file where it was."""
    return reading.reader()


@cache
def _check_view(view: View | None) -> None:
    """Has the first task of each process look for the job's files."""
    if view is not None:
        view.check(with_models=False, later=True)
