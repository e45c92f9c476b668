"""The manifest of a run: its images, listed once, in Parquet shards, cut into blocks that commit together."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagewizard.errors import UserError
from imagewizard.images.formats import SUFFIXES
from imagewizard.manifest import index as manifest_index
from imagewizard.manifest import left_out, listing, queries
from imagewizard.manifest.filters import Filters
from imagewizard.manifest.index import ManifestIndex, shard_name
from imagewizard.manifest.tally import ListingProgress, Tally
from imagewizard.progress import Reporter, silent
from imagewizard.schema import BYTES, MEMBER, ROW, URI
from imagewizard.storage import Folder

if TYPE_CHECKING:
    import pyarrow.dataset as ds

# Large enough that 10^9 images make 15,000 shards, small enough (some 5 MB) for a worker to hold one at a time.
SHARD_ROWS = 65_536
# Bounds the encoded images of a block, which travel together, however large single images are.
BLOCK_BYTES = 64 << 20
# Taken for the size of an image whose size is unknown: 64 of them make a full block.
UNKNOWN_BYTES = 1 << 20


@dataclass(frozen=True)
class BlockSize:
    """How many rows a block gets that no config gives them to."""

    most_rows: int = 64
    """By default half a minute of work for an actor on one CPU core, at two images a second."""
    least_blocks: int = 16
    """A job of few images is cut into at least so many."""

    def rows(self, images: int) -> int:
        """Rows of a block, given the number of images in the first shard."""
        return max(1, min(self.most_rows, images // self.least_blocks))


def read_index(run: str) -> ManifestIndex | None:
    """The index of a run's manifest; None if its listing was not finished."""
    return manifest_index.read(Folder(run).uri_of("manifest"), is_ours=True)


def read_shard(run: str, shard: int) -> pa.Table:
    """The rows of one shard, by MANIFEST_SCHEMA."""
    return pq.read_table(pa.BufferReader(Folder(run).read(f"manifest/{shard_name(shard)}")))


def blocks(shard: pa.Table, block_rows: int) -> list[tuple[int, int]]:
    """[first, last) rows of each block of a shard. They depend on the shard alone, so that blocks keep their names.

    No block has images of two packed files, so a block opens one file.
    """
    edges = [0]
    held = 0
    files = _packed_in(shard)
    for row, size in enumerate(shard[BYTES].to_pylist()):
        size = UNKNOWN_BYTES if size is None else size
        is_full = row - edges[-1] == block_rows or held + size > BLOCK_BYTES
        if row > edges[-1] and (is_full or files[row] != files[row - 1]):
            edges.append(row)
            held = 0
        held += size
    return list(zip(edges, [*edges[1:], shard.num_rows], strict=True))


def _packed_in(shard: pa.Table) -> list[str | None]:
    """The packed file of each row; None for an image in a file of its own."""
    if shard[MEMBER].null_count == shard[ROW].null_count == shard.num_rows:
        return [None] * shard.num_rows
    columns = (shard[name].to_pylist() for name in (URI, MEMBER, ROW))
    return [None if member is row is None else uri for uri, member, row in zip(*columns, strict=True)]


class ShardWriter:
    """Writes tables of manifest rows as shards, and in the end the index that names them; memory holds one shard.

    A manifest that is in the folder stays the valid one until `finish` replaces its index.
    """

    def __init__(
        self,
        folder: Folder,
        block_rows: int | None = BlockSize.most_rows,
        generation: int = 0,
        check: Callable[[], None] = lambda: None,
        size: BlockSize = BlockSize(),
    ) -> None:
        """`block_rows` None: as `size` says, by the first shard.

        `generation` is part of the shards' names. `check` is called before each write, and raises what forbids it.
        """
        self._folder, self._block_rows, self._generation, self._check = folder, block_rows, generation, check
        self._size = size
        self._held: list[pa.Table] = []
        self._held_rows = self._images = self._bytes = 0
        self._blocks: list[int] = []

    def add(self, table: pa.Table) -> None:
        """Takes rows by MANIFEST_SCHEMA, and writes every shard that they fill."""
        self._held.append(table)
        self._held_rows += table.num_rows
        while self._held_rows >= SHARD_ROWS:
            rows = pa.concat_tables(self._held)
            self._write(rows.slice(0, SHARD_ROWS))
            self._held, self._held_rows = [rows.slice(SHARD_ROWS)], self._held_rows - SHARD_ROWS

    def finish(self, tally: Tally, **facts: Any) -> ManifestIndex:
        """Writes the last shard and the index, and returns it.

        `tally` is that of the listing, which counts images that filters left out too. `facts` are the index's fields
        source, filters and listed_at. Raises UserError, and leaves no shard, if there is no image or an id comes twice.
        """
        if self._held_rows:
            self._write(pa.concat_tables(self._held))
        if not self._images:
            others = f"{tally.filtered} that the filters drop" if tally.filtered else f"{tally.skipped} other files"
            raise UserError(f"there is no image to list, but {others}", "give another source or other filters")
        index = ManifestIndex(
            images=self._images,
            skipped=tally.skipped,
            block_rows=self._block_rows or self._size.most_rows,
            blocks=self._blocks,
            bytes=self._bytes,
            filtered=tally.filtered,
            left_out=tally.left_out_as_json(),
            generation=self._generation,
            **facts,
        )
        if tally.ids_are_given:
            try:
                _check_unique(queries.dataset(self._folder.uri, index.shards))
            except UserError:
                self._folder.delete(index.shards)
                raise
        self._check()
        manifest_index.write(self._folder, index)
        return index

    def _write(self, shard: pa.Table) -> None:
        if self._block_rows is None:
            self._block_rows = self._size.rows(shard.num_rows)
        sink = pa.BufferOutputStream()
        pq.write_table(shard, sink)
        self._check()
        self._folder.write(shard_name(len(self._blocks), self._generation), sink.getvalue())
        self._images += shard.num_rows
        self._bytes += pc.sum(shard[BYTES]).as_py() or 0
        self._blocks.append(len(blocks(shard, self._block_rows)))


def write(
    run: str,
    source: str | list[str],
    block_rows: int | None,
    check: Callable[[], None] = lambda: None,
    report: Reporter = silent,
    limit: int | None = None,
    level_column: str | None = None,
    size: BlockSize = BlockSize(),
) -> ManifestIndex:
    """Lists `source`, or its first `limit` images, into the run's manifest.

    `block_rows`, `check` and `size` are those of ShardWriter, `level_column` is that of listing.batches. `report` gets
    a line now and then, and in the end one for each kind of files that are left out. Raises UserError as
    listing.batches does.
    """
    tally, filters, listed_at = Tally(), Filters(limit=limit), now()
    writer = ShardWriter(Folder(run).subfolder("manifest"), block_rows, check=check, size=size)
    found = listing.batches(source, tally, in_order=limit is not None, level_column=level_column)
    with ListingProgress(tally, report), closing(found) as tables:
        for table in filters.keep(tables, tally):
            writer.add(table)
        index = writer.finish(tally, source=source, filters=filters.as_json(), listed_at=listed_at)
    for line in left_out.lines(index.left_out):
        report(line)
    return index


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _check_unique(manifest: "ds.Dataset | pa.Table") -> None:
    if (twice := queries.repeated_id(manifest)) is not None:
        first, second = sorted(map(_where, twice.rows))
        places = f"{first} and {second}" if first != second else f"{first} both times"
        what = f"image_id {twice.image_id!r} is given more than once, for {places}"
        raise UserError(what, "give each image an id of its own")


def _where(image: dict[str, Any]) -> str:
    if image[MEMBER] is not None:
        return f"{image[MEMBER]} in {image[URI]}"
    return str(image[URI]) if image[ROW] is None else f"row {image[ROW]} of {image[URI]}"


def check_source(source: str | list[str], level_column: str | None = None) -> pa.Table:
    """The first rows of `source`'s listing. Raises UserError as listing.batches does, or if it holds no image.

    Reads no more than it must. Ids that come twice are found among the first rows only; `write` looks at all of them.
    """
    tally = Tally()
    with closing(listing.batches(source, tally, level_column=level_column)) as tables:
        first = next((table for table in tables if table.num_rows), None)
    if first is None:
        suffixes = ", ".join(suffix[1:] for suffix in SUFFIXES)
        others = f", but {'; '.join(left_out.lines(tally.left_out_as_json()))}" if tally.skipped else ""
        fix = f"give a folder with {suffixes} files, tar shards of them, Parquet with a column of images, or a manifest"
        raise UserError(f"{source} holds no image{others}", fix)
    if tally.ids_are_given:
        _check_unique(first)
    return first
