"""The parts of a training job before and after training: the plan, and the run's files.

Both ways to train use this module: with Ray (distributed/train_job.py) and without (`python -m imagewizard.training`).
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from imagewizard import storage
from imagewizard.config.train import RESULT_KEYS, TrainConfig, TrainTask
from imagewizard.config.train_data import PairsSection
from imagewizard.diffusion import architecture
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.errors import UserError
from imagewizard.models import files as model_files
from imagewizard.progress import Reporter
from imagewizard.runs import job, summary
from imagewizard.schema import level_text
from imagewizard.storage import Folder
from imagewizard.tracking import checkpoints, history
from imagewizard.tracking.checkpoints import NOT_VALIDATED
from imagewizard.tracking.history import VALIDATION
from imagewizard.training import images as run_images
from imagewizard.training import vgg19

# The summary names at most this many unused images.
EXAMPLES = 10


@dataclass(frozen=True)
class TrainingPlan:
    """A job that can run: all cheap checks have passed."""

    config: TrainConfig
    fingerprint: str | None
    resumed: bool
    summary: dict[str, Any] | None
    """The summary of a finished run; None if the run is not finished."""
    started: float
    """When the job began, as `time.time` counts: its time limit counts from then."""

    def __str__(self) -> str:
        config, optimizer, loss = self.config, self.config.optimizer, self.config.loss
        start = f"{config.model} ({self.fingerprint})" if config.model else f"random weights, seed {config.seed}"
        perceptual = loss.perceptual
        features = f" + {perceptual.weight:g} x VGG19 ({', '.join(perceptual.layers)})" if perceptual else ""
        length = f"{optimizer.minutes:g} minutes" if optimizer.minutes else f"{optimizer.epochs:g} epochs"
        decay = "cosine decay to 0" if optimizer.decay == "cosine" else "constant"
        extras = [
            config.precision,
            *(["gradient checkpointing"] if config.gradient_checkpointing else []),
            *(["compiled"] if config.compile else []),
        ]
        state = " (finished)" if self.summary else " (resumes)" if self.resumed else ""
        validation = config.validation
        how = "one step" if validation.mode == "mmse" else f"{validation.steps} DDIM steps"
        lines = {
            "train": f"{_trained_on(config)}, crops of {config.data.crop} x {config.data.crop}",
            "validate": f"{_validated_with(config)}, {how}, each {validation.every_epochs:g} epochs",
            "output": f"{config.output}{state}",
            "start": start,
            "sigma": f"{level_text(config.sigma[0])} to {level_text(config.sigma[1])}, uniform in {config.draw}",
            "loss": f"MSE of {config.loss.mse}{features}",
            "length": f"{length}, batches of {optimizer.batch_size}",
            "adamw": f"rate {optimizer.learning_rate:g}, {optimizer.warmup_steps} steps of warm-up, {decay}, "
            f"weight decay {optimizer.weight_decay:g}, clip {optimizer.clip_norm:g}, EMA {optimizer.ema_decay:g}",
            "compute": ", ".join(extras),
        }
        return "\n".join(f"{name:<8} {text}" for name, text in lines.items())


def _trained_on(config: TrainConfig) -> str:
    data = config.data
    camera = f" ({data.camera:.3g} of the crops with a camera's noise)" if data.camera else ""
    return " and ".join(([f"{_named(data.train)}{camera}"] if data.train is not None else []) + _pairs(data.pairs))


def _validated_with(config: TrainConfig) -> str:
    source, options = config.data.validation, config.validation
    levels = ", ".join(map(level_text, options.sigma))
    alone = [f"{_named(source)} at sigma {levels}"] if source is not None else []
    return " and ".join(alone + _pairs(options.pairs))


def _pairs(folders: PairsSection | None) -> list[str]:
    return [f"pairs of {folders.noisy} and {folders.clean}"] if folders is not None else []


def _named(source: str | list[str]) -> str:
    return source if isinstance(source, str) else f"{len(source)} files"


def prepare(config: TrainConfig, started: float | None = None) -> TrainingPlan:
    """Runs all checks that need neither workers nor a write. Raises UserError.

    `started`: when the job began, as `time.time` counts; None: now. A command gives the start of its process.
    """
    started = time.time() if started is None else started
    job.check_output(config.output, config.data.sources)
    fingerprint = None
    most = max(config.sigma[1], *config.validation.sigma)
    if config.model is not None:
        files = model_files.find(config.model)
        files.check(max_sigma=most)
        network, fingerprint = model_files.read_json(files.config), files.fingerprint
    else:
        assert config.network is not None  # the config has one of the two
        network = config.network
        architecture.check_network(network)
        NoiseSchedule.from_config(config.schedule.model_dump()).timestep(most)
    if config.data.crop % (multiple := architecture.size_multiple(network)):
        raise UserError(
            f"the network takes multiples of {multiple} pixels (got {config.data.crop})",
            "give one of them",
            "data.crop",
        )
    if config.loss.perceptual:
        vgg19.check(config.loss.perceptual.weights, config.loss.perceptual.layers)
    stored = job.read_job(config.output)
    run_images.check_validation(config)
    if stored is None:
        run_images.check_sources(config)
        return TrainingPlan(config, fingerprint, False, None, started)
    job.check_same_job(stored, "train", config, fingerprint, RESULT_KEYS)
    run_images.check_same_sources(config)
    return TrainingPlan(config, fingerprint, True, summary.read(config.output), started)


def begin(plan: TrainingPlan, check: Callable[[], None], report: Reporter) -> pa.Table:
    """Writes job.yaml and the list of training images unless they exist. Returns these images by `images.SCHEMA`.

    The caller must hold the lease. `check` is called before each write of the listing; `report` receives its progress.
    Raises UserError, also if a resumed run began with other images.
    """
    config, run = plan.config, plan.config.output
    Folder(run).sweep()
    job.begin("train", config, plan.fingerprint, RESULT_KEYS)
    run_images.write_list(run, config, check, report)
    images = run_images.training(run, config)
    _tell_start(run, report)
    return images


def _tell_start(run: str, report: Reporter) -> None:
    """Settles the run's checkpoints, and reports from where a run that has been under way goes on."""
    step = checkpoints.settle(run, report)
    reached = max((row["step"] for row in history.read(run)), default=0)
    if step:
        report(f"resumes  from step {step}")
    elif reached:
        report(f"restarts from step 0: the run had come to step {reached}, and has no whole checkpoint")


def task(plan: TrainingPlan, images: pa.Table, workers: int, threads: int) -> TrainTask:
    """The task of each of up to `workers` workers with `threads` threads. `images`: those of `begin`."""
    config = plan.config
    minutes, kept = config.optimizer.minutes, checkpoints.kept(config.output)
    spent = kept[-1].facts["seconds"] if kept else 0.0
    return TrainTask(
        config=_with_absolute_paths(config),
        images=images.num_rows,
        in_memory=tuple(run_images.as_list(images)) if run_images.fits_in_memory(config, images) else (),
        validation=run_images.validation(config, images),
        micro_batch_size=config.micro_batch_size(workers),
        threads=threads,
        deadline=None if minutes is None else plan.started + 60.0 * minutes - spent,
    )


def is_done(task: TrainTask) -> bool:
    """Whether all steps and the last validation are done, so that only the summary is missing."""
    kept = checkpoints.kept(task.config.output)
    return bool(kept) and kept[-1].psnr != NOT_VALIDATED and task.steps is not None and kept[-1].step >= task.steps


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    changes: dict[str, Any] = {"output": storage.absolute(config.output)}
    if config.model is not None and storage.expanded(config.model).is_dir():
        changes["model"] = storage.absolute(config.model)
    perceptual = config.loss.perceptual
    if perceptual is not None and perceptual.weights != vgg19.TORCHVISION:
        absolute = perceptual.model_copy(update={"weights": storage.absolute(perceptual.weights)})
        changes["loss"] = config.loss.model_copy(update={"perceptual": absolute})
    return config.model_copy(update=changes)


def write_summary(task: TrainTask) -> dict[str, Any]:
    """Writes the summary, as the last file: it marks the run as finished. The model is that of the best checkpoint."""
    run = task.config.output
    kept = checkpoints.kept(run)
    best = max(kept, key=lambda checkpoint: checkpoint.psnr)
    rows = {row["step"]: row for row in history.of_kind(history.read(run), VALIDATION)}
    # A log that was damaged may lack some: a checkpoint knows its score, but not that of each level.
    batch = task.config.optimizer.batch_size
    validations = {
        each.step: {"step": each.step, "epoch": round(each.step * batch / task.images, 3), "psnr": each.psnr}
        for each in kept
        if each.psnr != NOT_VALIDATED
    } | rows
    facts = kept[-1].facts
    told = {
        "kind": "train",
        "steps": kept[-1].step,
        "epochs": validations[kept[-1].step]["epoch"],
        "images": task.images,
        "broken_images": len(facts["skipped"]),
        "broken_examples": facts["skipped"][:EXAMPLES],
        "validation": {
            "first": validations[min(validations)],
            "best": validations[best.step],
            "last": validations[max(validations)],
        },
        "model": Folder(run).uri_of("model"),
        **{key: facts[key] for key in ("workers", "device", "seconds", "images_per_second", "overhead")},
    }
    Folder(run).write("summary.json", json.dumps(told, indent=2).encode())
    return told
