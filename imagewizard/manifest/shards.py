"""The manifest: what a run sets out to do, listed once, in Parquet shards, cut into blocks that commit together."""

from collections.abc import Callable, Iterator
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
from imagewizard.manifest import listing, queries
from imagewizard.manifest.index import ManifestIndex, shard_name
from imagewizard.manifest.tally import ListingProgress, Tally
from imagewizard.progress import Reporter, silent
from imagewizard.schema import BYTES, MEMBER, ROW, URI
from imagewizard.storage import Folder

if TYPE_CHECKING:
    import pyarrow.dataset as ds

# Large enough that 10^9 images make 15,000 shards, small enough (some 5 MB) for a worker to hold one at a time.
SHARD_ROWS = 65_536
# A block's encoded images travel together: this bounds them, however large the single ones are.
BLOCK_BYTES = 64 << 20
# For the same bound where a manifest does not tell sizes: 64 images of a megabyte make a full block.
UNKNOWN_BYTES = 1 << 20

# Half a minute of work for an actor on one CPU core, at two images a second.
BLOCK_ROWS = 64
# A job of few images is cut into at least this many blocks.
SMALL_JOB_BLOCKS = 16


def read_index(run: str) -> ManifestIndex | None:
    """The index of a run's manifest; None if its listing was not finished."""
    return manifest_index.read(Folder(run).uri_of("manifest"))


def read_shard(run: str, shard: int) -> pa.Table:
    """The rows of one shard, by MANIFEST_SCHEMA."""
    return pq.read_table(pa.BufferReader(Folder(run).read(f"manifest/{shard_name(shard)}")))


def blocks(shard: pa.Table, block_rows: int) -> list[tuple[int, int]]:
    """[first, last) rows of each block of a shard: a function of the shard alone, so that names stay fixed.

    No block has images of two packed files, so that reading one opens one.
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


@dataclass(frozen=True)
class Target:
    """Where a manifest is written."""

    folder: Folder
    generation: int = 0


def write(
    run: str,
    source: str | list[str],
    block_rows: int | None,
    check: Callable[[], None] = lambda: None,
    report: Reporter = silent,
) -> ManifestIndex:
    """Lists `source` into the run's manifest, a shard at a time. Raises UserError if it cannot be listed.

    `block_rows` None: as many as a crash may cost, but fewer for a small job, so that every actor gets some. `check` is
    called before each write, and raises what shall prevent it. `report` is told how far the listing is.
    """
    tally = Tally()
    facts = {"source": source, "listed_at": now()}
    target = Target(Folder(run).subfolder("manifest"))
    with ListingProgress(tally, report):
        return write_to(target, listing.batches(source, tally), tally, block_rows, facts, check)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_to(
    target: Target,
    tables: Iterator[pa.Table],
    tally: Tally,
    block_rows: int | None,
    facts: dict[str, Any],
    check: Callable[[], None] = lambda: None,
) -> ManifestIndex:
    """Writes `tables` as shards, and last the index, with `facts` for its other fields; memory holds one shard.

    `tables` may be fewer than `tally` counts, which filters did then. Raises UserError, and leaves no shard, if there
    is no image or an id comes twice.
    """
    images = known_bytes = 0
    block_counts: list[int] = []
    for table in _shards(tables):
        if block_rows is None:
            block_rows = max(1, min(BLOCK_ROWS, table.num_rows // SMALL_JOB_BLOCKS))
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        name = shard_name(len(block_counts), target.generation)
        check()
        target.folder.write(name, sink.getvalue())
        images += table.num_rows
        known_bytes += pc.sum(table[BYTES]).as_py() or 0
        block_counts.append(len(blocks(table, block_rows)))
    if not images:
        left_out = f"{tally.images} that the filters drop" if tally.images else f"{tally.skipped} other files"
        raise UserError(f"input: there is no image to list, but {left_out}; give another source or other filters")
    index = ManifestIndex(
        images=images,
        skipped=tally.skipped,
        block_rows=block_rows or BLOCK_ROWS,
        blocks=block_counts,
        bytes=known_bytes,
        filtered=tally.images - images,
        generation=target.generation,
        **facts,
    )
    if tally.ids_are_given:
        try:
            _check_unique(queries.dataset(target.folder.uri, index.shards))
        except UserError:
            target.folder.delete(index.shards)
            raise
    check()
    manifest_index.write(target.folder, index)
    return index


def _check_unique(manifest: "ds.Dataset | pa.Table") -> None:
    if (twice := queries.repeated_id(manifest)) is not None:
        raise UserError(f"input: image_id {twice!r} is given more than once; ids must be unique")


def _shards(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        while rows >= SHARD_ROWS:
            whole = pa.concat_tables(held)
            yield whole.slice(0, SHARD_ROWS)
            held, rows = [whole.slice(SHARD_ROWS)], rows - SHARD_ROWS
    if rows:
        yield pa.concat_tables(held)


def check_source(source: str | list[str]) -> None:
    """Raises UserError unless `source` exists and holds at least one image; reads no more than it must.

    Ids that come twice are found among the first rows only; `write` looks at all of them.
    """
    tally = Tally()
    with closing(listing.batches(source, tally)) as tables:
        first = next((table for table in tables if table.num_rows), None)
    if first is None:
        suffixes = ", ".join(suffix[1:] for suffix in SUFFIXES)
        others = f" ({tally.skipped} other files, {tally.examples[0]} among them)" if tally.skipped else ""
        raise UserError(
            f"input: {source} holds no image{others}; give a folder with {suffixes} files, tar shards of them, "
            "Parquet with a column of images, or a Parquet manifest"
        )
    if tally.ids_are_given:
        _check_unique(first)
