"""Rows of a query as a table for people, or streamed as CSV, JSON lines or Parquet, to stdout or a file."""

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.query import complaints

FORMATS = ("table", "csv", "json", "parquet")
_SUFFIXES = {"csv": "csv", "json": "json", "jsonl": "json", "ndjson": "json", "parquet": "parquet"}
TABLE_ROWS = 40  # a screenful; the others are counted
CELL_WIDTH = 60
LEAST_CELL_WIDTH = 16
_BATCH_ROWS = 65_536


def format_of(out: str | None) -> str:
    """The format that a file's name asks for; table where it asks for none."""
    return _SUFFIXES.get((out or "").rpartition(".")[2].lower(), "table")


def write(relation: duckdb.DuckDBPyRelation, form: str, out: str | None, limit: int | None) -> None:
    """Writes the rows of `relation` in `form`, one of FORMATS, to the file `out` (local or s3://; None: stdout).

    At most `limit` rows (None: all, but TABLE_ROWS of a table, which then tells how many more there are). A file is
    there as a whole or not at all. Raises UserError where the query fails on the way or the format cannot hold it.
    """
    if form == "parquet" and out is None:
        raise UserError("parquet is not for the terminal: name a file with --out FILE")
    columns = relation.columns
    if form in ("json", "parquet") and len(set(columns)) < len(columns):
        double = next(name for name in columns if columns.count(name) > 1)
        raise UserError(f"two columns are called {double}; {form} needs names that differ: give one with AS")
    with complaints(), _sink(out) as sink:
        if form == "table":
            sink.write((_table(relation, TABLE_ROWS if limit is None else limit, out is None) + "\n").encode())
        else:
            kept = relation if limit is None else relation.limit(limit)
            _STREAMED[form](kept.to_arrow_reader(_BATCH_ROWS), sink)


@contextmanager
def _sink(out: str | None) -> Iterator[IO[bytes]]:
    if out is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    filesystem, path = storage.resolve(out)
    partial = f"{path}.partial"
    try:
        stream = filesystem.open_output_stream(partial)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {' '.join(str(error).split())}") from None
    try:
        with stream:
            yield stream
        filesystem.move(partial, path)
    except BaseException:
        filesystem.delete_file(partial)
        raise


def _write_csv(reader: pa.RecordBatchReader, sink: IO[bytes]) -> None:
    schema = pa.schema([field.with_type(_csv_type(field.type)) for field in reader.schema])
    with pa.csv.CSVWriter(sink, schema) as writer:
        for batch in reader:
            writer.write(pa.RecordBatch.from_arrays(list(map(_csv_column, batch.columns)), schema=schema))


def _csv_type(kind: pa.DataType) -> pa.DataType:
    """What pyarrow cannot write as CSV (lists, structs, intervals, …) goes in as text."""
    plain = pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    return kind if plain and not pa.types.is_interval(kind) else pa.string()


def _csv_column(column: pa.Array) -> pa.Array:
    if _csv_type(column.type) == column.type:
        return column
    return pa.array([None if value is None else _text(value) for value in column.to_pylist()], pa.string())


def _write_json(reader: pa.RecordBatchReader, sink: IO[bytes]) -> None:
    for batch in reader:
        finite = [_finite(column) for column in batch.columns]
        rows = pa.RecordBatch.from_arrays(finite, names=batch.schema.names).to_pylist()
        sink.write("".join(json.dumps(row, default=_jsonable, ensure_ascii=False) + "\n" for row in rows).encode())


def _finite(column: pa.Array) -> pa.Array:
    """JSON has no infinity and no NaN."""
    return pc.if_else(pc.is_finite(column), column, None) if pa.types.is_floating(column.type) else column


def _jsonable(value: Any) -> Any:
    if isinstance(value, Decimal):  # DuckDB's sum of integers, for one
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _write_parquet(reader: pa.RecordBatchReader, sink: IO[bytes]) -> None:
    with pq.ParquetWriter(sink, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


_STREAMED = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}


def _table(relation: duckdb.DuckDBPyRelation, limit: int, fit: bool) -> str:
    """At most `limit` rows, aligned, cut to the terminal's width if they are to `fit`."""
    rows = relation.limit(limit + 1).to_arrow_table()
    left_out = relation.count("*").fetchall()[0][0] - limit if rows.num_rows > limit else 0
    screen = shutil.get_terminal_size((200, 24)).columns if fit and sys.stdout.isatty() else None
    lines = _aligned(rows.schema.names, [_cells(column) for column in rows.slice(0, limit).columns], screen)
    if left_out:
        lines.append(f"… and {left_out:,} more rows; --limit {limit + left_out} shows them, --format csv writes them all")
    if not rows.num_rows:
        lines.append("(no rows)")
    return "\n".join(lines)


def _aligned(names: list[str], columns: list[tuple[list[str], bool]], screen: int | None) -> list[str]:
    """Header, rule and one line a row; `columns` are cells and whether they are numbers, which go to the right."""
    cap = CELL_WIDTH
    while True:
        cells = [[cut(cell, cap) for cell in [name, *texts]] for name, (texts, _) in zip(names, columns, strict=True)]
        widths = [max(map(_width, texts)) for texts in cells]
        if screen is None or cap <= LEAST_CELL_WIDTH or sum(widths) + 2 * len(widths) <= screen:
            break
        cap -= 1
    cells = [[texts[0], "─" * width, *texts[1:]] for texts, width in zip(cells, widths, strict=True)]
    padded = [
        [" " * (width - _width(text)) + text if right else text + " " * (width - _width(text)) for text in texts]
        for texts, width, (_, right) in zip(cells, widths, columns, strict=True)
    ]
    return ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]


def _cells(column: pa.ChunkedArray) -> tuple[list[str], bool]:
    """The texts of a column, and whether they are numbers."""
    values = column.to_pylist()
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, float) for value in known):
        decimals = _decimals([abs(value) for value in known])
        return ["-" if value is None else f"{value:.{decimals}f}" for value in values], True
    numbers = bool(known) and all(isinstance(value, int | Decimal) and not isinstance(value, bool) for value in known)
    return ["-" if value is None else _text(value) for value in values], numbers


def _decimals(sizes: list[float]) -> int:
    """Digits after the point: four for shares and SSIM, two for dB, none for whole numbers."""
    if all(size.is_integer() for size in sizes):
        return 0
    return 4 if max(sizes) <= 1 else 2 if max(sizes) < 10_000 else 0


def _text(value: Any) -> str:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict | list):
        return json.dumps(value, default=_jsonable, ensure_ascii=False)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return str(value)


def printable(text: str) -> str:
    """`text` with control characters as escapes: a file's name must not steer the terminal or break a line."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def cut(text: str, width: int) -> str:
    """`text` in at most `width` columns, its middle gone: both ends of a path tell something."""
    if _width(text) <= width:
        return text
    head, tail = text[: width // 2], text[-((width - 1) // 2) :]
    while _width(head) + _width(tail) + 1 > width:  # wide (East Asian) signs take two columns
        head, tail = head[:-1], tail[1:]
    return f"{head}…{tail}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else not unicodedata.combining(sign) for sign in text)
