"""Runs a training job in this process, without Ray, on one GPU or on the CPU cores."""

import os
from functools import partial
from typing import Any

from imagewizard.errors import UserError
from imagewizard.progress import Reporter
from imagewizard.storage.lease import Lease
from imagewizard.tracking import history
from imagewizard.tracking.history import VALIDATION, Row
from imagewizard.training import job
from imagewizard.training.job import TrainingPlan


def execute(plan: TrainingPlan, report: Reporter) -> dict[str, Any]:
    """Trains the remaining steps and returns the summary; `report` receives progress lines.

    Raises UserError if data or options do not work, RunLockedError if another process holds the run.
    """
    from imagewizard.diffusion.denoiser import default_device  # imports torch, too slow for a config error
    from imagewizard.training import in_memory, loop
    from imagewizard.training.worker import Worker

    config = plan.config
    with Lease(config.output, report) as lease:
        images = job.begin(plan, lease.check, report)
        worker = Worker(0, 1, default_device())
        task = job.task(plan, images, 1, os.cpu_count() or 1)
        if not task.in_memory:
            raise UserError(
                f"{task.images} images may need more memory than its {config.resources.image_memory} bytes",
                "raise it, or use `imagewizard train`, which streams them",
                "resources.image_memory",
            )

        def note(row: Row) -> None:
            report(history.line(row, task.epochs))
            if row["kind"] == VALIDATION:
                _draw_curves(config.output)
            lease.check()

        if not job.is_done(task):
            loop.run(task, worker, partial(in_memory.shares, task, worker), note)
        return job.write_summary(task)


def _draw_curves(run: str) -> None:
    try:
        from imagewizard.tracking import curves
    except ModuleNotFoundError:  # a machine that only trains may lack matplotlib; metrics.jsonl has the numbers
        return
    curves.write(run)
