"""Jobs and their runs. A job prints nothing; its `reporter` receives progress lines, for example `reporter=print`."""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.train import TrainConfig
from imagewizard.errors import UserError
from imagewizard.progress import Reporter, silent

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

    from imagewizard.distributed.submitted_job import SubmittedJob
    from imagewizard.runs.status import Status
    from imagewizard.tracking.status import TrainingStatus


class Run:
    """The folder of a bulk job or a training, finished or not; local or s3://. Each call reads its current state."""

    def __init__(self, uri: str | PathLike[str]) -> None:
        self.uri = fspath(uri)

    def __repr__(self) -> str:
        return f"Run({self.uri!r})"

    @property
    def is_training(self) -> bool:
        """Whether this is the run of a training, which has no result rows."""
        from imagewizard.runs import job

        return job.kind(self.uri) == "train"

    def status(self) -> "Status | TrainingStatus":
        """The run's progress. Raises UserError if the folder is no run."""
        from imagewizard.runs import status
        from imagewizard.tracking import status as training_status

        return training_status.read(self.uri) if self.is_training else status.read(self.uri)

    def summary(self) -> dict[str, Any] | None:
        """Counts, means, rate and errors (summary.json); None while the run is unfinished."""
        from imagewizard.runs import summary

        return summary.read(self.uri)

    def results(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """The current row of each image and noise level, in arbitrary order; all columns, or only `columns`.

        schema.RESULT_SCHEMA explains the columns. Raises UserError for an unknown column.
        """
        from imagewizard.schema import RESULT_SCHEMA

        names = RESULT_SCHEMA.names if columns is None else list(columns)
        if unknown := [name for name in names if name not in RESULT_SCHEMA.names]:
            fix = f"columns: {', '.join(RESULT_SCHEMA.names)}"
            raise UserError(f"{unknown[0]!r} is no column of a run's rows", fix, "columns")
        return self.query(f"SELECT {', '.join(names)} FROM results")

    def dataset(self) -> "ds.Dataset":
        """All committed rows as a pyarrow dataset, including rows of earlier attempts.

        Without retries these are the rows of `results`.
        """
        from imagewizard.runs import results

        return results.dataset(self.uri, results.result_files(self.uri))

    def query(self, sql: str) -> "pa.Table":
        """The rows of a query: SQL (DuckDB) over the table `results`, or the name of a canned query such as `summary`.

        Raises UserError for wrong SQL, or for the run of a training.
        """
        from imagewizard.query import sql as query_sql

        with query_sql.connect([self.uri]) as connection, query_sql.complaints():
            return query_sql.select(connection, sql).to_arrow_table()

    def report(self) -> str:
        """Writes a report of the run, one self-contained HTML page, and returns its path."""
        from imagewizard.report import run, training

        return training.write_report(self.uri) if self.is_training else run.write_report(self.uri)


def run_denoise_job(job: DenoiseConfig, reporter: Reporter = silent) -> Run:
    """Runs a bulk job, or the rest of it, like `imagewizard denoise`; returns its run.

    Uses the Ray of this process if it runs, else joins the cluster of `resources.address`, else starts a local one. Ray
    stays up for the next job until `ray.shutdown()`. Raises UserError; RunLockedError if another driver holds the run;
    JobError if a disk, a server or a node fails. The same job again resumes from the committed blocks.
    """
    from imagewizard.distributed import denoise_job

    denoise_job.execute(denoise_job.prepare(job), reporter)
    return Run(job.output)


def run_train_job(job: TrainConfig, reporter: Reporter = silent) -> Run:
    """Starts or resumes a training, like `imagewizard train`; returns its run. Ray and errors: see run_denoise_job.

    A finished run stays unchanged.
    """
    from imagewizard.distributed import train_job

    plan = train_job.prepare(job)
    if plan.summary is None:
        train_job.execute(plan, reporter)
    return Run(job.output)


def submit(
    job: DenoiseConfig | TrainConfig,
    address: str | None = None,
    *,
    submission_id: str | None = None,
    retries: int = 0,
    reporter: Reporter = silent,
) -> "SubmittedJob":
    """Sends a job to a Ray cluster, like `imagewizard submit`, but without a folder; returns a handle at once.

    `address`: of the cluster's dashboard, http://HEAD:8265; None: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS. A
    `submission_id` that the cluster knows attaches to that job. The handle's `wait(reporter)` follows the job, sends it
    again up to `retries` times if the cluster fails, and returns the exit code; `status()`, `logs()` and `stop()` do
    what they say. Raises UserError for relative paths, no cluster at the address, or a refused token; JobError if the
    cluster is lost.
    """
    from imagewizard.distributed import submission
    from imagewizard.distributed.job_server import JobServer, find_address
    from imagewizard.distributed.submitted_job import SubmittedJob

    sent = submission.of_config(job)
    new_id = submission.new_id(sent.command) if submission_id is None else submission_id
    handle = SubmittedJob(JobServer(find_address(address), reporter), new_id, sent, retries)
    handle.start()
    return handle
