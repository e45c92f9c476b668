"""Rows of a query as a table for people, or streamed as CSV, JSON lines or Parquet, to stdout or a file."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import IO, Any

import duckdb
import pyarrow as pa

from imagewizard import storage
from imagewizard.errors import UserError, one_line
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
    """The format that a file's name asks for; table where it asks for none."""
    return _SUFFIXES.get((out or "").rpartition(".")[2].lower(), "table")


def write(relation: duckdb.DuckDBPyRelation, form: str, out: str | None, limit: int | None) -> None:
    """Writes the rows of `relation` in `form`, one of query.FORMATS, to the file `out` (local or s3://; None: stdout).

    At most `limit` rows (None: all, but TABLE_ROWS of a table, which then tells how many more there are). A file is
    there as a whole or not at all. Raises UserError where the query fails on the way or the format cannot hold it.
    """
    if form == "parquet" and out is None:
        raise UserError("parquet is not for the terminal: name a file with --out FILE")
    names = relation.columns
    if form in ("json", "parquet") and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two columns are called {twice}; {form} needs names that differ: give one with AS")
    with complaints(), _sink(out) as sink:
        if form == "table":
            text = _table(relation, TABLE_ROWS if limit is None else limit, fit=out is None)
            sink.write(f"{text}\n".encode())
        else:
            _STREAMED[form](relation if limit is None else relation.limit(limit), sink)


@contextmanager
def _sink(out: str | None) -> Iterator[IO[bytes]]:
    if out is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(storage.of(out).writer(out))
        except (OSError, UserError) as error:
            raise UserError(f"cannot be written: {one_line(error)}", "give another file", f"--out {out}") from None
        yield stream


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

    others = {str(kind.id) for kind in relation.types} - {"interval"}  # which Arrow has and Parquet has not
    reader = _with_text(relation, others).to_arrow_reader(_BATCH_ROWS)
    with pq.ParquetWriter(sink, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


_STREAMED = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}


def _with_text(relation: duckdb.DuckDBPyRelation, kinds: set[str]) -> duckdb.DuckDBPyRelation:
    """The relation with all columns that are of none of these types as text, as DuckDB writes them."""
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


def _table(relation: duckdb.DuckDBPyRelation, limit: int, fit: bool) -> str:
    """At most `limit` rows, aligned; cut to the terminal's width if they are to `fit` and there is one."""
    rows = _with_text(relation, _PLAIN).limit(limit + 1).to_arrow_table()
    hidden = relation.count("*").fetchall()[0][0] - limit if rows.num_rows > limit else 0
    screen = shutil.get_terminal_size().columns if fit and sys.stdout.isatty() else None
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
    """Header, rule and one line a row; `columns` are cells and whether they are numbers, which go to the right."""
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
    # none for whole numbers, four for shares and SSIM, two for dB and seconds
    decimals = 0 if all(map(float.is_integer, sizes)) else 4 if max(sizes) <= 1 else 2
    return ["-" if value is None else _text(value, decimals) for value in values]


def _text(value: Any, decimals: int) -> str:
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return printable(str(value))
