"""What each worker of a training job runs: rows of the stream in, steps, validations and checkpoints out."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
import torch
import torch.distributed as dist
from ray.data.collate_fn import ArrowBatchCollateFn
from ray.train import Checkpoint
from ray.train.torch import get_device

from imagewizard.config.train import TrainConfig, TrainTask
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.errors import UserError
from imagewizard.models import files as model_files
from imagewizard.models import network
from imagewizard.tracking.log import TrainingLog
from imagewizard.tracking.panels import Panel
from imagewizard.training import checkpoint, samples, validation
from imagewizard.training.image_store import BenchmarkImageError, ImageStore, UnusableImageError
from imagewizard.training.losses import VGG19Features
from imagewizard.training.samples import TrainingBatch
from imagewizard.training.trainer import StepResult, Trainer

STATUS_SECONDS = 10.0
# Rows whose noise is drawn, in threads beside the training, before they are needed.
PREFETCHED = 4
# Kept among the best only where there is nothing better: a checkpoint between two validations has no PSNR.
NOT_VALIDATED = -1.0


def build(config: TrainConfig) -> tuple[torch.nn.Module, NoiseSchedule]:
    """The network that a run starts from, and its schedule."""
    if config.model is not None:
        return network.load(model_files.find(config.model))
    assert config.network is not None  # the config has one of the two
    torch.manual_seed(config.seed)
    return network.build_unet(config.network), NoiseSchedule.from_config(config.schedule.model_dump())


def run(task: TrainTask) -> None:
    """Trains from the last checkpoint to the last step.

    Raises UserError, on one worker or all, where the config or the data is wrong; it names the last checkpoint.
    """
    torch.set_num_threads(task.threads)
    config = task.config
    unet, schedule = build(config)
    perceptual = config.loss.perceptual
    features = VGG19Features(perceptual.weights, perceptual.layers) if perceptual else None
    trainer = Trainer(config, unet, schedule, task.steps, get_device(), features)
    last = "none yet"
    if found := ray.train.get_checkpoint():
        last = Path(found.path).name
        with found.as_directory() as folder:
            checkpoint.load(trainer, Path(folder), f"{config.output}/checkpoints/{last}")
    loop = _Loop(task, trainer, last)
    try:
        loop.run()
    except UserError as error:
        raise UserError(f"{error}; the last good checkpoint is {loop.last_checkpoint}") from None
    finally:
        if loop.log:
            loop.log.close()


class _Collate(ArrowBatchCollateFn):
    """Draws a row's noise, in Ray's threads. Leaves the row's errors for the loop to raise."""

    def __init__(self, task: TrainTask, schedule: NoiseSchedule) -> None:
        self._task = task
        self._timesteps_of = schedule if task.config.draw == "timestep" else None

    def __call__(self, row: pa.Table) -> dict[str, Any]:
        found: dict[str, Any] = row.to_pylist()[0]
        size, config = self._task.config.data.crop, self._task.config
        clean = np.frombuffer(found["clean"], np.uint8).reshape(-1, size, size, 3)
        keys = [(config.seed, *key) for key in zip(found["epochs"], found["image_ids"], strict=True)]
        found["batch"] = samples.add_noise(clean, keys, config.sigma, self._timesteps_of)
        return found


class _Loop:
    """The steps of one worker, and what it tells of them."""

    def __init__(self, task: TrainTask, trainer: Trainer, last_checkpoint: str) -> None:
        self.task, self.trainer, self.last_checkpoint = task, trainer, last_checkpoint
        context = ray.train.get_context()
        self._rank, self._workers = context.get_world_rank(), context.get_world_size()
        self.log = TrainingLog(task.config.output, trainer.step) if self._rank == 0 else None
        self._skipped: set[str] = set()
        self._store = ImageStore()
        self._first_step, self._started, self._training_seconds = trainer.step, time.time(), 0.0

    def run(self) -> None:
        """All steps that are left."""
        trainer = self.trainer
        window = _Window(trainer, self.task)
        shares = self._shares()
        if not trainer.step:
            self._validate()  # what fine-tuning starts from
        while trainer.step < trainer.steps:
            begun = time.perf_counter()
            window.add(trainer.train_step(next(shares)))
            self._training_seconds += time.perf_counter() - begun
            done = trainer.step == trainer.steps
            if self.log and (done or window.seconds > STATUS_SECONDS):
                self.log.add(window.row())
                window = _Window(trainer, self.task)
            validates = done or self._epochs(trainer.step) > self._epochs(trainer.step - 1)
            if validates or trainer.step % self.task.config.checkpoints.every_steps == 0:
                self._save(self._validate() if validates else NOT_VALIDATED)
                window = _Window(trainer, self.task)

    def _facts(self) -> dict[str, Any]:
        """What the summary is to say of the run so far. All workers must ask at once."""
        skipped = sorted(self._skipped)
        if self._workers > 1:
            everyones: list[list[str]] = [[] for _ in range(self._workers)]
            dist.all_gather_object(everyones, skipped)
            skipped = sorted(set().union(*everyones))
        steps = self.trainer.step - self._first_step
        return {
            "workers": self._workers,
            "device": torch.cuda.get_device_name() if self.trainer.device.type == "cuda" else "cpu",
            "seconds": round(self.task.seconds_before + time.time() - self._started, 1),
            "images_per_second": round(steps * self.task.config.optimizer.batch_size / self._training_seconds, 2),
            "overhead": round(1.0 - self.trainer.busy_seconds / self._training_seconds, 4),
            "skipped": sorted({*self.task.skipped_before, *skipped}),
        }

    def _epochs(self, step: int) -> int:
        """How often validation was due by then."""
        epochs = step * self.task.config.optimizer.batch_size / self.task.images
        return int(epochs / self.task.config.validation.every_epochs)

    def _shares(self) -> Iterator[list[TrainingBatch]]:
        """This worker's micro-batches of one step after the other, of which there is at least one each."""
        shard = ray.train.get_dataset_shard("train")
        rows = iter(
            shard.iter_torch_batches(
                batch_size=1, prefetch_batches=PREFETCHED, collate_fn=_Collate(self.task, self.trainer.schedule)
            )
        )
        per_step = self.task.rows_per_step
        expected = self.trainer.step * per_step + self._rank
        for step in range(self.trainer.step, self.trainer.steps):
            share = []
            while expected < (step + 1) * per_step:
                row = next(rows)
                if row["row"] != expected:
                    raise RuntimeError(f"row {row['row']} of the training stream came where {expected} was due")
                if row["refused"]:
                    raise UserError(row["refused"])
                self._skipped.update(row["skipped"])
                share.append(row["batch"])
                expected += self._workers
            yield share

    def _validate(self) -> float:
        """Scores the averaged weights, every worker its part of the images; PSNR in dB, mean over all levels."""
        options, trainer = self.task.config.validation, self.trainer
        started = time.perf_counter()
        mine = np.array_split(np.arange(len(self.task.validation)), self._workers)[self._rank]
        images = self._validation_images([self.task.validation[i] for i in mine])
        try:
            scores = validation.score(trainer.averaged_unet(), trainer.schedule, options, images, self.task.config.seed)
        except MemoryError as error:
            raise UserError(f"data.validation: {error}; give smaller images") from None
        sums = torch.tensor([scores.images, *scores.sums.ravel()], dtype=torch.float64, device=trainer.device)
        if self._workers > 1:
            dist.all_reduce(sums)
        total, *flat = sums.tolist()
        if not total:
            raise UserError("data.validation: none of its images can be used; give a folder with clean images")
        row = validation.means(np.reshape(flat, scores.sums.shape), int(total), options)
        if self.log:
            self._tell(row, scores.panels, time.perf_counter() - started)
        return row["psnr"]

    def _tell(self, scores: dict[str, float], panels: list[Panel], seconds: float) -> None:
        assert self.log is not None
        step, config = self.trainer.step, self.task.config
        epoch = round(step * config.optimizer.batch_size / self.task.images, 3)
        self.log.add({"kind": "validation", "step": step, "epoch": epoch, **scores, "seconds": round(seconds, 2)})
        self.log.draw(step, panels)

    def _validation_images(self, wanted: list[tuple[str, str]]) -> Iterator[tuple[str, np.ndarray]]:
        for image_id, uri in wanted:
            try:
                yield image_id, self._store.load(uri)
            except UnusableImageError as error:
                self._skipped.add(f"{image_id}: {error}")
            except BenchmarkImageError as error:
                raise UserError(
                    f"data.validation: {image_id} is CBSD68's {error}, and the best checkpoint is picked by it; "
                    "take it out"
                ) from None

    def _save(self, psnr: float) -> None:
        """A checkpoint from the first worker; all of them must come here equally often."""
        name = f"step-{self.trainer.step:08d}"
        metrics = {"step": self.trainer.step, "psnr": psnr, **self._facts()}
        with tempfile.TemporaryDirectory(prefix="imagewizard-") as folder:
            saved = None
            if self._rank == 0:
                checkpoint.save(self.trainer, Path(folder))
                saved = Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=saved, checkpoint_dir_name=name)
        self.last_checkpoint = name


class _Window:
    """Means over the steps since the last status line."""

    def __init__(self, trainer: Trainer, task: TrainTask) -> None:
        self._trainer, self._task = trainer, task
        self._started, self._busy = time.perf_counter(), trainer.busy_seconds
        self._results: list[StepResult] = []

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def add(self, result: StepResult) -> None:
        self._results.append(result)

    def row(self) -> dict[str, Any]:
        """A `train` row of metrics.jsonl."""
        results, trainer, seconds = self._results, self._trainer, self.seconds
        batch = self._task.config.optimizer.batch_size
        rate = len(results) / seconds
        means = {name: float(np.mean([r.terms[name] for r in results])) for name in results[0].terms}
        return {
            "kind": "train",
            "step": trainer.step,
            "steps": trainer.steps,
            "epoch": round(trainer.step * batch / self._task.images, 3),
            **{name: round(value, 6) for name, value in means.items()},
            "learning_rate": results[-1].learning_rate,
            "grad_norm": round(float(np.mean([r.grad_norm for r in results])), 4),
            "images_per_second": round(rate * batch, 2),
            "overhead": round(1.0 - (trainer.busy_seconds - self._busy) / seconds, 4),
            "eta_seconds": round((trainer.steps - trainer.step) / rate, 1),
        }
