"""The result files of a run: their names, which of them count, and their rows.

Rows are committed in small files, one a block. Once all blocks of a manifest shard are there, one file takes their
place (compaction.py): it counts from the moment it is there, and the files that it replaces no longer count, even
before they are deleted.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from imagewizard import storage
from imagewizard.errors import UserError, one_line
from imagewizard.schema import RESULT_SCHEMA
from imagewizard.storage import Folder

if TYPE_CHECKING:
    import pyarrow.dataset as ds

# Files of at most this size, uncompressed, are read as a whole: some 100,000 rows.
IN_MEMORY_BYTES = 32 << 20
IN_MEMORY_FILES = 64
# Footers and small files are latency, not work.
READ_THREADS = 16

_BLOCK = re.compile(r"s([0-9]{5,})-b([0-9]{6,})-a([0-9]{2,})\.parquet")
_SHARD = re.compile(r"s([0-9]{5,})-c([0-9]{2,})\.parquet")


@dataclass(frozen=True)
class BlockFile:
    """The file of one block of a manifest shard, from one attempt at it: 1, then one more for each retry."""

    shard: int
    block: int
    attempt: int

    @property
    def name(self) -> str:
        return f"s{self.shard:05d}-b{self.block:06d}-a{self.attempt:02d}.parquet"

    @classmethod
    def parse(cls, name: str) -> "BlockFile | None":
        """The block that a file's name stands for; None for any other name."""
        match = _BLOCK.fullmatch(name)
        if not match:
            return None
        block = cls(*map(int, match.groups()))
        return block if block.name == name else None  # a block has one name: s000001 is not shard 1


@dataclass(frozen=True)
class ShardFile:
    """The file with all rows of a manifest shard, from every attempt up to this one."""

    shard: int
    attempt: int

    @property
    def name(self) -> str:
        # Sorts after the names of the shard's blocks: a listing in the order of names, made while blocks are being
        # replaced, has the blocks or this file.
        return f"s{self.shard:05d}-c{self.attempt:02d}.parquet"

    @classmethod
    def parse(cls, name: str) -> "ShardFile | None":
        """The shard that a file's name stands for; None for any other name."""
        match = _SHARD.fullmatch(name)
        if not match:
            return None
        shard = cls(*map(int, match.groups()))
        return shard if shard.name == name else None


def parse(name: str) -> BlockFile | ShardFile | None:
    """The block or shard that a result file's name stands for; None for any other name."""
    return BlockFile.parse(name) or ShardFile.parse(name)


class ResultFiles:
    """Which of the files in a results folder count."""

    def __init__(self, names: Iterable[str]) -> None:
        self.shards: dict[int, ShardFile] = {}
        """{shard: its whole file}, for shards that have one."""
        self.blocks: dict[int, list[BlockFile]] = defaultdict(list)
        """{shard: its blocks' files}, by block and attempt; later attempts only where the shard has a whole file."""
        self.superseded: list[str] = []
        """Files whose rows are in another file too."""
        names = sorted(names)  # so the last of a shard's whole files is that of the last attempt
        for name in names:
            if (shard := ShardFile.parse(name)) is not None:
                if shard.shard in self.shards:
                    self.superseded.append(self.shards[shard.shard].name)
                self.shards[shard.shard] = shard
        for name in names:
            if (block := BlockFile.parse(name)) is not None:
                whole = self.shards.get(block.shard)
                if whole is not None and block.attempt <= whole.attempt:
                    self.superseded.append(name)
                else:
                    self.blocks[block.shard].append(block)

    @property
    def names(self) -> list[str]:
        """The files that count, sorted: together they hold each row of the run once."""
        blocks = [block.name for files in self.blocks.values() for block in files]
        return sorted([*blocks, *(shard.name for shard in self.shards.values())])

    def of_shard(self, shard: int) -> list[str]:
        """The files of one shard that count."""
        whole = [self.shards[shard].name] if shard in self.shards else []
        return whole + [block.name for block in self.blocks.get(shard, [])]


def listing(run: str) -> ResultFiles:
    """The result files of a run; no row that was there at the call is missing. Raises OSError."""
    folder = Folder(run)
    names = folder.list("results", ".parquet")
    # A listing during a compaction may miss both the new file and those that it replaces. Then the next listing lacks
    # names that this one has, and we list again. New names alone are no reason to: a running job never stops adding.
    while not set(names) <= set(again := folder.list("results", ".parquet")):
        names = again
    return ResultFiles(again)


def result_files(run: str) -> list[str]:
    """Names, sorted, of the result files of a run that count.

    Raises UserError if `run` is no run folder (has neither job.yaml nor result files) or cannot be listed.
    """
    try:
        names = listing(run).names
        is_run = bool(names) or Folder(run).exists("job.yaml")
    except OSError as error:
        raise UserError(f"{run} cannot be listed: {one_line(error)}", "check the address and try again") from None
    if not is_run:
        raise UserError(f"{run}: no run folder (no job.yaml, no results in it)", "give the `output` of a denoise job")
    return names


def rows(run: str, names: list[str]) -> "dict[str, pa.Table] | None":
    """{name: its rows by RESULT_SCHEMA}; None if they may be too many for the memory. Raises OSError.

    For small runs, which people look at while they wait: `dataset` imports pandas, which takes longer than reading.
    """
    if len(names) > IN_MEMORY_FILES:
        return None
    with ThreadPoolExecutor(READ_THREADS) as pool, ExitStack() as stack:
        streams = list(pool.map(lambda name: stack.enter_context(Folder(run).open(f"results/{name}")), names))
        files = list(pool.map(pq.ParquetFile, streams))
        sizes = (file.metadata.row_group(n).total_byte_size for file in files for n in range(file.num_row_groups))
        if sum(sizes) > IN_MEMORY_BYTES:
            return None
        return dict(zip(names, pool.map(lambda file: _by_schema(file.read()), files), strict=True))


def _by_schema(table: pa.Table) -> pa.Table:
    """Rows by RESULT_SCHEMA: columns that an older version did not write are null."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.schema.names else pa.nulls(len(table), field.type)
        for field in RESULT_SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=RESULT_SCHEMA)


def dataset(run: str, names: list[str]) -> "ds.Dataset":
    """The rows of these result files of a run, by RESULT_SCHEMA; nothing is read before it is scanned."""
    import pyarrow.dataset as ds  # it imports pandas, which takes as long as the rest of a command

    if not names:
        return ds.dataset(RESULT_SCHEMA.empty_table())
    filesystem, folder = storage.resolve(Folder(run).uri_of("results"))
    paths = [f"{folder}/{name}" for name in names]
    return ds.dataset(paths, schema=RESULT_SCHEMA, format="parquet", filesystem=filesystem)


# A key in the metadata of a file's Arrow schema. Its value is JSON: `stage_seconds` of a block, or the fields of a
# shard's Totals.
_NOTES = b"imagewizard"


def encode(rows: pa.Table, notes: dict[str, Any]) -> pa.Buffer:
    """The bytes of a result file."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata({_NOTES: json.dumps(notes)}), sink)
    return sink.getvalue()


def read(run: str, name: str) -> tuple[pa.Table, dict[str, Any]]:
    """A result file's rows, by RESULT_SCHEMA, and its notes. Raises OSError."""
    table = pq.ParquetFile(pa.BufferReader(Folder(run).read(f"results/{name}"))).read()
    return _by_schema(table), json.loads((table.schema.metadata or {}).get(_NOTES, b"{}"))


def read_notes(run: str, name: str) -> dict[str, Any]:
    """A result file's notes alone, from its footer. Raises OSError."""
    with Folder(run).open(f"results/{name}") as stream:
        return dict(json.loads(pq.read_schema(stream).metadata[_NOTES]))


def read_columns(run: str, name: str, columns: list[str]) -> pa.Table:
    """Some columns of a result file's rows; reads no more than these. Raises OSError."""
    with Folder(run).open(f"results/{name}") as stream, pq.ParquetFile(stream) as file:
        return file.read(columns)
