"""SQL over the result rows of runs: DuckDB in this process, on rows from pyarrow, without access to anything else."""

import difflib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from imagewizard.errors import JobError, UserError, one_line
from imagewizard.query.canned import CANNED
from imagewizard.runs import job, results
from imagewizard.runs.totals import SUPERSEDED
from imagewizard.schema import RESULT_SCHEMA
from imagewizard.storage import Folder

# The statements that a query may be: those that change nothing. The parser calls a PIVOT a MULTI.
_READING = (
    duckdb.StatementType.SELECT,
    duckdb.StatementType.MULTI,
)


def connect(runs: list[str]) -> duckdb.DuckDBPyConnection:
    """A connection with two views over the runs: `results`, the current row of each key, and `attempts`, all rows.

    Both have the columns of RESULT_SCHEMA and `run`, the run's folder as given. Projections and filters reach the
    Parquet files. SQL on it can open no file, load no extension and change no setting. Raises UserError if a folder
    is no run, or a training's.
    """
    connection = duckdb.connect(":memory:")
    current, every = [], []
    for number, run in enumerate(dict.fromkeys(runs)):
        current += _current(connection, run, number)
        every.append(_labelled(run, f"_run{number}"))
    connection.execute(f"CREATE VIEW attempts AS {' UNION ALL '.join(every)}")
    connection.execute(f"CREATE VIEW results AS {' UNION ALL '.join(current)}")
    _lock(connection)
    return connection


def _current(connection: duckdb.DuckDBPyConnection, run: str, number: int) -> list[str]:
    """SELECTs of a run's current rows; registers its files as _run{number}, and parts of them, with `connection`."""
    Folder(run).check_answers()
    names = results.result_files(run)
    if not names and job.kind(run) == "train":
        raise UserError(f"{run}: a training run has no result rows", "see imagewizard status and imagewizard report")
    # Retries are in the files of their manifest shard. Rows of shards without any need no look for later rows.
    files = {name: file for name in names if (file := results.parse(name))}
    retried = {file.shard for file in files.values() if file.attempt > 1}
    parts = {
        f"_run{number}": names,
        f"_run{number}_plain": [name for name, file in files.items() if file.shard not in retried],
        f"_run{number}_retried": [name for name, file in files.items() if file.shard in retried],
    }
    try:
        held = results.rows(run, names)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(one_line(error)) from None
    for table, kept in parts.items():
        if held is None:
            connection.register(table, results.dataset(run, kept))
        else:
            empty = pa.Table.from_batches([], RESULT_SCHEMA)
            connection.register(table, pa.concat_tables([empty, *(held[name] for name in kept)]))
    selects = [_labelled(run, f"_run{number}_plain")]
    if retried:
        # Later rows are few: rows stream past a small hash table of them, where a window function would sort all.
        later = f"(SELECT * FROM _run{number}_retried WHERE attempt > 1) AS later"
        selects.append(_labelled(run, f"_run{number}_retried") + f" ANTI JOIN {later} ON {SUPERSEDED}")
    return selects


def _labelled(run: str, table: str) -> str:
    literal = run.replace("'", "''")
    return f"SELECT '{literal}' AS run, row.* FROM {table} AS row"


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    """Takes the connection's access to disk, network and Python's variables away, for good."""
    # The default is .tmp in the working folder.
    spill = Path(tempfile.gettempdir()) / f"imagewizard-query-{os.getpid()}"
    connection.execute("SET temp_directory = ?", [str(spill)])
    for setting in (
        "autoload_known_extensions = false",
        "enable_external_access = false",
        "TimeZone = 'UTC'",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


def select(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.DuckDBPyRelation:
    """The rows of `query`, SQL or the name of a canned query; they are computed as they are fetched.

    Raises UserError for wrong SQL, for anything but one reading statement and for an unknown name.
    """
    if query in CANNED:
        query = CANNED[query].sql
    elif len(query.split()) < 2:  # no SQL is one word
        close = difflib.get_close_matches(query, CANNED, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"canned queries: {', '.join(CANNED)}"
        raise UserError(f"{query!r} is neither SQL nor a canned query", hint)
    with complaints():
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type not in _READING:
            fix = "give one query, as SELECT … FROM results; runs cannot be changed from here"
            raise UserError("more than one statement, or one that does not only read", fix, "SQL")
        return connection.sql(query)


def records(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """All rows of a query as dicts, times as aware datetimes. Raises UserError as `select` does."""
    with complaints():
        # Through Arrow, because DuckDB's own fetchall needs the package pytz for times.
        rows: list[dict[str, Any]] = select(connection, query).to_arrow_table().to_pylist()
    return rows


def records_of(run: str, query: str) -> list[dict[str, Any]]:
    """All rows of a query on one run as dicts, without the column `run`. Raises UserError as `connect` and `select`."""
    with connect([run]) as connection:
        rows = records(connection, query)
    return [{name: value for name, value in row.items() if name != "run"} for row in rows]


@contextmanager
def complaints() -> Iterator[None]:
    """Turns DuckDB's complaints about a query, when it is bound or its rows are fetched, into a UserError.

    Complaints about the files become a JobError.
    """
    try:
        yield
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError, duckdb.PermissionException) as error:
        what = str(error).partition("\n\nLINE ")[0]  # what follows repeats the line of SQL, with a caret under it
        if "reading the stream registered as" in what:  # an error of pyarrow, no mistake in the query
            raise _unreadable(one_line(what)[-200:]) from None
        raise UserError(one_line(what), "correct the query", "SQL") from None


def _unreadable(reason: str) -> JobError:
    return JobError(
        f"result files could not be read, or were put together meanwhile; run the same command again ({reason})"
    )
