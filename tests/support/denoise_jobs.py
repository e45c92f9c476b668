"""Bulk jobs that a test runs in its own process, on the session's cluster, and the rows that come of them."""

from pathlib import Path

from imagewizard import config
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.distributed import denoise_job, pipeline
from imagewizard.query.sql import records_of


def plan(*words: str) -> denoise_job.DenoisePlan:
    """What `imagewizard denoise` makes of these words."""
    # One actor, because each imports torch first; a test that wants more says so in a later word.
    return denoise_job.prepare(config.load(DenoiseConfig, None, ["resources.actors=1", *words]))


def run_job(*words: str, actor: type[pipeline.DenoiseActor] = pipeline.DenoiseActor) -> dict:
    """Runs such a job, and returns its summary."""
    return denoise_job.execute(plan(*words), actor=actor)


def rows(run: Path, order: str = "image_id, noise_params, sigma") -> list[dict]:
    """The current rows of a run."""
    return records_of(str(run), f"SELECT * FROM results ORDER BY {order}")
