"""How far a run is, computed from what lies in its folder: from any machine, while it runs or long after."""

from dataclasses import dataclass
from datetime import UTC, datetime

from imagewizard import lease, manifest, query, results, run_folder, summary
from imagewizard.job_config import DenoiseConfig
from imagewizard.schema import ERROR, OK

# The rate is that of the rows of the last minutes before the newest one.
RATE_MINUTES = 5

_RECENT = f"""
    SELECT count(*), epoch(min(finished_at)), epoch(max(finished_at)) FROM attempts
    WHERE finished_at > (SELECT max(finished_at) FROM attempts) - INTERVAL {RATE_MINUTES} MINUTE
"""


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
    """Over the last minutes of work; None if that cannot be told."""
    last_row: datetime | None
    driver: str | None
    """`pid on host` of the driver that holds the run."""

    @property
    def eta_seconds(self) -> float | None:
        """Time to go at this rate, for a run with a driver; None if that cannot be told."""
        return self.pending / self.rows_per_second if self.driver and self.rows_per_second else None


def read(run: str) -> Status:
    """The status of a run. Raises UserError if the folder is no run."""
    results.result_files(run)  # complains if this is no run
    holder = lease.holder(run)
    driver = f"pid {holder['pid']} on {holder['host']}" if holder else None
    index = manifest.read_index(run)
    job = run_folder.read_job(run)
    if index is None or job is None:
        return Status("listing" if driver else "stopped", 0, 0, 0, 0, None, None, driver)
    levels = len(DenoiseConfig.model_validate(job["config"]).levels)
    found = summary.counts(run)
    pending = index.images * levels - found[OK] - found[ERROR]
    with query.connect([run]) as connection:
        recent, first, last = query.select(connection, _RECENT).fetchall()[0]
    span = last - first if recent else 0.0
    state = "running" if driver else "stopped" if pending else "finished"
    rate = recent / span if span else None
    last_row = datetime.fromtimestamp(last, UTC) if recent else None
    return Status(state, index.images, found[OK], found[ERROR], pending, rate, last_row, driver)
