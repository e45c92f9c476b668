"""Parquet files that hold images: a column of encoded bytes, or of structs with them, as in Hugging Face's sets."""

import threading
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagewizard import storage
from imagewizard.errors import UserError, one_line
from imagewizard.schema import BYTES, IMAGE_ID, LEVEL_FIELD, ROW

SUFFIX = ".parquet"
IMAGE = "image"

# A row group is read a page at a time, in parts of this size: by default pyarrow reads its whole column, which may be
# gigabytes.
BUFFER_BYTES = 1 << 20
# Cells held at a time: 80 MB of photographs of ten megabytes.
BATCH_ROWS = 8
LISTED_ROWS = 10_000


def open_file(uri: str) -> pq.ParquetFile:
    """The file, its footer read. Raises OSError, also if it is no Parquet file."""
    stream = storage.open_file(uri)
    try:
        return pq.ParquetFile(stream, buffer_size=BUFFER_BYTES, pre_buffer=False)
    except pa.ArrowException as error:
        stream.close()
        raise OSError(f"no readable Parquet file: {one_line(error)}") from None
    except OSError:
        stream.close()
        raise


def candidates(schema: pa.Schema) -> list[str]:
    """The names of the columns that may hold images, by their types."""
    return [field.name for field in schema if _bytes_path(field) is not None]


def image_column(schema: pa.Schema) -> str:
    """The column that holds the images: the only one that can, or the one named `image`.

    Raises UserError, without the file's name, if there is none, or several and none is named so.
    """
    found = candidates(schema)
    if IMAGE in found or len(found) == 1:
        return IMAGE if IMAGE in found else found[0]
    wanted = "the encoded images as binary, or as a struct with a binary field bytes"
    if IMAGE in schema.names:
        raise UserError(f"its column {IMAGE} is {schema.field(IMAGE).type}", f"it must hold {wanted}")
    if not found:
        there = ", ".join(schema.names) or "no column at all"
        raise UserError(f"it has no column of images ({there})", f"give {wanted}")
    raise UserError(f"any of its columns {', '.join(found)} may hold the images", f"name the one that does {IMAGE}")


def _bytes_path(field: pa.Field) -> str | None:
    """The path of the leaf with the encoded bytes; None for a column of another type."""
    if is_binary(field.type):
        return str(field.name)
    if pa.types.is_struct(field.type):
        index = field.type.get_field_index("bytes")
        return f"{field.name}.bytes" if index >= 0 and is_binary(field.type.field(index).type) else None
    return None


def is_binary(type: pa.DataType) -> bool:
    """Whether values of this type are bytes."""
    return bool(pa.types.is_binary(type) or pa.types.is_large_binary(type) or pa.types.is_binary_view(type))


def rows(file: pq.ParquetFile, level_column: str | None = None) -> Iterator[pa.Table]:
    """What a listing needs of each row: `row`, its number; `bytes`, a guess; `image_id` where the file has it, or null.

    And the texts in `level_column`, if one is named, as LEVEL_FIELD. The guess is the mean stored size of a cell in the
    row's group: true sizes would require reading the images. Raises UserError, without the file's name, as
    `image_column` does, for ids that are null or no text and without the level column; OSError or pa.ArrowException if
    the columns cannot be read.
    """
    schema = file.schema_arrow
    path = _bytes_path(schema.field(image_column(schema)))
    if has_ids := IMAGE_ID in schema.names:
        check_text(schema, IMAGE_ID)
    if level_column is not None:
        check_column(schema.names, level_column)
    columns = [name for name in (IMAGE_ID, level_column) if name is not None and name in schema.names]
    first = 0
    for group in range(file.num_row_groups):
        metadata = file.metadata.row_group(group)
        sizes = [metadata.column(i) for i in range(metadata.num_columns)]
        stored = next(column.total_compressed_size for column in sizes if column.path_in_schema == path)
        guess = stored // metadata.num_rows if metadata.num_rows else 0
        for batch in _batches(file, group, columns):
            count = len(next(iter(batch.values())))
            ids = batch[IMAGE_ID].cast(pa.string()) if has_ids else pa.nulls(count, pa.string())
            if has_ids:
                check_no_nulls(ids, IMAGE_ID, first)
            numbers = pa.array(range(first, first + count), pa.int64())
            first += count
            found = {IMAGE_ID: ids, BYTES: pa.array([guess] * count, pa.int64()), ROW: numbers}
            if level_column is not None:
                found[LEVEL_FIELD.name] = as_texts(batch[level_column], level_column)
            yield pa.table(found)


def _batches(file: pq.ParquetFile, group: int, columns: list[str]) -> Iterator[dict[str, pa.Array]]:
    """The values of a row group's `columns`; of none, as many nulls as there are rows."""
    if not columns:
        rows = file.metadata.row_group(group).num_rows
        yield from ({"": pa.nulls(min(LISTED_ROWS, rows - first))} for first in range(0, rows, LISTED_ROWS))
        return
    for batch in file.iter_batches(LISTED_ROWS, row_groups=[group], columns=columns, use_threads=False):
        yield {name: decoded(batch[name]) for name in columns}


def decoded(values: pa.Array) -> pa.Array:
    """The values of a dictionary (what pandas calls categories) in full; any other array as it is."""
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def check_text(schema: pa.Schema, column: str) -> None:
    """Raises UserError, without the file's name, unless the column holds text; an id may be a whole number too."""
    type = schema.field(column).type
    type = type.value_type if pa.types.is_dictionary(type) else type
    if pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type):
        return
    if column != IMAGE_ID or not pa.types.is_integer(type):
        wanted = "text or whole numbers" if column == IMAGE_ID else "text"
        raise UserError(f"column {column} is {type}", f"it must hold {wanted}")


def check_column(names: list[str], level_column: str) -> None:
    """Raises UserError, without the file's name, unless there is the column that `denoise.sigma` names."""
    if level_column not in names:
        raise UserError(
            f"it has no column {level_column}",
            f"name one of {', '.join(names)}, give a number, or auto",
            "denoise.sigma",
        )


def as_texts(values: pa.Array, column: str) -> pa.Array:
    """The values as text. Raises UserError, without the file's name, for a column of lists, structs or bytes."""
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(f"column {column} is {values.type}", "it must hold numbers", "denoise.sigma") from None


def check_no_nulls(values: pa.Array, column: str, first_row: int) -> None:
    """Raises UserError, without the file's name, if any of the values, from row `first_row` on, is null."""
    if values.null_count:
        row = first_row + pc.index(values.is_null(), True).as_py()
        raise UserError(f"column {column} is null in row {row}", "every row needs one")


class _Cursor:
    """The cells of a file's image column, read forward; going back begins the row group again."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._file = open_file(uri)
        try:
            field = self._file.schema_arrow.field(image_column(self._file.schema_arrow))
        except UserError as error:
            self.close()
            raise OSError(f"{error} (changed since it was listed)") from None
        self._column, self._path = field.name, _bytes_path(field)
        metadata = self._file.metadata
        self._ends = list(accumulate(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)))
        self._group = -1
        self._error: OSError | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._cells: Any = None
        self._first = self._end = 0  # rows that _cells are of

    def close(self) -> None:
        self._file.close(force=True)

    def cell(self, row: int) -> bytes | OSError:
        """The image in a row, or why it cannot be read. After an error in a row group its later rows fail too."""
        group = bisect_right(self._ends, row)
        if row < 0 or group == len(self._ends):
            return OSError(f"the file has no row {row}: it changed since it was listed")
        if group != self._group or row < self._first:
            self._begin(group)
        while row >= self._end:
            if self._error is None:
                self._advance()
            if self._error is not None:
                return self._error
        value = self._cells[row - self._first].as_py()
        return OSError("the image is null") if value is None else value

    def _begin(self, group: int) -> None:
        self._group, self._error = group, None
        self._first = self._end = self._ends[group - 1] if group else 0
        self._batches = self._file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[self._path], use_threads=False)

    def _advance(self) -> None:
        try:
            cells = next(self._batches)[self._column]
        except (OSError, pa.ArrowException, StopIteration) as error:
            self._error = OSError(f"row group {self._group} cannot be read: {one_line(error)}")
            return
        self._cells = pc.struct_field(cells, "bytes") if pa.types.is_struct(cells.type) else cells
        self._first, self._end = self._end, self._end + len(cells)


class RowReader:
    """Reads images by file and row number, and keeps the last file open where it was read to.

    Consecutive blocks of images are consecutive rows: to begin the row group again for each block would read it over
    and over. Thread-safe.
    """

    def __init__(self) -> None:
        self._kept: _Cursor | None = None
        self._lock = threading.Lock()

    def read(self, uri: str, wanted: list[int]) -> list[bytes | OSError]:
        """The images in these rows of a file, in order; in the place of one that cannot be read, why not."""
        with self._lock:
            cursor = None
            if self._kept is not None and self._kept.uri == uri:
                cursor, self._kept = self._kept, None
        if cursor is None:
            try:
                cursor = _Cursor(uri)
            except OSError as error:
                return [error] * len(wanted)
        found = {row: cursor.cell(row) for row in sorted(set(wanted))}
        self._keep(cursor)
        return [found[row] for row in wanted]

    def close(self) -> None:
        """Closes the file that is open."""
        self._keep(None)

    def _keep(self, cursor: _Cursor | None) -> None:
        with self._lock:
            dropped, self._kept = self._kept, cursor
        if dropped is not None:
            dropped.close()
