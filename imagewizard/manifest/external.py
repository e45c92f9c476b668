"""Manifests that people make: Parquet files with a row for each image; image_id and uri, and optionally more."""

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.schema import IMAGE_ID, MANIFEST_SCHEMA, MEMBER, URI
from imagewizard.sources.parquet import IMAGE, LISTED_ROWS, check_no_nulls, check_text
from imagewizard.storage.stores import STORES

_ABSOLUTE = r"^(/|[A-Za-z][A-Za-z0-9+.-]*://)"
_READABLE = rf"^(/|({'|'.join(filter(None, STORES))})://)"


def is_one(schema: pa.Schema) -> bool:
    """Whether a Parquet file is a manifest, rather than one that holds images itself."""
    return {IMAGE_ID, URI} <= set(schema.names) and IMAGE not in schema.names


def tables(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """Its rows by MANIFEST_SCHEMA; a missing column bytes, member, offset or row is null.

    Relative URIs are taken relative to the working folder and made absolute. Raises UserError, without the file's
    name, for columns that are missing or of a wrong type and for ids and URIs that are null; OSError or
    pa.ArrowException if it cannot be read.
    """
    schema = file.schema_arrow
    for field in MANIFEST_SCHEMA:
        _check_column(schema, field)
    columns = [name for name in MANIFEST_SCHEMA.names if name in schema.names]
    first = 0
    for batch in file.iter_batches(LISTED_ROWS, columns=columns, use_threads=False):
        for name in (IMAGE_ID, URI):
            check_no_nulls(batch[name], name, first)
        first += len(batch)
        values = [batch[name] if name in columns else pa.nulls(len(batch)) for name in MANIFEST_SCHEMA.names]
        table = pa.table(values, MANIFEST_SCHEMA.names).cast(MANIFEST_SCHEMA)
        _check_schemes(table[URI])
        yield table.set_column(1, MANIFEST_SCHEMA.field(URI), _absolute(table[URI]))


def _check_column(schema: pa.Schema, field: pa.Field) -> None:
    if field.name not in schema.names:
        if not field.nullable:
            raise UserError(f"it has no column {field.name}", "give a manifest with image_id and uri")
    elif field.name in (IMAGE_ID, URI, MEMBER):
        check_text(schema, field.name)
    elif not pa.types.is_integer(type := schema.field(field.name).type):
        raise UserError(f"column {field.name} is {type}", "it must hold whole numbers")


def _check_schemes(uris: pa.ChunkedArray) -> None:
    """A URI of another scheme ends the listing at once, instead of a million error rows later."""
    absolute = uris.filter(pc.match_substring_regex(uris, _ABSOLUTE))
    others = absolute.filter(pc.invert(pc.match_substring_regex(absolute, _READABLE)))
    if len(others):
        uri = others[0].as_py()
        scheme = uri.partition("://")[0]
        fix = "download the images, or give s3:// or local ones"
        raise UserError(f"uri {uri!r}: {scheme}:// cannot be read", fix)


def _absolute(uris: pa.ChunkedArray) -> pa.ChunkedArray:
    """Workers have other working folders than the driver."""
    if pc.all(pc.match_substring_regex(uris, _ABSOLUTE)).as_py() in (True, None):
        return uris
    absolute = [uri if re.match(_ABSOLUTE, uri) else storage.absolute(uri) for uri in uris.to_pylist()]
    return pa.chunked_array([pa.array(absolute, pa.string())])
