"""A whole bulk job, as `imagewizard denoise` does it, and what it takes."""

from imagewizard.benchmarks import stand_in
from imagewizard.benchmarks.process_cpu import CpuMeter
from imagewizard.benchmarks.rates import Run
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.distributed import cluster, denoise_job, pipeline
from imagewizard.errors import JobError
from imagewizard.progress import Reporter
from imagewizard.query import sql
from imagewizard.schema import PSNR, STATUS, noisy


def measure(config: DenoiseConfig, device_ms: float | None, start: cluster.Start, report: Reporter) -> Run:
    """Does the job, whose output is a local folder, with a stand-in of `device_ms` for the model if that is given.

    `start` joins or starts Ray; `report` is told how far it is. Raises JobError unless each row is ok and scored.
    """
    plan = denoise_job.prepare(config)
    actor = pipeline.DenoiseActor if device_ms is None else stand_in.actor(device_ms)
    with CpuMeter(config.output) as meter:
        summary = denoise_job.execute(plan, report, start, actor)
    session, rows = summary["session"], summary["images"]
    _check(config.output, rows)
    rate = session["steady_rows_per_second"] or session["rows_per_second"]
    return Run(
        rows=rows,
        rate=rate,
        rate_with_start=session["rows_per_second"],
        stage_cpu_ms={stage: 1000 * seconds / rows for stage, seconds in summary["stage_cpu_seconds"].items()},
        cpu_ms=None if meter.cores is None else 1000 * meter.cores / rate,
    )


def _check(run: str, rows: int) -> None:
    """Raises JobError unless the run has so many rows, all of them ok and scored before and after."""
    scored = f"{STATUS} = 'ok' AND {PSNR} IS NOT NULL AND {noisy(PSNR)} IS NOT NULL"
    [found] = sql.records_of(run, f"SELECT count(*) AS rows, count(*) FILTER ({scored}) AS scored FROM results")
    if found != {"rows": rows, "scored": rows}:
        raise JobError(f"of {rows} images {found['rows']} have a row, and {found['scored']} are ok and scored")
