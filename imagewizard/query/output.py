"""Rows of a query as a table for people, or streamed as CSV, JSON lines or Parquet."""

from datetime import UTC, datetime, timedelta
from typing import IO, Any

import duckdb
import pyarrow as pa

from imagewizard.errors import UserError
from imagewizard.query import TABLE_ROWS
from imagewizard.query.sql import complaints
from imagewizard.query.text import cut, printable, width_of

_SUFFIXES = {"csv": "csv", "json": "json", "jsonl": "json", "ndjson": "json", "parquet": "parquet"}
CELL_WIDTH = 60
LEAST_CELL_WIDTH = 16
_BATCH_ROWS = 65_536

_NUMBERS = {"tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint", "hugeint"}
_NUMBERS |= {"float", "double", "decimal"}
_PLAIN = _NUMBERS | {"varchar", "boolean", "date", "time", "timestamp", "timestamp with time zone", "null"}


def format_of(out: str | None) -> str:
    """The format that a file name's suffix stands for; table for any other name."""
    return _SUFFIXES.get((out or "").rpartition(".")[2].lower(), "table")


def write(
    relation: duckdb.DuckDBPyRelation, form: str, sink: IO[bytes], limit: int | None, screen: int | None = None
) -> None:
    """Writes the rows of `relation` in `form`, one of query.FORMATS, to `sink`.

    At most `limit` rows (None: all, except that a table has TABLE_ROWS, and tells how many more there are). A table is
    cut to `screen` columns of a terminal (None: as wide as it is). Raises UserError where the query fails on the way or
    the format cannot hold its columns.
    """
    names = relation.columns
    if form in ("json", "parquet") and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two columns are called {twice}, and {form} needs different names", "rename one with AS")
    with complaints():
        if form == "table":
            sink.write(f"{_table(relation, TABLE_ROWS if limit is None else limit, screen)}\n".encode())
        else:
            _STREAMED[form](relation if limit is None else relation.limit(limit), sink)


def _write_csv(relation: duckdb.DuckDBPyRelation, sink: IO[bytes]) -> None:
    from pyarrow import csv

    reader = _with_text(relation, _PLAIN).to_arrow_reader(_BATCH_ROWS)
    with csv.CSVWriter(sink, reader.schema) as writer:
        for batch in reader:
            writer.write(batch)


def _write_json(relation: duckdb.DuckDBPyRelation, sink: IO[bytes]) -> None:
    # JSON has no infinity and no NaN.
    finite = {
        name: f"CASE WHEN isfinite({_quoted(name)}) THEN {_quoted(name)} END"
        for name, kind in zip(relation.columns, relation.types, strict=True)
        if kind.id in ("float", "double")
    }
    rows = _replace(relation, finite).query("_row", "SELECT CAST(to_json(_row) AS VARCHAR) FROM _row")
    assert rows is not None
    for batch in rows.to_arrow_reader(_BATCH_ROWS):
        sink.write("".join(f"{line}\n" for line in batch.column(0).to_pylist()).encode())


def _write_parquet(relation: duckdb.DuckDBPyRelation, sink: IO[bytes]) -> None:
    import pyarrow.parquet as pq

    others = {str(kind.id) for kind in relation.types} - {"interval"}  # Arrow has a type for it, Parquet has none
    reader = _with_text(relation, others).to_arrow_reader(_BATCH_ROWS)
    with pq.ParquetWriter(sink, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


_STREAMED = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}


def _with_text(relation: duckdb.DuckDBPyRelation, kinds: set[str]) -> duckdb.DuckDBPyRelation:
    """The relation; columns of other types than these become text, as DuckDB writes it."""
    pairs = zip(relation.columns, relation.types, strict=True)
    return _replace(
        relation, {name: f"CAST({_quoted(name)} AS VARCHAR)" for name, kind in pairs if kind.id not in kinds}
    )


def _replace(relation: duckdb.DuckDBPyRelation, expressions: dict[str, str]) -> duckdb.DuckDBPyRelation:
    if not expressions:
        return relation
    replaced = ", ".join(f"{expression} AS {_quoted(name)}" for name, expression in expressions.items())
    return relation.project(f"* REPLACE ({replaced})")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _table(relation: duckdb.DuckDBPyRelation, limit: int, screen: int | None) -> str:
    """At most `limit` rows, aligned."""
    rows = _with_text(relation, _PLAIN).limit(limit + 1).to_arrow_table()
    hidden = relation.count("*").fetchall()[0][0] - limit if rows.num_rows > limit else 0
    columns = [
        (_cells(_values(column)), kind.id in _NUMBERS)
        for column, kind in zip(rows.slice(0, limit).columns, relation.types, strict=True)
    ]
    lines = _aligned(list(map(printable, rows.schema.names)), columns, screen)
    if hidden > 0:
        lines.append(f"… and {hidden:,} more rows: --limit {limit + hidden} shows them, --format csv gives all as CSV")
    if not rows.num_rows:
        lines.append("(no rows)")
    return "\n".join(lines)


def _aligned(names: list[str], columns: list[tuple[list[str], bool]], screen: int | None) -> list[str]:
    """Header, rule and one line for each row; `columns` are (cells, whether they are numbers and aligned right)."""
    cap = CELL_WIDTH
    while True:
        cells = [[cut(cell, cap) for cell in [name, *texts]] for name, (texts, _) in zip(names, columns, strict=True)]
        widths = [max(map(width_of, texts)) for texts in cells]
        if screen is None or cap <= LEAST_CELL_WIDTH or sum(widths) + 2 * (len(widths) - 1) <= screen:
            break
        cap -= 1
    cells = [[texts[0], "─" * width, *texts[1:]] for texts, width in zip(cells, widths, strict=True)]
    padded = [
        [" " * (width - width_of(text)) + text if right else text + " " * (width - width_of(text)) for text in texts]
        for texts, width, (_, right) in zip(cells, widths, columns, strict=True)
    ]
    return ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column. pyarrow imports pandas to make a datetime, so those are made here."""
    if not pa.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist()
        return values
    start = datetime(1970, 1, 1, tzinfo=UTC if column.type.tz else None)
    microseconds = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).to_pylist()
    return [None if value is None else start + timedelta(microseconds=value) for value in microseconds]


def _cells(values: list[Any]) -> list[str]:
    """The texts of a column; its floats have the same number of decimals."""
    sizes = [abs(value) for value in values if isinstance(value, float)]
    # None for whole numbers, four for shares and SSIM, two for dB and seconds.
    decimals = 0 if all(map(float.is_integer, sizes)) else 4 if max(sizes) <= 1 else 2
    return ["-" if value is None else _text(value, decimals) for value in values]


def _text(value: Any, decimals: int) -> str:
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return printable(str(value))
