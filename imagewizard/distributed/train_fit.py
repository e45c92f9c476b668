"""Ray Train's part of a training job: a fit, another after each death of a worker, and what is printed meanwhile."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset
from ray.train import CheckpointConfig, DataConfig, FailureConfig, Result, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer

from imagewizard import storage
from imagewizard.config.train import TrainTask
from imagewizard.distributed import cluster, train_stream
from imagewizard.distributed.cluster import TrainingAllocation
from imagewizard.errors import UserError
from imagewizard.progress import clock
from imagewizard.storage import Folder
from imagewizard.storage.lease import Lease
from imagewizard.tracking import history
from imagewizard.tracking import log as training_log

CHECKPOINTS = "checkpoints"
# How often the driver looks for new lines to print, and says that it waits for the first one.
FOLLOW_SECONDS = 2.0
WAITING_SECONDS = 15.0


class Fits:
    """The fits of a run, one after another where workers die."""

    def __init__(self, task: TrainTask, images: pa.Table, allocation: TrainingAllocation, lease: Lease) -> None:
        """`images`: the training manifest, image_id and uri. Ray must run, and the run be held by `lease`."""
        self._task, self._allocation, self._lease, self._run = task, allocation, lease, task.config.output
        self._samples = train_stream.Samples(
            images=ray.put(images),
            count=images.num_rows,
            seed=task.config.seed,
            crop=task.config.data.crop,
            small=task.config.data.small,
            micro_batch_size=task.micro_batch_size,
        )

    def run(self) -> None:
        """Fits until the last step is done."""
        failures = 0
        while (error := self._fit()) is not None:
            for failure in error.worker_failures.values():
                if cause := _user_error(failure):
                    raise cause
            failures += 1
            if failures > self._task.config.resources.max_failures:
                raise error
            self._tell_of(error)

    def _fit(self) -> WorkerGroupError | None:
        """One go of Ray Train, whose worker group lives as long as all of its workers do; prints as it goes. Returns
        what a worker died of."""
        # In a task of its own: in our main thread Ray takes Ctrl-C for itself, and ends the program with success; from
        # another thread it ends, at times, with exit code 1.
        fit = ray.remote(num_cpus=0, max_retries=0)(_fit).remote(self._trainer())
        follower = _Follower(self._run, self._task.config.optimizer.epochs)
        while not ray.wait([fit], timeout=FOLLOW_SECONDS)[0]:
            follower.print_news()
            self._lease.check()
        follower.print_news()
        error: WorkerGroupError | None = ray.get(fit)
        return error

    def _trainer(self) -> TorchTrainer:
        config, allocation = self._task.config, self._allocation
        before = kept_checkpoints(self._run)[-1:]
        task = replace(
            self._task,
            seconds_before=sum(metrics["seconds"] for _, metrics in before),
            skipped_before=tuple(text for _, metrics in before for text in metrics["skipped"]),
        )
        filesystem, path = storage.resolve(self._run)
        gpus = {"GPU": allocation.gpus_per_worker} if allocation.gpus_per_worker else {}
        options = train_stream.execution_options(self._samples, allocation.most)
        context = DataContext.get_current()
        usual, context.execution_options = context.execution_options, options  # the workers get a copy of the context
        try:
            return TorchTrainer(
                _train,
                train_loop_config={"task": task},
                scaling_config=ScalingConfig(
                    num_workers=allocation.most
                    if allocation.least == allocation.most
                    else (allocation.least, allocation.most),
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
                # Ray sends it to where it runs, so it holds nothing of ours that lives on the driver.
                datasets={"train": partial(_rows_left, self._task, self._samples)},
                dataset_config=DataConfig(execution_options=options, enable_shard_locality=False),
            )
        finally:
            context.execution_options = usual

    def _tell_of(self, error: WorkerGroupError) -> None:
        # The others' collective operations fail with it, as RuntimeErrors: the one who died is whom to name.
        rank, failure = min(error.worker_failures.items(), key=lambda pair: isinstance(pair[1], RuntimeError))
        step = latest_step(self._run)
        reason = " ".join(str(failure).split())[:200]
        text = f"worker {rank} died ({type(failure).__name__}: {reason}); going on from step {step}"
        print(text, flush=True)
        training_log.add_event(self._run, step, text)


def _rows_left(task: TrainTask, samples: train_stream.Samples) -> Dataset:
    """The rows to train on; called at each start of a worker group. One batch more than is taken, because a split
    into equal parts drops the remainder."""
    first = latest_step(task.config.output) * task.rows_per_step
    return train_stream.build(samples, first, (task.steps + 1) * task.rows_per_step)


def _fit(trainer: TorchTrainer) -> WorkerGroupError | None:
    """What a worker of the fit died of, if one did."""
    try:
        trainer.fit()
    except WorkerGroupError as error:
        return error
    return None


def _train(config: dict[str, Any]) -> None:
    """What a worker runs; imports diffusers, and its ten seconds, only there."""
    from imagewizard.images.decoding import quiet
    from imagewizard.training import loop

    quiet()
    loop.run(config["task"])


class _Follower:
    """Prints what the first worker writes into metrics.jsonl, from wherever it does so."""

    def __init__(self, run: str, epochs: float) -> None:
        self._run, self._epochs = run, epochs
        rows = history.read(run)
        self._told = max((row["time"] for row in rows), default=0.0)
        self._started = self._waited = time.monotonic()
        self._silent = True

    def print_news(self) -> None:
        news = [row for row in history.read(self._run) if row["time"] > self._told]
        for row in news:
            print(history.line(row, self._epochs), flush=True)
            self._told = row["time"]
            self._silent = False
        now = time.monotonic()
        if self._silent and now - self._waited > WAITING_SECONDS:
            self._waited = now
            print(f"workers are starting, {clock(now - self._started)}", flush=True)


def _user_error(error: BaseException | None) -> UserError | None:
    """The UserError in a worker's failure, which Ray wraps."""
    while error is not None and not isinstance(error, UserError):
        error = getattr(error, "cause", None) or error.__cause__
    return error


def kept_checkpoints(run: str) -> list[tuple[str, dict[str, Any]]]:
    """(folder name, {step, psnr}) of the checkpoints that a run keeps, the newest last."""
    filesystem, path = storage.resolve(Folder(run).uri_of(CHECKPOINTS))
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
