"""The manifest: what a run sets out to do, listed once, in Parquet shards, cut into blocks that commit together."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.images import is_image_name
from imagewizard.schema import BYTES, IMAGE_ID, MANIFEST_SCHEMA, MEMBER, OFFSET, ROW, URI

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

INDEX = "index.json"


@dataclass(frozen=True)
class ManifestIndex:
    """The manifest as a whole; its file is written last, so where it is, the manifest is complete."""

    images: int
    skipped: int
    """Files that were listed but are no images by their suffix."""
    block_rows: int
    """The greatest number of images a block holds."""
    blocks: list[int]
    """The number of blocks of each shard."""


def shard_name(shard: int) -> str:
    return f"s{shard:05d}.parquet"


def read_index(run: str) -> ManifestIndex | None:
    """The index of a run's manifest; None if its listing was not finished."""
    uri = storage.join(run, "manifest", INDEX)
    return ManifestIndex(**json.loads(storage.read_bytes(uri))) if storage.exists(uri) else None


def read_shard(run: str, shard: int) -> pa.Table:
    """The rows of one shard, by MANIFEST_SCHEMA."""
    return pq.read_table(pa.BufferReader(storage.read_bytes(storage.join(run, "manifest", shard_name(shard)))))


def blocks(shard: pa.Table, block_rows: int) -> list[tuple[int, int]]:
    """[first, last) rows of each block of a shard: a function of the shard alone, so that names stay fixed."""
    edges = [0]
    held = 0
    for row, size in enumerate(shard[BYTES].to_pylist()):
        size = UNKNOWN_BYTES if size is None else size
        if row > edges[-1] and (row - edges[-1] == block_rows or held + size > BLOCK_BYTES):
            edges.append(row)
            held = 0
        held += size
    return list(zip(edges, [*edges[1:], shard.num_rows], strict=True))


def write(run: str, source: str | list[str], block_rows: int | None) -> ManifestIndex:
    """Lists `source` into the run's manifest, a shard at a time. Raises UserError if it cannot be listed.

    `block_rows` None: as many as a crash may cost, but fewer for a small job, so that every actor gets some.
    """
    skipped: list[str] = []
    images = 0
    block_counts: list[int] = []
    for table in _shards(listing(source, skipped)):
        if block_rows is None:
            block_rows = max(1, min(BLOCK_ROWS, table.num_rows // SMALL_JOB_BLOCKS))
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        name = shard_name(len(block_counts))
        storage.write_whole(storage.join(run, "manifest", name), sink.getvalue(), storage.join(run, "_tmp"))
        images += table.num_rows
        block_counts.append(len(blocks(table, block_rows)))
    index = ManifestIndex(images, len(skipped), block_rows or BLOCK_ROWS, block_counts)
    data = json.dumps(asdict(index), indent=2).encode()
    storage.write_whole(storage.join(run, "manifest", INDEX), data, storage.join(run, "_tmp"))
    return index


def check_source(source: str | list[str]) -> None:
    """Raises UserError unless `source` exists and holds at least one image; reads no more than it must."""
    if not any(table.num_rows for table in listing(source, [])):
        suffixes = "png, jpg, jpeg, webp, bmp, gif, tif, tiff"
        raise UserError(f"input: {source} holds no image; give a folder with {suffixes} files, or a Parquet manifest")


def listing(source: str | list[str], skipped: list[str]) -> Iterator[pa.Table]:
    """Batches of manifest rows by MANIFEST_SCHEMA; the names of files that are no images go to `skipped`.

    Raises UserError if there is no such source, or a manifest is none.
    """
    if isinstance(source, list):
        yield from _list_files(source, skipped)
        return
    filesystem, path = storage.resolve(source)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise UserError(f"input: {source} does not exist; give a folder, a list of files or a Parquet manifest")
    if info.type == fs.FileType.File and not path.endswith(".parquet"):
        raise UserError(f"input: {source} is a single file; give its folder, or a list as input=[{source}]")
    if info.type == fs.FileType.File:
        yield from _read_manifest(source, filesystem, path)
    else:
        yield from _list_folder(source, filesystem, path, skipped)


def _shards(batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
    held = MANIFEST_SCHEMA.empty_table()
    for batch in batches:
        held = pa.concat_tables([held, batch])
        while held.num_rows >= SHARD_ROWS:
            yield held.slice(0, SHARD_ROWS)
            held = held.slice(SHARD_ROWS)
    if held.num_rows:
        yield held


def _list_files(uris: list[str], skipped: list[str]) -> Iterator[pa.Table]:
    """A list of files: their ids are what is left of their paths below the folder that all of them share."""
    wanted = [uri for uri in uris if is_image_name(uri)]
    skipped += [uri for uri in uris if not is_image_name(uri)]
    if not wanted:
        return
    absolute = [uri if "://" in uri else storage.resolve(uri)[1] for uri in wanted]
    if len(set(absolute)) < len(absolute):
        twice = next(uri for uri in absolute if absolute.count(uri) > 1)
        raise UserError(f"input: {twice} stands in the list twice; name each file once")
    parents = [str(PurePosixPath(uri).parent) for uri in absolute]
    root = os.path.commonpath(parents)
    ids = [PurePosixPath(uri).relative_to(root).as_posix() for uri in absolute]
    yield _rows(ids, absolute, [None] * len(ids))


def _list_folder(source: str, filesystem: fs.FileSystem, path: str, skipped: list[str]) -> Iterator[pa.Table]:
    """A folder or prefix, recursively, sorted by name within each folder."""
    root = source.rstrip("/") if "://" in source else path.rstrip("/")
    pending = [path.rstrip("/")]
    while pending:
        folder = pending.pop()
        files, subfolders = _entries(filesystem, folder)
        pending += subfolders
        found = [(name, size) for name, size in files if is_image_name(name)]
        skipped += [name for name, _ in files if not is_image_name(name)]
        if found:
            below = folder[len(path.rstrip("/")) + 1 :]
            ids = [f"{below}/{name}" if below else name for name, _ in found]
            yield _rows(ids, [f"{root}/{image_id}" for image_id in ids], [size for _, size in found])


def _entries(filesystem: fs.FileSystem, folder: str) -> tuple[list[tuple[str, int | None]], list[str]]:
    """The (name, bytes) of a folder's files, sorted, and the paths of its subfolders."""
    if not isinstance(filesystem, fs.LocalFileSystem):
        infos = sorted(filesystem.get_file_info(fs.FileSelector(folder)), key=lambda info: info.path)
        files = [(info.base_name, info.size) for info in infos if info.type == fs.FileType.File]
        return files, [info.path for info in infos if info.type == fs.FileType.Directory]
    # pyarrow leaves dangling links out without a word; here they are files, whose rows will say that they vanished.
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    subfolders = [entry.path for entry in listed if entry.is_dir(follow_symlinks=False)]
    return [(entry.name, _size(entry)) for entry in listed if not entry.is_dir()], subfolders


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_size
    except OSError:
        return None


def _read_manifest(source: str, filesystem: fs.FileSystem, path: str) -> Iterator[pa.Table]:
    try:
        with filesystem.open_input_file(path) as stream:
            table = pq.read_table(stream)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"input: {source} is no readable Parquet file: {' '.join(str(error).split())}") from None
    for column in (IMAGE_ID, URI):
        if column not in table.column_names:
            raise UserError(f"input: {source} has no column {column}; a manifest needs image_id and uri")
        if table[column].type not in (pa.string(), pa.large_string()):
            raise UserError(f"input: {source}: column {column} is {table[column].type}; it must hold text")
        if table[column].null_count:
            raise UserError(
                f"input: {source}: column {column} has {table[column].null_count} nulls; every row needs one"
            )
    # DuckDB, because it spills to disk what does not fit into memory.
    with duckdb.connect() as connection:
        connection.register("manifest", table)
        repeated = connection.sql(f"SELECT {IMAGE_ID} FROM manifest GROUP BY 1 HAVING count(*) > 1 LIMIT 1").fetchall()
    if repeated:
        raise UserError(f"input: {source} has image_id {repeated[0][0]!r} more than once; ids must be unique")
    sizes = table[BYTES].cast(pa.int64()) if BYTES in table.column_names else pa.nulls(table.num_rows, pa.int64())
    yield _rows(table[IMAGE_ID], table[URI], sizes)


def _rows(ids: Any, uris: Any, sizes: Any) -> pa.Table:
    table = pa.table({IMAGE_ID: ids, URI: uris, BYTES: sizes})
    for packed in (MEMBER, OFFSET, ROW):
        table = table.append_column(packed, pa.nulls(table.num_rows))
    return table.cast(MANIFEST_SCHEMA)
