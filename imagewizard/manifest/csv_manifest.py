"""Manifests in CSV: text, of which the header names the columns."""

import codecs
import csv
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from imagewizard.schema import IMAGE_ID, MANIFEST_SCHEMA, URI
from imagewizard.sources.parquet import check_column

if TYPE_CHECKING:
    from pyarrow import csv as arrow_csv

SUFFIXES = (".csv", ".tsv")
_DELIMITERS = ",;\t|"
_HEADER_BYTES = 1 << 16
# Read at a time; no row may be larger.
_BLOCK_BYTES = 16 << 20


def read(stream: BinaryIO, level_column: str | None = None) -> "arrow_csv.CSVStreamingReader":
    """The columns of a manifest that the file has, with `level_column`, all as text, in batches; an empty cell is null.

    The delimiter is the one of , ; tab and | that the header has most of. Raises OSError or pa.ArrowException;
    UserError, without the file's name, for a manifest without the level column.
    """
    from pyarrow import csv as arrow_csv

    start = stream.read(_HEADER_BYTES)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise pa.ArrowInvalid("it is in UTF-16; save it in UTF-8")
    stream.seek(0)
    header = next(iter(start.decode("utf-8-sig", "replace").splitlines()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    names = next(csv.reader([header], delimiter=delimiter), [])
    if not any(names):
        raise pa.ArrowInvalid("it is empty")
    if level_column is not None and {IMAGE_ID, URI} <= set(names):
        check_column(names, level_column)
    known = [name for name in names if name in (*MANIFEST_SCHEMA.names, level_column)]
    return arrow_csv.open_csv(
        stream,
        read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            # Without any known column there is none to leave out, or the reader would have no rows.
            include_columns=known or names[:1],
            column_types={name: pa.string() for name in known or names[:1]},
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
