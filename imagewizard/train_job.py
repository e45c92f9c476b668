"""A training job from its checked config to its summary. The state is the run folder; this only moves it along."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from pyarrow import fs
from ray.data import DataContext, Dataset
from ray.train import CheckpointConfig, DataConfig, FailureConfig, Result, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer

from imagewizard import (
    cluster,
    manifest,
    model_files,
    perceptual_files,
    run_folder,
    storage,
    training_log,
    training_metrics,
    training_stream,
)
from imagewizard.cluster import TrainingWidth
from imagewizard.errors import UserError
from imagewizard.lease import Lease
from imagewizard.progress import clock
from imagewizard.schedule import NoiseSchedule
from imagewizard.schema import IMAGE_ID, URI
from imagewizard.train_config import RESULT_KEYS, TrainConfig, TrainTask
from imagewizard.training_metrics import VALIDATION

CHECKPOINTS = "checkpoints"
# Images that were not used, named in the summary.
EXAMPLES = 10
# How often the driver looks for new lines to print.
FOLLOW_SECONDS = 2.0
WAITING_SECONDS = 15.0


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
        perceptual_files.check(config.loss.perceptual.weights, config.loss.perceptual.layers)
    run_folder.check_output(config.output)
    stored = run_folder.read_job(config.output)
    with _key_of("data.validation"):
        manifest.check_source(config.data.validation)
    if stored is None:
        with _key_of("data.train"):
            manifest.check_source(config.data.train)
        return Plan(config, fingerprint, False, None)
    run_folder.check_same_job(stored, "train", config, fingerprint, RESULT_KEYS)
    return Plan(config, fingerprint, True, read_summary(config.output))


def read_summary(run: str) -> dict[str, Any] | None:
    """The summary of a finished run; None of another."""
    uri = storage.join(run, "summary.json")
    return dict(json.loads(storage.read_bytes(uri))) if storage.exists(uri) else None


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
    with Lease(run):
        run_folder.sweep(run)
        if not plan.resumed:
            run_folder.write_job("train", config, plan.fingerprint)
        with _key_of("data.train"):
            index = manifest.read_index(run) or manifest.write(run, config.data.train, None)
        images = pa.concat_tables([manifest.read_shard(run, shard) for shard in range(len(index.blocks))])
        width = cluster.training_width(config.resources, config.most_pieces)
        job = _Job(config, images.select([IMAGE_ID, URI]), width)
        print(f"ray      {width}, micro-batches of {job.task.micro_batch_size}; {job.task.steps} steps", flush=True)
        if latest_step(run) < job.task.steps:
            job.run()
        return _write_summary(job.task)


class _Job:
    """The fits of a run, one after another where workers die."""

    def __init__(self, config: TrainConfig, images: pa.Table, width: TrainingWidth) -> None:
        with _key_of("data.validation"):
            listed = pa.concat_tables(manifest.listing(config.data.validation, []))
        validation = list(zip(listed[IMAGE_ID].to_pylist(), listed[URI].to_pylist(), strict=True))
        self._run = config.output
        self._width = width
        self.task = TrainTask(
            config=_with_absolute_paths(config),
            images=images.num_rows,
            validation=[(image_id, _absolute(uri)) for image_id, uri in validation],
            micro_batch_size=config.micro_batch_size(width.most),
            threads=width.threads_per_worker,
        )
        self._samples = training_stream.Samples(
            images=ray.put(images),
            count=images.num_rows,
            seed=config.seed,
            crop=config.data.crop,
            small=config.data.small,
            micro_batch_size=self.task.micro_batch_size,
        )

    def run(self) -> None:
        """Fits until the last step is done."""
        failures = 0
        while True:
            try:
                self._fit()
                return
            except WorkerGroupError as error:
                for failure in error.worker_failures.values():
                    if cause := _user_error(failure):
                        raise cause from None
                failures += 1
                if failures > self.task.config.resources.max_failures:
                    raise
                self._tell_of(error)

    def _fit(self) -> None:
        """One go of Ray Train, whose worker group lives as long as all of its workers do; prints as it goes."""
        trainer = self._trainer()
        outcome: Future[Result] = Future()

        def fit() -> None:
            try:
                outcome.set_result(trainer.fit())
            except BaseException as error:
                outcome.set_exception(error)

        # In a thread of its own: in the main one Ray takes Ctrl-C for itself, and ends the program with success.
        threading.Thread(target=fit, name="fit", daemon=True).start()
        follower = _Follower(self._run, self.task.config.optimizer.epochs)
        while not outcome.done():
            time.sleep(FOLLOW_SECONDS)
            follower.print_news()
        follower.print_news()
        outcome.result()

    def _trainer(self) -> TorchTrainer:
        config, width = self.task.config, self._width
        before = kept_checkpoints(self._run)[-1:]
        task = replace(
            self.task,
            seconds_before=sum(metrics["seconds"] for _, metrics in before),
            skipped_before=tuple(text for _, metrics in before for text in metrics["skipped"]),
        )
        filesystem, path = storage.resolve(self._run)
        gpus = {"GPU": width.gpus_per_worker} if width.gpus_per_worker else {}
        options = training_stream.execution_options(self._samples, width.most)
        context = DataContext.get_current()
        usual, context.execution_options = context.execution_options, options  # the workers get a copy of the context
        try:
            return TorchTrainer(
                _train,
                train_loop_config={"task": task},
                scaling_config=ScalingConfig(
                    num_workers=width.most if width.least == width.most else (width.least, width.most),
                    use_gpu=bool(gpus),
                    resources_per_worker={"CPU": cluster.WORKER_CPUS, **gpus},
                ),
                run_config=RunConfig(
                    name=CHECKPOINTS,
                    storage_path=path,
                    storage_filesystem=filesystem,
                    checkpoint_config=CheckpointConfig(
                        num_to_keep=config.checkpoints.keep, checkpoint_score_attribute="psnr"
                    ),
                    # A worker's death ends the fit, so that the reason can be told; then `run` starts the next.
                    failure_config=FailureConfig(max_failures=0),
                ),
                datasets={"train": self._stream},
                dataset_config=DataConfig(execution_options=options, enable_shard_locality=False),
            )
        finally:
            context.execution_options = usual

    def _stream(self) -> Dataset:
        """The rows that are left; called at each start of a worker group. One batch more than is taken, because a
        split into equal parts drops the remainder."""
        per_step = self.task.rows_per_step
        first = latest_step(self._run) * per_step
        return training_stream.build(self._samples, first, (self.task.steps + 1) * per_step)

    def _tell_of(self, error: WorkerGroupError) -> None:
        rank, failure = next(iter(error.worker_failures.items()))
        step = latest_step(self._run)
        reason = " ".join(str(failure).split())[:200]
        text = f"worker {rank} died ({type(failure).__name__}: {reason}); going on from step {step}"
        print(text, flush=True)
        training_log.add_event(self._run, step, text)


def _train(config: dict[str, Any]) -> None:
    """What a worker runs; imports diffusers, and its ten seconds, only there."""
    from imagewizard import train_loop

    train_loop.run(config["task"])


class _Follower:
    """Prints what the first worker writes into metrics.jsonl, from wherever it does so."""

    def __init__(self, run: str, epochs: float) -> None:
        self._run, self._epochs = run, epochs
        rows = training_metrics.read(run)
        self._told = max((row["time"] for row in rows), default=0.0)
        self._started = self._waited = time.monotonic()
        self._silent = True

    def print_news(self) -> None:
        news = [row for row in training_metrics.read(self._run) if row["time"] > self._told]
        for row in news:
            print(training_metrics.line(row, self._epochs), flush=True)
            self._told = row["time"]
            self._silent = False
        now = time.monotonic()
        if self._silent and now - self._waited > WAITING_SECONDS:
            self._waited = now
            print(f"workers are starting, {clock(now - self._started)}", flush=True)


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    changes: dict[str, Any] = {"output": _absolute(config.output)}
    if config.model is not None and Path(config.model).expanduser().is_dir():
        changes["model"] = _absolute(config.model)
    perceptual = config.loss.perceptual
    if perceptual is not None and perceptual.weights != perceptual_files.TORCHVISION:
        absolute = perceptual.model_copy(update={"weights": _absolute(perceptual.weights)})
        changes["loss"] = config.loss.model_copy(update={"perceptual": absolute})
    return config.model_copy(update=changes)


def _absolute(uri: str) -> str:
    filesystem, path = storage.resolve(uri)
    return path if isinstance(filesystem, fs.LocalFileSystem) else uri


def _user_error(error: BaseException | None) -> UserError | None:
    """The UserError in a worker's failure, which Ray wraps."""
    while error is not None and not isinstance(error, UserError):
        error = getattr(error, "cause", None) or error.__cause__
    return error


def kept_checkpoints(run: str) -> list[tuple[str, dict[str, Any]]]:
    """(folder name, {step, psnr}) of the checkpoints that a run keeps, the newest last."""
    filesystem, path = storage.resolve(storage.join(run, CHECKPOINTS))
    try:
        result = Result.from_path(path, storage_filesystem=filesystem)
    except RuntimeError:
        return []  # no run, or no checkpoint yet
    found = [(Path(kept.path).name, dict(metrics)) for kept, metrics in result.best_checkpoints or []]
    return sorted(found, key=lambda pair: pair[1]["step"])


def latest_step(run: str) -> int:
    """The step of the checkpoint that a run would go on from; 0 without one."""
    kept = kept_checkpoints(run)
    return int(kept[-1][1]["step"]) if kept else 0


def _write_summary(task: TrainTask) -> dict[str, Any]:
    """Exports the best checkpoint that is kept, then writes the summary, last: where it is, the run is finished."""
    run = task.config.output
    kept = kept_checkpoints(run)
    name, best = max(kept, key=lambda pair: pair[1]["psnr"])
    validations = {row["step"]: row for row in training_metrics.of_kind(training_metrics.read(run), VALIDATION)}
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
        "model": storage.join(run, "model"),
        **{key: facts[key] for key in ("workers", "device", "seconds", "images_per_second", "overhead")},
    }
    data = json.dumps(summary, indent=2).encode()
    storage.write_whole(storage.join(run, "summary.json"), data, storage.join(run, "_tmp"))
    return summary


def _export(task: TrainTask, checkpoint: str, scores: dict[str, Any]) -> None:
    """Runs where torch and diffusers are wanted, as `_train`."""
    from imagewizard import model_export

    model_export.export(task, checkpoint, scores)
