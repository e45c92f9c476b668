"""Runs a training job on a Ray cluster, from its checked plan to its summary."""

from typing import Any

from imagewizard.distributed import cluster, train_fit
from imagewizard.distributed.allocation import allocate_training
from imagewizard.progress import Reporter
from imagewizard.storage.lease import Lease
from imagewizard.training import job
from imagewizard.training.job import TrainingPlan
from imagewizard.training.job import prepare as prepare


def execute(plan: TrainingPlan, report: Reporter, start: cluster.Start = cluster.start) -> dict[str, Any]:
    """Trains the remaining steps and returns the summary.

    `report` receives progress lines. `start` joins or starts Ray. Raises UserError if data or options do not work,
    RunLockedError if another driver holds the run.
    """
    config = plan.config
    with Lease(config.output) as lease:
        images = job.begin(plan, lease.check, report)
        start(config.resources.address)
        allocation = allocate_training(config.resources, config.max_micro_batches)
        task = job.task(config, images, allocation.most, allocation.threads_per_worker)
        length = f"{task.steps} steps" if task.steps else f"{config.optimizer.minutes:g} minutes"
        report(f"ray      {allocation}, micro-batches of {task.micro_batch_size}; {length}")
        if not job.is_done(task):
            train_fit.Attempts(task, images, allocation, lease, report).run()
        return job.write_summary(task)
