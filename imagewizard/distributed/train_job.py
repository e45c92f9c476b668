"""A training job from its checked config to its summary. The state is the run folder; this only moves it along."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from imagewizard import storage
from imagewizard.config.train import RESULT_KEYS, TrainConfig, TrainTask
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.distributed import cluster, train_fit
from imagewizard.errors import UserError
from imagewizard.manifest import listing, shards
from imagewizard.manifest.tally import Tally
from imagewizard.models import files as model_files
from imagewizard.progress import Printer
from imagewizard.runs import job
from imagewizard.schema import IMAGE_ID, MEMBER, ROW, URI
from imagewizard.storage import Folder
from imagewizard.storage.lease import Lease
from imagewizard.tracking import history
from imagewizard.tracking.history import VALIDATION
from imagewizard.training import vgg19

# Images that were not used, named in the summary.
EXAMPLES = 10


@dataclass(frozen=True)
class Plan:
    """A job that can run: everything that is cheap to check has been."""

    config: TrainConfig
    fingerprint: str | None
    resumed: bool
    summary: dict[str, Any] | None
    """Of a run that is finished already."""

    def __str__(self) -> str:
        config, optimizer, loss = self.config, self.config.optimizer, self.config.loss
        start = f"{config.model} ({self.fingerprint})" if config.model else f"random weights, seed {config.seed}"
        perceptual = loss.perceptual
        features = f" + {perceptual.weight:g} x VGG19 ({', '.join(perceptual.layers)})" if perceptual else ""
        decay = "cosine decay to 0" if optimizer.decay == "cosine" else "constant"
        extras = [
            config.precision,
            *(["gradient checkpointing"] if config.gradient_checkpointing else []),
            *(["compiled"] if config.compile else []),
        ]
        state = " (finished)" if self.summary else " (goes on from what is there)" if self.resumed else ""
        validation = config.validation
        how = "one step" if validation.mode == "mmse" else f"{validation.steps} DDIM steps"
        levels = f"sigma {', '.join(f'{sigma:g}' for sigma in validation.sigma)}"
        lines = {
            "train": f"{_named(config.data.train)}, crops of {config.data.crop} x {config.data.crop}",
            "validate": f"{_named(config.data.validation)}, {how}, {levels}, each {validation.every_epochs:g} epochs",
            "output": f"{config.output}{state}",
            "start": start,
            "sigma": f"{config.sigma[0]:g} to {config.sigma[1]:g}, uniform in {config.draw}",
            "loss": f"MSE of {config.loss.mse}{features}",
            "epochs": f"{optimizer.epochs:g}, batches of {optimizer.batch_size}",
            "adamw": f"rate {optimizer.learning_rate:g}, {optimizer.warmup_steps} steps of warm-up, {decay}, "
            f"weight decay {optimizer.weight_decay:g}, clip {optimizer.clip_norm:g}, EMA {optimizer.ema_decay:g}",
            "compute": ", ".join(extras),
        }
        return "\n".join(f"{name:<8} {text}" for name, text in lines.items())


def _named(source: str | list[str]) -> str:
    return source if isinstance(source, str) else f"{len(source)} files"


def prepare(config: TrainConfig) -> Plan:
    """Checks all that can be checked without starting anything or writing a byte. Raises UserError."""
    fingerprint = None
    most = max(config.sigma[1], *config.validation.sigma)
    if config.model is not None:
        files = model_files.find(config.model)
        files.check(max_sigma=most)
        network, fingerprint = model_files.read_json(files.config), files.fingerprint
    else:
        assert config.network is not None  # the config has one of the two
        network = config.network
        model_files.check_network(network)
        NoiseSchedule.from_config(config.schedule.model_dump()).timestep(most)
    if config.data.crop % (multiple := model_files.size_multiple(network)):
        raise UserError(f"data.crop: the network takes multiples of {multiple} pixels (got {config.data.crop})")
    if config.loss.perceptual:
        vgg19.check(config.loss.perceptual.weights, config.loss.perceptual.layers)
    job.check_output(config.output, config.data.train)
    stored = job.read_job(config.output)
    with _key_of("data.validation"):
        shards.check_source(config.data.validation)
    if stored is None:
        with _key_of("data.train"):
            shards.check_source(config.data.train)
        return Plan(config, fingerprint, False, None)
    job.check_same_job(stored, "train", config, fingerprint, RESULT_KEYS)
    return Plan(config, fingerprint, True, read_summary(config.output))


def read_summary(run: str) -> dict[str, Any] | None:
    """The summary of a finished run; None of another."""
    data = Folder(run).read_if_there("summary.json")
    return None if data is None else dict(json.loads(data))


@contextmanager
def _key_of(key: str) -> Iterator[None]:
    """Manifests complain of `input`; here they are something else's."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("input: ", f"{key}: ", 1)) from None


def execute(plan: Plan) -> dict[str, Any]:
    """Trains what is left, exports the model, and returns the summary.

    Raises UserError for data or options that do not work, RunLockedError if another driver is at it.
    """
    config, run = plan.config, plan.config.output
    with Lease(run) as lease:
        Folder(run).sweep()
        job.begin("train", config, plan.fingerprint, RESULT_KEYS)
        with _key_of("data.train"):
            index = shards.read_index(run) or shards.write(run, config.data.train, None, lease.check, Printer())
        images = pa.concat_tables([shards.read_shard(run, shard) for shard in range(len(index.blocks))])
        if images[MEMBER].null_count + images[ROW].null_count < 2 * images.num_rows:
            raise UserError("data.train: images in tar shards or Parquet cannot be trained on; give them as files")
        allocation = cluster.allocate_training(config.resources, config.most_pieces)
        task = _task(config, images.num_rows, allocation)
        print(f"ray      {allocation}, micro-batches of {task.micro_batch_size}; {task.steps} steps", flush=True)
        if train_fit.latest_step(run) < task.steps:
            train_fit.Fits(task, images.select([IMAGE_ID, URI]), allocation, lease).run()
        return _write_summary(task)


def _task(config: TrainConfig, images: int, allocation: cluster.TrainingAllocation) -> TrainTask:
    with _key_of("data.validation"):
        listed = pa.concat_tables(listing.batches(config.data.validation, Tally()))
    return TrainTask(
        config=_with_absolute_paths(config),
        images=images,
        validation=[
            (image_id, _absolute(uri))
            for image_id, uri in zip(listed[IMAGE_ID].to_pylist(), listed[URI].to_pylist(), strict=True)
        ],
        micro_batch_size=config.micro_batch_size(allocation.most),
        threads=allocation.threads_per_worker,
    )


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    changes: dict[str, Any] = {"output": _absolute(config.output)}
    if config.model is not None and Path(config.model).expanduser().is_dir():
        changes["model"] = _absolute(config.model)
    perceptual = config.loss.perceptual
    if perceptual is not None and perceptual.weights != vgg19.TORCHVISION:
        absolute = perceptual.model_copy(update={"weights": _absolute(perceptual.weights)})
        changes["loss"] = config.loss.model_copy(update={"perceptual": absolute})
    return config.model_copy(update=changes)


def _absolute(uri: str) -> str:
    return storage.absolute(uri)


def _write_summary(task: TrainTask) -> dict[str, Any]:
    """Exports the best checkpoint that is kept, then writes the summary, last: where it is, the run is finished."""
    run = task.config.output
    kept = train_fit.kept_checkpoints(run)
    name, best = max(kept, key=lambda pair: pair[1]["psnr"])
    validations = {row["step"]: row for row in history.of_kind(history.read(run), VALIDATION)}
    ray.get(ray.remote(num_cpus=cluster.WORKER_CPUS)(_export).remote(task, name, validations[best["step"]]))
    facts = kept[-1][1]
    summary = {
        "kind": "train",
        "steps": task.steps,
        "epochs": task.config.optimizer.epochs,
        "images": task.images,
        "broken_images": len(facts["skipped"]),
        "broken_examples": facts["skipped"][:EXAMPLES],
        "validation": {
            "first": validations[min(validations)],
            "best": validations[best["step"]],
            "last": validations[max(validations)],
        },
        "model": Folder(run).uri_of("model"),
        **{key: facts[key] for key in ("workers", "device", "seconds", "images_per_second", "overhead")},
    }
    data = json.dumps(summary, indent=2).encode()
    Folder(run).write("summary.json", data)
    return summary


def _export(task: TrainTask, checkpoint: str, scores: dict[str, Any]) -> None:
    """Runs where torch and diffusers are wanted, as the workers."""
    from imagewizard.training import export

    export.export(task, checkpoint, scores)
