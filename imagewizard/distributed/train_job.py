"""Runs a training job on a Ray cluster, from its checked plan to its summary."""

from typing import Any

from imagewizard import storage
from imagewizard.config.train import TrainConfig
from imagewizard.distributed import cluster, nodes, train_fit
from imagewizard.distributed.allocation import allocate_training
from imagewizard.distributed.nodes import Needed, View
from imagewizard.progress import Reporter
from imagewizard.storage.lease import Lease
from imagewizard.training import job, vgg19
from imagewizard.training.job import TrainingPlan


def prepare(config: TrainConfig, started: float | None = None) -> TrainingPlan:
    """As `training.job.prepare`; also raises UserError if there is no cluster where the config names one."""
    cluster.check(config.resources.address)
    return job.prepare(config, started)


def execute(plan: TrainingPlan, report: Reporter, start: cluster.Start = cluster.start) -> dict[str, Any]:
    """Trains the remaining steps and returns the summary.

    `report` receives progress lines. `start` joins or starts Ray. Raises UserError if data or options do not work,
    RunLockedError if another driver holds the run.
    """
    config = plan.config
    with Lease(config.output, report) as lease:
        view = None
        if cluster.is_joined(config.resources.address):
            start(config.resources.address, report)
            view = View(_needed(config), storage.absolute(config.output), lease.id)
            nodes.check(view, config.resources.gpus_per_worker, report)
        images = job.begin(plan, lease.check, report)
        start(config.resources.address, report)
        allocation = allocate_training(config.resources, config.max_micro_batches)
        task = job.task(plan, images, allocation.most, allocation.threads_per_worker)
        length = f"{task.steps} steps" if task.steps else f"{config.optimizer.minutes:g} minutes"
        report(f"ray      {allocation}, micro-batches of {task.micro_batch_size}; {length}")
        if allocation.shortage:
            report(f"waits    for nodes of the cluster's autoscaler; {allocation.shortage}")
        if not job.is_done(task):
            train_fit.Attempts(task, images, allocation, lease, report, view).run()
        return job.write_summary(task)


def _needed(config: TrainConfig) -> tuple[Needed, ...]:
    """The local paths of a job, which all nodes of a cluster must see."""
    model = [config.model] if config.model is not None and storage.expanded(config.model).is_dir() else []
    data, held_out, perceptual = config.data, config.validation.pairs, config.loss.perceptual
    weights = [] if perceptual is None or perceptual.weights == vgg19.TORCHVISION else [perceptual.weights]
    return (
        *nodes.local_paths("data.train", data.train),
        *nodes.local_paths("data.pairs.noisy", data.pairs.noisy if data.pairs else None),
        *nodes.local_paths("data.pairs.clean", data.pairs.clean if data.pairs else None),
        *nodes.local_paths("data.validation", data.validation, by_models=True),
        *nodes.local_paths("validation.pairs.noisy", held_out.noisy if held_out else None, by_models=True),
        *nodes.local_paths("validation.pairs.clean", held_out.clean if held_out else None, by_models=True),
        *nodes.local_paths("model", model, by_models=True),
        *nodes.local_paths("loss.perceptual.weights", weights, by_models=True),
    )
