"""What a run has come to, counted from its result rows."""

import json
from typing import Any

from imagewizard import query, results, storage
from imagewizard.manifest import ManifestIndex
from imagewizard.progress import Progress
from imagewizard.schema import ERROR, OK

TOP_ERRORS = 20


def counts(run: str) -> dict[str, int]:
    """{ok: …, error: …}: the number of current rows of each status."""
    with query.connect([run]) as connection:
        found = dict(query.select(connection, "SELECT status, count(*) FROM results GROUP BY status").fetchall())
    return {status: found.get(status, 0) for status in (OK, ERROR)}


def records(run: str, sql: str) -> list[dict[str, Any]]:
    """The rows of a query on one run (SQL, or a canned query's name) as dicts, without the column `run`."""
    with query.connect([run]) as connection:
        rows = query.records(connection, sql)
    return [{name: value for name, value in row.items() if name != "run"} for row in rows]


def write(run: str, index: ManifestIndex, levels: int, progress: Progress) -> dict[str, Any]:
    """Checks that every image and level has its one current row, writes summary.json, last of all files, returns it."""
    found = counts(run)
    expected = index.images * levels
    if sum(found.values()) != expected:
        raise RuntimeError(f"{run}: {sum(found.values())} current rows for {expected} images and levels")
    summary = {
        "images": index.images,
        "skipped_files": index.skipped,
        "levels": levels,
        "ok": found[OK],
        "failed": found[ERROR],
        "session": {
            "rows": progress.rows,
            "seconds": round(progress.seconds, 1),
            "rows_per_second": round(progress.rate, 3),
            "steady_rows_per_second": progress.steady_rate,
        },
        "scores": records(run, "summary"),
        "top_errors": records(run, "errors")[:TOP_ERRORS],
        "result_files": results.result_files(run),
    }
    data = json.dumps(summary, indent=2).encode()
    storage.write_whole(storage.join(run, "summary.json"), data, storage.join(run, "_tmp"))
    return summary


def read(run: str) -> dict[str, Any] | None:
    """What summary.json holds; None while the run is unfinished."""
    uri = storage.join(run, "summary.json")
    return dict(json.loads(storage.read_bytes(uri))) if storage.exists(uri) else None
