"""Queries over whole manifests of any size. DuckDB spills to disk what does not fit into its memory."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from imagewizard import storage
from imagewizard.schema import BYTES, IMAGE_ID, MANIFEST_SCHEMA

if TYPE_CHECKING:
    import duckdb
    import pyarrow.dataset as ds

MEMORY = "1GB"


class Changes(NamedTuple):
    """How a listing differs from an earlier one, in numbers of images."""

    new: int
    gone: int
    resized: int


def dataset(folder: str, shards: list[str]) -> "ds.Dataset":
    """The rows of these shards in a manifest's folder; nothing is read before it is scanned."""
    import pyarrow.dataset as ds  # it imports pandas, which takes as long as the rest of a command

    if not shards:
        return ds.dataset(MANIFEST_SCHEMA.empty_table())
    filesystem, path = storage.resolve(folder)
    paths = [f"{path}/{name}" for name in shards]
    return ds.dataset(paths, schema=MANIFEST_SCHEMA, format="parquet", filesystem=filesystem)


class Repeated(NamedTuple):
    """An image_id that a manifest has more than once, with two of its rows, by MANIFEST_SCHEMA."""

    image_id: str
    rows: list[dict[str, Any]]


def repeated_id(manifest: "ds.Dataset | pa.Table") -> Repeated | None:
    """An image_id that the manifest has more than once; None if all differ."""
    with _connection() as connection:
        connection.register("manifest", manifest)
        # Hashes take a fraction of the memory of ids. Few are equal by chance, so few ids are held in the end.
        connection.execute(
            f"CREATE TEMP TABLE suspects AS SELECT hash({IMAGE_ID}) AS h FROM manifest GROUP BY h HAVING count(*) > 1"
        )
        found = connection.execute(
            f"SELECT {IMAGE_ID} FROM manifest WHERE hash({IMAGE_ID}) IN (SELECT h FROM suspects) "
            f"GROUP BY {IMAGE_ID} HAVING count(*) > 1 LIMIT 1"
        ).fetchall()
        if not found:
            return None
        rows = connection.execute(f"SELECT * FROM manifest WHERE {IMAGE_ID} = ? LIMIT 2", found[0]).fetchall()
    return Repeated(found[0][0], [dict(zip(MANIFEST_SCHEMA.names, row, strict=True)) for row in rows])


def changes(before: "ds.Dataset", after: "ds.Dataset") -> Changes:
    """Counts images that are new, gone or of another size, by image_id."""
    with _connection() as connection:
        connection.register("before", before)
        connection.register("after", after)
        counts = connection.execute(
            f"SELECT count(*) FILTER (b.{IMAGE_ID} IS NULL), count(*) FILTER (a.{IMAGE_ID} IS NULL), "
            f"count(*) FILTER (a.{IMAGE_ID} = b.{IMAGE_ID} AND a.{BYTES} IS DISTINCT FROM b.{BYTES}) "
            f"FROM before AS b FULL JOIN after AS a ON a.{IMAGE_ID} = b.{IMAGE_ID}"
        ).fetchone()
    assert counts is not None, "an aggregate has a row"
    return Changes(*counts)


@contextmanager
def _connection() -> "Iterator[duckdb.DuckDBPyConnection]":
    spill = Path(tempfile.gettempdir()) / f"imagewizard-manifest-{os.getpid()}"
    import duckdb  # a machine that trains without Ray may lack it, and can still list folders

    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(spill)}) as connection:
        yield connection
