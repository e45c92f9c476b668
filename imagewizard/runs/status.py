"""The status of a bulk run, computed from the files in its folder: on any machine, while it runs or long after."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from imagewizard.manifest import shards as manifest
from imagewizard.progress import clock
from imagewizard.runs import job as run_job
from imagewizard.runs import results, totals
from imagewizard.runs.totals import Totals
from imagewizard.schema import FINISHED_AT
from imagewizard.storage import lease

# The rate is that of the rows in the last minutes before the newest one.
RATE_SECONDS = 300
# Files of which times are held in memory: half a megabyte of each at most.
FILES_AT_ONCE = 256


@dataclass(frozen=True)
class Status:
    """The state of a run in rows, one for each image and level."""

    state: str
    """listing | running | stopped | finished."""
    images: int
    ok: int
    failed: int
    pending: int
    rows_per_second: float | None
    """Over the last minutes of work; None if unknown."""
    last_row: datetime | None
    driver: str | None
    """`pid on host` of the driver that holds the run."""

    @property
    def eta_seconds(self) -> float | None:
        """Time to go at this rate; None without a driver or a rate."""
        return self.pending / self.rows_per_second if self.driver and self.rows_per_second else None


def read(run: str) -> Status:
    """The status of a run. Raises UserError if the folder is no run."""
    results.result_files(run)  # raises if this is no run
    holder = lease.holder(run)
    driver = f"pid {holder['pid']} on {holder['host']}" if holder else None
    index = manifest.read_index(run)
    job = run_job.read_job(run)
    if index is None or job is None:
        return Status("listing" if driver else "stopped", 0, 0, 0, 0, None, None, driver)
    files, shards = totals.snapshot(run)
    found = totals.merge(shards.values())
    pending = index.images * run_job.levels(job["config"]) - found.rows
    try:
        recent, span = _recent(run, files, shards, found.last_row or 0.0)
    except FileNotFoundError:  # a compaction has just replaced it; the next status will have the rate
        recent, span = 0, 0.0
    state = "running" if driver else "stopped" if pending else "finished"
    rate = recent / span if span else None
    last_row = datetime.fromtimestamp(found.last_row, UTC) if found.last_row else None
    return Status(state, index.images, found.ok, found.failed, pending, rate, last_row, driver)


_RECENT = f"SELECT count(*), min(epoch({FINISHED_AT})) FROM rows WHERE epoch({FINISHED_AT}) > ?"


def _recent(run: str, files: results.ResultFiles, shards: dict[int, Totals], last: float) -> tuple[int, float]:
    """The number of rows of the last minutes before the newest one, and the seconds that they span."""
    since = last - RATE_SECONDS
    names = [name for shard, each in shards.items() if (each.last_row or 0.0) > since for name in files.of_shard(shard)]
    count, first = 0, last
    with duckdb.connect() as connection, ThreadPoolExecutor(results.READ_THREADS) as pool:
        for at in range(0, len(names), FILES_AT_ONCE):
            times = pool.map(
                lambda name: results.read_columns(run, name, [FINISHED_AT]), names[at : at + FILES_AT_ONCE]
            )
            connection.register("rows", pa.concat_tables(times))
            [(rows, start)] = connection.execute(_RECENT, [since]).fetchall()
            count, first = count + rows, min(first, last if start is None else start)
    return count, last - first


def text(run: str, status: Status) -> str:
    """The status in a few lines, as the command prints it."""
    total = status.ok + status.failed + status.pending
    share = 100.0 * (total - status.pending) / total if total else 0.0
    lines = [
        f"{run}: {status.state}" + (f" ({status.driver})" if status.driver else ""),
        f"  {status.images} images, {total} rows: {status.ok} ok, {status.failed} failed, {status.pending} pending "
        f"({share:.1f} % done)",
    ]
    if status.rows_per_second:
        eta = f", ETA {clock(status.eta_seconds)}" if status.eta_seconds else ""
        lines.append(f"  {status.rows_per_second:.1f} rows/s{eta}; last row {status.last_row:%Y-%m-%d %H:%M:%S} UTC")
    if status.state == "stopped":
        lines.append("  the same `imagewizard denoise` command again goes on from here")
    elif status.failed and status.state == "finished":
        lines.append(f"  imagewizard query {run} errors tells why; retry_failed=true tries them again")
    return "\n".join(lines)
