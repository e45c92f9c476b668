"""Blocks of work: a few dozen images of one manifest shard that travel, and commit, together.

Between stages a block is one row of two columns: its result file's name, and its images as an Arrow IPC stream. Ray
Data neither splits nor merges what it cannot see into, and reading the stream copies nothing.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imagewizard import manifest, storage
from imagewizard.results import BlockFile
from imagewizard.schema import BYTES, ERROR, IMAGE_ID, KEY, URI

BLOCK_SCHEMA = pa.schema([pa.field("block", pa.string()), pa.field("images", pa.large_binary())])

# A thousand tasks keep any cluster busy; a task of a large job takes several blocks, one after the other.
MAX_PIECES = 1000

SIGMAS = "sigmas"
WORK_SCHEMA = pa.schema(
    [
        pa.field(IMAGE_ID, pa.string()),
        pa.field(URI, pa.string()),
        pa.field(BYTES, pa.int64()),
        pa.field(SIGMAS, pa.list_(pa.float64())),  # levels still to do; [null] in restoration mode without a level
    ]
)

# After reading and decoding: either `pixels`, or `data` still encoded, or `stage` and `error`.
DECODED_SCHEMA = pa.schema(
    [
        *WORK_SCHEMA,
        pa.field("data", pa.large_binary()),
        pa.field("stage", pa.string()),
        pa.field("error", pa.string()),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("pixels", pa.large_binary()),  # uint8, height x width x 3, row by row
    ]
)


def pack(block: BlockFile, images: pa.Table) -> pa.Table:
    """A block as one row by BLOCK_SCHEMA."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, images.schema) as writer:
        writer.write_table(images)
    array = pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(_offsets(sink.tell())), sink.getvalue()])
    return pa.table([pa.array([block.name]), array], schema=BLOCK_SCHEMA)


def _offsets(length: int) -> bytes:
    return (0).to_bytes(8, "little") + length.to_bytes(8, "little")


def unpack(row: pa.Table) -> tuple[BlockFile, pa.Table]:
    """The inverse of `pack`; the images' buffers are views into the row's."""
    block = BlockFile.parse(row["block"][0].as_py())
    assert block is not None, "written by pack"
    return block, pa.ipc.open_stream(row["images"][0].as_buffer()).read_all()


@dataclass(frozen=True)
class Piece:
    """A part of a shard, as one task takes it: the blocks [first, last) and the result files that they have already."""

    shard: int
    first: int
    last: int
    files: list[str]


def pieces(block_counts: list[int], files: list[str], retry_failed: bool) -> list[Piece]:
    """All in which something is, or with `retry_failed` may be, left to do, given each shard's number of blocks.

    At most MAX_PIECES, and one more a shard, so that what the driver holds does not grow with the job.
    """
    size = max(1, math.ceil(sum(block_counts) / MAX_PIECES))
    done: dict[tuple[int, int], list[BlockFile]] = defaultdict(list)
    for name in files:
        if (file := BlockFile.parse(name)) is not None:
            done[file.shard, file.block // size].append(file)
    found = []
    for shard, count in enumerate(block_counts):
        for first in range(0, count, size):
            last = min(first + size, count)
            there = done[shard, first // size]
            if retry_failed or len({file.block for file in there}) < last - first:
                found.append(Piece(shard, first, last, sorted(file.name for file in there)))
    return found


def pending(
    run: str, piece: Piece, sigmas: list[float | None], block_rows: int, retry_failed: bool
) -> Iterator[tuple[BlockFile, pa.Table]]:
    """What is left of a piece: blocks, each with its images by WORK_SCHEMA.

    A block without a file is to be done; one with a file is done, unless failed rows are to be retried: then the
    images and levels whose current row is an error make up the block's next attempt.
    """
    rows = manifest.read_shard(run, piece.shard)
    done: dict[int, list[BlockFile]] = defaultdict(list)
    for name in piece.files:
        file = BlockFile.parse(name)
        assert file is not None, "pieces holds only names that parse"
        done[file.block].append(file)
    edges = manifest.blocks(rows, block_rows)
    for number in range(piece.first, piece.last):
        first, last = edges[number]
        images = rows.slice(first, last - first)
        if number not in done:
            levels = pa.array([sigmas] * images.num_rows, pa.list_(pa.float64()))
            yield BlockFile(piece.shard, number, 1), images.append_column(SIGMAS, levels).cast(WORK_SCHEMA)
        elif retry_failed and (failed := _failed(run, done[number])):
            kept = [row | {SIGMAS: failed[row[IMAGE_ID]]} for row in images.to_pylist() if row[IMAGE_ID] in failed]
            attempt = max(file.attempt for file in done[number]) + 1
            yield BlockFile(piece.shard, number, attempt), pa.Table.from_pylist(kept, schema=WORK_SCHEMA)


def _failed(run: str, files: list[BlockFile]) -> dict[str, list[float | None]]:
    """{image_id: levels} of the keys whose current row, the last attempt's, is an error."""
    current: dict[tuple[Any, ...], str] = {}
    for file in sorted(files, key=lambda f: f.attempt):
        data = storage.read_bytes(storage.join(run, "results", file.name))
        for row in pq.read_table(pa.BufferReader(data), columns=[*KEY, "status"]).to_pylist():
            current[row[IMAGE_ID], row["sigma"]] = row["status"]
    failed: dict[str, list[float | None]] = {}
    for (image_id, sigma), status in current.items():
        if status == ERROR:
            failed.setdefault(image_id, []).append(sigma)
    return failed
