"""Ray Train's part of a training job: runs a fit, restarts it after a worker's death, and reports progress."""

import math
import re
import shutil
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer

from imagewizard import storage
from imagewizard.config.train import TrainTask
from imagewizard.distributed import cluster, train_stream
from imagewizard.distributed.allocation import TrainingAllocation, allocate_training, notice_losses, tell_ray_train
from imagewizard.distributed.nodes import View
from imagewizard.distributed.telemetry import Telemetry
from imagewizard.errors import JobError, UserError, one_line
from imagewizard.progress import Reporter, clock
from imagewizard.storage import Folder
from imagewizard.storage.lease import Lease
from imagewizard.tracking import checkpoints, curves, history
from imagewizard.tracking.history import VALIDATION

# Folder for Ray Train's own files; Image Wizard stores nothing there.
RAY_FOLDER = "ray"
# The driver looks for new rows every FOLLOW_SECONDS. Until the first one, it reports every WAITING_SECONDS that workers
# are starting.
FOLLOW_SECONDS = 2.0
WAITING_SECONDS = 15.0
# An autoscaler finds another machine in some minutes, if there is one.
NODE_SECONDS = 1800.0
# The stream needs an end, but a run with a time limit has no known number of steps. No GPU trains faster than this.
MOST_CROPS_A_SECOND = 20_000


class Attempts:
    """The fits of a run: one, and another one after each worker's death."""

    def __init__(
        self,
        task: TrainTask,
        images: pa.Table,
        allocation: TrainingAllocation,
        lease: Lease,
        report: Reporter,
        view: View | None = None,
    ) -> None:
        """`images`: those of `training.job.begin`. Ray must be running, and `lease` must hold the run.

        `view`: what the node of each worker must see, on a cluster; a later fit may have nodes that joined meanwhile.
        """
        self._task, self._allocation, self._lease, self._run = task, allocation, lease, task.config.output
        self._report, self._view = report, view
        self._telemetry = Telemetry(self._run, "train")
        self._samples = stream_samples(task, ray.put(images))

    def run(self) -> None:
        """Runs fits until the last step is done. Raises a worker's UserError, or WorkerGroupError after too many."""
        with self._telemetry:
            self._run_fits()

    def _run_fits(self) -> None:
        failures = 0
        while (error := self._fit()) is not None:
            for failure in error.worker_failures.values():
                if cause := _user_error(failure):
                    raise cause
            failures += 1
            if failures > self._task.config.resources.max_failures:
                raise error
            self._report_failure(error)
            self._allocation = self._allocate_anew()

    def _allocate_anew(self) -> TrainingAllocation:
        """What the cluster offers now: a node may be lost. Waits for another one if too little is left."""
        config, waited = self._task.config, 0.0
        notice_losses()
        while True:
            try:
                return allocate_training(config.resources, self._task.rows_per_step)
            except UserError as error:
                reason = f"resources.workers: {error.what}, since a node was lost"
                if time.time() > (self._task.deadline or math.inf):
                    raise JobError(f"{reason}, and the time is up; the same command ends the training") from None
                if waited >= NODE_SECONDS:
                    raise JobError(f"{reason}; with workers=[1,N] a training goes on with fewer") from None
                self._report(f"waiting for a node; resources.workers: {error.what}")
            time.sleep(WAITING_SECONDS)
            waited += WAITING_SECONDS
            self._lease.check()

    def _fit(self) -> WorkerGroupError | None:
        """Runs one fit of Ray Train and reports its progress. Returns the error of a worker that died, which ends the
        whole worker group; None if all finished."""
        tell_ray_train()
        forget(self._run)
        # The fit runs in its own Ray task. In the driver's main thread Ray would handle Ctrl-C itself and exit with
        # success; in another thread the program would sometimes exit with code 1.
        # On this node, because another one may be lost, with Ray Train's controller, which lives where the task does.
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": cluster.only_here()}
        fit = ray.remote(**options)(_fit).remote(self._trainer())
        follower = Follower(self._run, self._task.epochs, self._report)
        while not ray.wait([fit], timeout=FOLLOW_SECONDS)[0]:
            self._measure(follower.report_news())
            self._lease.check()
        self._measure(follower.report_news())
        error: WorkerGroupError | None = ray.get(fit)
        return error

    def _measure(self, news: list[history.Row]) -> None:
        for row in history.of_kind(news, history.TRAIN):
            self._telemetry.set(
                images_per_second=row["images_per_second"],
                loss=row["loss"],
                step=row["step"],
                pending_steps=row["steps"] - row["step"],
            )

    def _trainer(self) -> TorchTrainer:
        allocation = self._allocation
        # Ray pickles it and sends it to another process, so it must not capture driver state.
        task = replace(self._task, threads=allocation.threads_per_worker)
        rows_left = partial(_rows_left, task, self._samples, allocation.gpus_per_worker)
        stream = {} if task.in_memory else {"train": rows_left}
        filesystem, path = storage.resolve(self._run)
        workers = allocation.most if allocation.least == allocation.most else (allocation.least, allocation.most)
        gpus = {"GPU": allocation.gpus_per_worker} if allocation.gpus_per_worker else {}
        options = train_stream.execution_options(self._samples, allocation.most)
        context = DataContext.get_current()
        usual, context.execution_options = context.execution_options, options  # the workers get a copy of the context
        try:
            return TorchTrainer(
                _train,
                train_loop_config={"task": task, "view": self._view},
                scaling_config=ScalingConfig(
                    num_workers=workers,
                    use_gpu=bool(gpus),
                    # A worker on CPUs takes its node's cores; those with GPUs are better off side by side.
                    placement_strategy="PACK" if gpus else "SPREAD",
                    resources_per_worker={"CPU": allocation.cpus_per_worker, **gpus},
                ),
                run_config=RunConfig(
                    name=RAY_FOLDER,
                    storage_path=path,
                    storage_filesystem=filesystem,
                    # A worker's death ends the fit, so that `run` can report the reason and start the next fit.
                    failure_config=FailureConfig(max_failures=0),
                ),
                datasets=stream,
                dataset_config=DataConfig(execution_options=options, enable_shard_locality=False),
            )
        finally:
            context.execution_options = usual

    def _report_failure(self, error: WorkerGroupError) -> None:
        self._telemetry.count(worker_failures=1)
        # When a worker dies, the collective operations of the others fail with RuntimeError. Name the one that died.
        rank, failure = min(error.worker_failures.items(), key=lambda pair: isinstance(pair[1], RuntimeError))
        step = checkpoints.latest_step(self._run)
        text = f"worker {rank} died ({why_it_died(failure)}); resuming from step {step}"
        self._report(text)
        history.add_event(self._run, step, text)


def stream_samples(task: TrainTask, images: "ray.ObjectRef[pa.Table]") -> train_stream.StreamSamples:
    """What the stream's rows depend on. `images`: those of `training.job.begin`."""
    data = task.config.data
    return train_stream.StreamSamples(
        images=images,
        count=task.images,
        seed=task.config.seed,
        crop=data.crop,
        small=data.small,
        camera=data.camera,
        noisy=bool(data.camera or data.pairs),
        micro_batch_size=task.micro_batch_size,
    )


def forget(run: str) -> None:
    """Deletes what Ray Train has noted about a run: its checkpoints are ours, and a note that a crash left half written
    would end the fit."""
    folder = Folder(run).subfolder(RAY_FOLDER)
    if (path := storage.local_path(folder.uri)) is not None:
        shutil.rmtree(path, ignore_errors=True)
    else:
        folder.delete([name for page in storage.of(folder.uri).pages(folder.uri) for name, *_ in page])


# In what Ray tells of a dead actor: its worker's exit, or else why the actor is dead.
_CAUSES = [r"Worker exit detail: (.+?)\. ", r"The actor (?:is dead|died) because (.+?)\. "]


def why_it_died(failure: Exception) -> str:
    """Why a training worker failed, without the pages that Ray tells of it."""
    cause = getattr(failure, "health_check_failure", failure)  # of Ray Train's WorkerHealthCheckFailedError
    text = one_line(cause)
    if "The actor is temporarily unavailable" in text:
        return "it cannot be reached"
    found = (re.search(pattern, f"{text} ") for pattern in _CAUSES)
    return next((each[1] for each in found if each), f"{type(cause).__name__}: {text[:200]}")


def _rows_left(task: TrainTask, samples: train_stream.StreamSamples, gpus_per_worker: float) -> Dataset:
    """The rows still to train on. Ray calls it at each start of a worker group.

    It has one batch more than the workers take, because a split into equal parts drops the remainder.
    """
    first = checkpoints.latest_step(task.config.output)
    rows = (_most_steps(task, first) + 1) * task.rows_per_step
    return train_stream.build(samples, first * task.rows_per_step, rows, gpus_per_worker)


def _most_steps(task: TrainTask, first: int) -> int:
    """Steps in the whole run, which goes on from step `first`; an upper bound if the run has a time limit."""
    minutes = task.config.optimizer.minutes
    return task.steps or first + round(60.0 * (minutes or 0.0) * MOST_CROPS_A_SECOND / task.config.optimizer.batch_size)


def _fit(trainer: TorchTrainer) -> WorkerGroupError | None:
    """Runs the fit. Returns the error if a worker died."""
    try:
        trainer.fit()
    except WorkerGroupError as error:
        return error
    return None


def _train(config: dict[str, Any]) -> None:
    """Runs in each worker. It imports diffusers, which takes ten seconds, only there."""
    from imagewizard.distributed import train_worker
    from imagewizard.images.decoding import quiet

    quiet()
    if config["view"] is not None:
        config["view"].check(with_models=True, later=True)
    train_worker.run(config["task"])


class Follower:
    """Reports the rows that the first worker, on any node, writes to metrics.jsonl, and draws the curves."""

    def __init__(self, run: str, epochs: float | None, report: Reporter) -> None:
        """`epochs`: epochs in the whole run, if known."""
        self._run, self._epochs, self._report = run, epochs, report
        self._reader = history.Reader(run)
        self._newest = max((row["time"] for row in self._reader.news()), default=0.0)
        self._started = self._waited = time.monotonic()
        self._silent = True

    def report_news(self) -> list[history.Row]:
        """Reports the rows since the last call, and returns them.

        Before the first row, it reports now and then that workers are starting.
        """
        news = [row for row in self._reader.news() if row["time"] > self._newest]
        for row in news:
            self._report(history.line(row, self._epochs))
            self._newest = row["time"]
            self._silent = False
        if any(row["kind"] == VALIDATION for row in news):
            curves.write(self._run)
        now = time.monotonic()
        if self._silent and now - self._waited > WAITING_SECONDS:
            self._waited = now
            self._report(f"workers are starting, {clock(now - self._started)}")
        return news


def _user_error(error: BaseException | None) -> UserError | None:
    """Finds the UserError inside a worker's failure, which Ray wraps; None if there is none."""
    while error is not None and not isinstance(error, UserError):
        error = getattr(error, "cause", None) or error.__cause__
    return error
