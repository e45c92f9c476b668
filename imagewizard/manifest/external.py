"""Manifests that people make: Parquet or CSV with a row for each image; image_id and uri, and optionally more."""

import re
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagewizard import storage
from imagewizard.errors import UserError, one_line
from imagewizard.schema import BYTES, IMAGE_ID, LEVEL_FIELD, MANIFEST_SCHEMA, MEMBER, OFFSET, ROW, URI
from imagewizard.sources import parquet, tar
from imagewizard.sources.parquet import (
    IMAGE,
    LISTED_ROWS,
    as_texts,
    check_column,
    check_no_nulls,
    check_text,
    decoded,
)
from imagewizard.storage.stores import STORES

_ABSOLUTE = r"^(/|file:/|[A-Za-z][A-Za-z0-9+.-]*://)"
_OTHERS = "|".join(scheme for scheme in STORES if scheme not in ("", "file"))
_READABLE = rf"^(/|file:(//(localhost)?)?/[^/]|({_OTHERS})://)"  # a file:// URI of another host names no file here

# Columns that say where in a packed file an image is, with how the names of such files end. Beside other URIs such a
# column is the user's own, whatever it holds.
_PLACES = {MEMBER: tar.SUFFIX, OFFSET: tar.SUFFIX, ROW: parquet.SUFFIX}


def is_one(schema: pa.Schema) -> bool:
    """Whether a file is a manifest, rather than one that holds images itself: in `image`, or as `bytes`."""
    names = set(schema.names)
    holds_images = IMAGE in names or (BYTES in names and parquet.is_binary(schema.field(BYTES).type))
    return {IMAGE_ID, URI} <= names and not holds_images


def batches(file: pq.ParquetFile, level_column: str | None = None) -> Iterator[pa.RecordBatch]:
    """The columns of a manifest that a Parquet file has, with `level_column`. Raises OSError or pa.ArrowException."""
    wanted = dict.fromkeys([*MANIFEST_SCHEMA.names, level_column])
    columns = [name for name in wanted if name in file.schema_arrow.names]
    return file.iter_batches(LISTED_ROWS, columns=columns, use_threads=False)


def tables(schema: pa.Schema, batches: Iterable[pa.RecordBatch], level_column: str | None = None) -> Iterator[pa.Table]:
    """A manifest's rows by MANIFEST_SCHEMA; a missing column bytes, member, offset or row is null.

    If a `level_column` is named, its texts follow as LEVEL_FIELD. Relative URIs are taken relative to the working
    folder and made absolute. Raises UserError, without the file's name, for columns that are missing or of a wrong type
    and for ids and URIs that are null; OSError or pa.ArrowException if it cannot be read.
    """
    for name in (IMAGE_ID, URI):
        if name not in schema.names:
            raise UserError(f"it has no column {name}", "give a manifest with image_id and uri")
        check_text(schema, name)
    if level_column is not None:
        check_column(schema.names, level_column)
    first = 0
    for batch in batches:
        values = {name: decoded(batch[name]) for name in batch.schema.names}
        for name in (IMAGE_ID, URI):
            check_no_nulls(values[name], name, first)
            values[name] = values[name].cast(pa.string())
        _check_schemes(values[URI])
        found = {IMAGE_ID: values[IMAGE_ID], URI: _absolute(values[URI])}
        found[BYTES] = _whole_numbers(values.get(BYTES), BYTES, len(batch))
        for name, suffix in _PLACES.items():
            found[name] = _place(values.get(name), name, pc.ends_with(values[URI], suffix, ignore_case=True))
        first += len(batch)
        table = pa.table([found[name] for name in MANIFEST_SCHEMA.names], schema=MANIFEST_SCHEMA)
        if level_column is not None:
            table = table.append_column(LEVEL_FIELD, as_texts(values[level_column], level_column))
        yield table


def _place(values: pa.Array | None, name: str, is_packed: pa.Array) -> pa.Array:
    """The values of one of _PLACES where the URI is that of such a packed file; null elsewhere."""
    type = MANIFEST_SCHEMA.field(name).type
    if values is None or not pc.any(is_packed).as_py():
        return pa.nulls(len(is_packed), type)
    kept = pc.if_else(is_packed, values, pa.scalar(None, values.type))
    if name != MEMBER:
        return _whole_numbers(kept, name, len(is_packed))
    check_text(pa.schema([pa.field(name, values.type)]), name)
    return kept.cast(type)


def _whole_numbers(values: pa.Array | None, name: str, rows: int) -> pa.Array:
    """Numbers of any type, or texts of such, as int64; NaN, and a negative number of bytes, is an unknown one."""
    if values is None:
        return pa.nulls(rows, pa.int64())
    if name == BYTES and pa.types.is_string(values.type):
        values = pc.if_else(pc.match_substring_regex(values, r"^\d+$"), values, None)  # but a hint: "12 kB" is unknown
    try:
        if not pa.types.is_integer(values.type):
            numbers = values.cast(pa.float64())
            values = pc.if_else(pc.is_finite(numbers), numbers, None)
        values = values.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"column {name}: {one_line(error)}", "it must hold whole numbers") from None
    return pc.if_else(pc.less(values, 0), None, values) if name == BYTES else values


def _check_schemes(uris: pa.Array) -> None:
    """A URI of another scheme ends the listing at once, instead of a million error rows later."""
    absolute = uris.filter(pc.match_substring_regex(uris, _ABSOLUTE))
    others = absolute.filter(pc.invert(pc.match_substring_regex(absolute, _READABLE)))
    if len(others):
        uri = others[0].as_py()
        scheme = uri.partition("://")[0]
        fix = "download the images, or give s3:// or local ones"
        raise UserError(f"uri {uri!r}: {scheme}:// cannot be read", fix)


def _absolute(uris: pa.Array) -> pa.Array:
    """Workers have other working folders than the driver."""
    if pc.all(pc.match_substring_regex(uris, _ABSOLUTE)).as_py() in (True, None):
        return uris
    absolute = [uri if re.match(_ABSOLUTE, uri) else storage.absolute(uri) for uri in uris.to_pylist()]
    return pa.array(absolute, pa.string())
