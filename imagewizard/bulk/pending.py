"""What is left of a run: which ranges of blocks a task takes, and which images of them are still to be done."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imagewizard.bulk.block import ATTEMPTS, SETTINGS, WORK_SCHEMA
from imagewizard.manifest import shards
from imagewizard.runs import results
from imagewizard.runs.results import BlockFile, ResultFiles, ShardFile
from imagewizard.schema import ATTEMPT, ERROR, IMAGE_ID, KEY, NOISE_PARAMS, SIGMA, STATUS

# What tells the rows of an image apart: their noise_params and sigma.
Setting = tuple[str, float | None]

# A thousand tasks keep any cluster busy; a task of a large job takes several blocks, one after the other. The tasks of
# its last tenth are smaller, so that all actors end at about the same time.
MAX_RANGES = 1000
LAST, SMALLER = 0.1, 8


@dataclass(frozen=True)
class BlockRange:
    """The blocks [first, last) of a shard, which one task takes, and the result files that they have already."""

    shard: int
    first: int
    last: int
    files: list[str]


def block_ranges(block_counts: list[int], files: ResultFiles, retried: set[int]) -> list[BlockRange]:
    """The ranges that are not done yet, given each shard's block count; all ranges of the shards to be `retried`.

    Some 2 MAX_RANGES at most, and one more a shard, so that what the driver holds does not grow with the job.
    """
    total = sum(block_counts)
    size = max(1, math.ceil(total / MAX_RANGES))
    before = 0
    found = []
    for shard, count in enumerate(block_counts):
        before += count
        step = size if before <= (1 - LAST) * total else max(1, size // SMALLER)
        if shard in files.shards and shard not in retried:
            continue
        whole = [files.shards[shard].name] if shard in files.shards else []
        done: dict[int, list[BlockFile]] = {}
        for file in files.blocks.get(shard, []):
            done.setdefault(file.block // step, []).append(file)
        for first in range(0, count, step):
            last = min(first + step, count)
            there = done.get(first // step, [])
            if shard in retried or len({file.block for file in there}) < last - first:
                found.append(BlockRange(shard, first, last, whole + [file.name for file in there]))
    return found


@dataclass(frozen=True)
class ShardBlocks:
    """A shard of the manifest, and where its blocks begin and end."""

    rows: pa.Table
    edges: list[tuple[int, int]]

    @classmethod
    def read(cls, run: str, block_rows: int, shard: int) -> "ShardBlocks":
        """Raises OSError."""
        rows = shards.read_shard(run, shard)
        return cls(rows, shards.blocks(rows, block_rows))


def pending_blocks(
    run: str, block_range: BlockRange, shard: ShardBlocks, settings: list[Setting], retry_failed: bool
) -> Iterator[tuple[BlockFile, pa.Table]]:
    """What is left of a range: blocks, each with its images by WORK_SCHEMA.

    `shard`: the range's. `settings`: those of the noises that are added; none in a restoration, in which an image has
    one row. A block without rows is to be done. A block with rows is done, unless failed rows are to be retried: then
    its next attempt are the images and settings whose current row is an error.
    """
    whole = [each for name in block_range.files if (each := ShardFile.parse(name))]
    done: dict[int, list[BlockFile]] = {}
    for name in block_range.files:
        if (block := BlockFile.parse(name)) is not None:
            done.setdefault(block.block, []).append(block)
    every = list(range(len(settings) or 1))
    failed = _failed(run, block_range.files, settings) if retry_failed and block_range.files else {}
    for number in range(block_range.first, block_range.last):
        first, last = shard.edges[number]
        images = shard.rows.slice(first, last - first)
        earlier: list[ShardFile | BlockFile] = [*whole, *done.get(number, [])]
        if not earlier:
            work = [image | {SETTINGS: every, ATTEMPTS: [1] * len(every)} for image in images.to_pylist()]
        else:
            work = [image | failed[image[IMAGE_ID]] for image in images.to_pylist() if image[IMAGE_ID] in failed]
        if work:
            attempt = max((file.attempt for file in earlier), default=0) + 1
            yield BlockFile(block_range.shard, number, attempt), pa.Table.from_pylist(work, schema=WORK_SCHEMA)


def _failed(run: str, names: list[str], settings: list[Setting]) -> dict[str, dict[str, Any]]:
    """{image_id: {settings, attempts}} of the keys whose current row, the last attempt's, is an error."""
    places = {setting: index for index, setting in enumerate(settings)}
    current: dict[tuple[str, int], tuple[int, str]] = {}
    for name in names:
        table = results.read_columns(run, name, [*KEY, ATTEMPT, STATUS])
        retried_or_failed = (pc.field(ATTEMPT) > 1) | (pc.field(STATUS) == ERROR)
        for row in table.filter(retried_or_failed).to_pylist():
            key = row[IMAGE_ID], places[row[NOISE_PARAMS], row[SIGMA]] if settings else 0
            current[key] = max(current.get(key, (0, "")), (row[ATTEMPT], row[STATUS]))
    failed: dict[str, dict[str, Any]] = {}
    for (image_id, place), (attempt, status) in current.items():
        if status == ERROR:
            work = failed.setdefault(image_id, {SETTINGS: [], ATTEMPTS: []})
            work[SETTINGS].append(place)
            work[ATTEMPTS].append(attempt + 1)
    return failed
