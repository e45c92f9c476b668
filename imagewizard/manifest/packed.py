"""Lists the images in tar shards and Parquet files: manifest rows with the place of each image in its file."""

from collections.abc import Generator, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from imagewizard import storage
from imagewizard.errors import UserError, one_line
from imagewizard.manifest import csv_manifest, external, left_out
from imagewizard.manifest import tally as listing_rows
from imagewizard.manifest.tally import Row, Tally
from imagewizard.schema import BYTES, IMAGE_ID, LEVEL_FIELD, MANIFEST_SCHEMA, ROW, URI
from imagewizard.sources import parquet, tar
from imagewizard.storage.interleave import interleave

# Packed files that are listed at the same time; each mostly waits for its disk or server.
THREADS = 16
WAITING_TABLES = 32


def tables(
    packed: list[tuple[str, str]],
    tally: Tally,
    *,
    is_source: bool = False,
    threads: int = THREADS,
    level_column: str | None = None,
) -> Iterator[pa.Table]:
    """The images in tar shards and Parquet files, each given as (URI, id), and the rows of manifests among them.

    By MANIFEST_SCHEMA, with LEVEL_FIELD where a `level_column` is named and a file has columns; in order if there is
    one thread. What cannot be listed becomes a row of its own, with no offset and a member that says why. `is_source`:
    there is only this file, and a damaged file raises UserError. So does a Parquet file with the wrong columns; one
    among others that has no column of images at all is left out.
    """
    if is_source and packed:
        yield from _of_file(*packed[0], tally, True, level_column)
        return
    shared = iter(packed)

    def work() -> Generator[pa.Table, None, None]:
        for uri, image_id in shared:  # shared by all threads: each takes the next one
            yield from _of_file(uri, image_id, tally, False, level_column)

    yield from interleave([work() for _ in range(min(threads, len(packed)))], WAITING_TABLES)


def _of_file(uri: str, image_id: str, tally: Tally, is_source: bool, level_column: str | None) -> Iterator[pa.Table]:
    if uri.lower().endswith(tar.SUFFIX):
        yield from listing_rows.tables(_members(uri, image_id, tally, is_source))
    elif uri.lower().endswith(csv_manifest.SUFFIXES):
        yield from _csv(uri, image_id, tally, is_source, level_column)
    else:
        yield from _parquet(uri, image_id, tally, is_source, level_column)


def _members(uri: str, shard_id: str, tally: Tally, is_source: bool) -> Iterator[Row]:
    def skip(name: str, reason: str | None) -> None:
        reason = left_out.why(name) or reason or left_out.why_no_image(name)
        tally.skip(f"{shard_id}#{name}", reason)

    # Only a tar may hold a name twice.
    places: dict[str, int | None] = {}
    repeats: set[str] = set()
    try:
        for found in tar.members(uri, skip):
            if isinstance(found, tar.Damage):
                if is_source and not found.at:
                    raise UserError(f"{uri} is no tar: {found.reason}", "give an uncompressed tar of images")
                yield _unlisted(uri, shard_id, f"damaged at byte {found.at}")
                return
            if left_out.why(found.name):
                skip(found.name, None)
                continue
            name = found.name
            if name in places:
                name = tar.numbered(name, found.offset)
                # A hard link of a name to itself, as tar makes for a file that it is given twice, is no other image.
                if found.offset == places[found.name] or name in repeats:
                    continue
                repeats.add(name)
            else:
                places[name] = found.offset
            yield f"{shard_id}#{name}", uri, found.size, found.name, found.offset, None
    except OSError as error:
        yield _unreadable(uri, shard_id, error, is_source)


def _parquet(uri: str, file_id: str, tally: Tally, is_source: bool, level_column: str | None) -> Iterator[pa.Table]:
    try:
        file = parquet.open_file(uri)
    except OSError as error:
        yield from listing_rows.tables(iter([_unreadable(uri, file_id, error, is_source)]))
        return
    names = set(file.schema_arrow.names)
    has_images = bool(parquet.candidates(file.schema_arrow)) or parquet.IMAGE in names
    try:
        if external.is_one(file.schema_arrow) or (is_source and not has_images and names & {IMAGE_ID, URI}):
            tally.ids_are_given = True
            yield from external.tables(file.schema_arrow, external.batches(file, level_column), level_column)
        elif has_images or is_source:
            tally.ids_are_given |= IMAGE_ID in names
            for rows in parquet.rows(file, level_column):
                yield _located(rows, uri, file_id)
        else:
            tally.skip(file_id, left_out.NO_IMAGES)
    except UserError as error:
        raise UserError(f"{uri}: {error.what}", error.fix, error.key) from None
    except (OSError, pa.ArrowException) as error:
        yield from listing_rows.tables(iter([_unreadable(uri, file_id, error, is_source)]))
    finally:
        file.close(force=True)


def _csv(uri: str, file_id: str, tally: Tally, is_source: bool, level_column: str | None) -> Iterator[pa.Table]:
    try:
        with storage.open_file(uri) as stream:
            batches = csv_manifest.read(stream, level_column)
            if not is_source and not external.is_one(batches.schema):
                tally.skip(file_id, left_out.NO_MANIFEST)
                return
            tally.ids_are_given = True
            yield from external.tables(batches.schema, batches, level_column)
    except UserError as error:
        raise UserError(f"{uri}: {error.what}", error.fix, error.key) from None
    except (OSError, pa.ArrowException) as error:
        yield from listing_rows.tables(iter([_unreadable(uri, file_id, error, is_source)]))


def _located(rows: pa.Table, uri: str, file_id: str) -> pa.Table:
    """Rows of a packed file by MANIFEST_SCHEMA, with levels if they have any; one without an id gets FILE#NUMBER."""
    numbered = pc.binary_join_element_wise(file_id, rows[ROW].cast(pa.string()), "#")
    uris = pa.array([uri] * rows.num_rows, pa.string())
    none = pa.nulls(rows.num_rows)
    ids = pc.coalesce(rows[IMAGE_ID], numbered)
    table = pa.table([ids, uris, rows[BYTES], none, none, rows[ROW]], MANIFEST_SCHEMA.names).cast(MANIFEST_SCHEMA)
    if (name := LEVEL_FIELD.name) not in rows.schema.names:
        return table
    return table.append_column(LEVEL_FIELD, rows[name])


def _unreadable(uri: str, file_id: str, error: Exception, is_source: bool) -> Row:
    reason = one_line(error)
    if is_source:
        raise UserError(f"{uri} cannot be read: {reason}", "give another file, or repair it")
    return _unlisted(uri, file_id, f"unreadable: {reason[:200]}")


def _unlisted(uri: str, file_id: str, why: str) -> Row:
    return f"{file_id}#<{why}>", uri, None, f"<{why}>", None, None
