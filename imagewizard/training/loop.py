"""The training loop, from the last checkpoint to the end: steps, validations, checkpoints and log rows.

Each process of a training runs this loop. Its caller passes its rank (`Worker`) and the batches.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from imagewizard.config.train import TrainConfig, TrainImage, TrainTask
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.errors import UserError
from imagewizard.models import files as model_files
from imagewizard.models import network
from imagewizard.tracking import checkpoints
from imagewizard.tracking.checkpoints import NOT_VALIDATED, Checkpoint
from imagewizard.tracking.history import EVENT, VALIDATION, Row
from imagewizard.tracking.log import TrainingLog
from imagewizard.training import checkpoint, export, validation
from imagewizard.training.batches import Batch
from imagewizard.training.budget import Budget, Deadline, Pauses, Steps
from imagewizard.training.image_store import BenchmarkImageError, ImageStore, UnusableImageError
from imagewizard.training.losses import VGG19Features
from imagewizard.training.pace import Pace, Window
from imagewizard.training.rollback import GoodState
from imagewizard.training.trainer import ExplodedError, Trainer
from imagewizard.training.validation import ValidationImage
from imagewizard.training.worker import Worker

STATUS_SECONDS = 10.0
# GPUs wait for one another to share the clock of a run with a time limit, so they read it no more often than this.
SHARED_CLOCK_SECONDS = 0.5
# Time reserved at the end for weights and card, in addition to that of the last validation and of a checkpoint.
EXPORT_SECONDS = 4.0


# Yields this worker's micro-batches step by step, from the trainer's step on, and adds each skipped image to the set,
# as `image id: reason`.
Shares = Callable[[Trainer, set[str]], Iterator[list[Batch]]]


def build(config: TrainConfig) -> tuple[torch.nn.Module, NoiseSchedule]:
    """The initial network of a run, and its schedule."""
    if config.model is not None:
        return network.load(model_files.find(config.model))
    assert config.network is not None  # the config has one of the two
    torch.manual_seed(config.seed)
    return network.build_unet(config.network), NoiseSchedule.from_config(config.schedule.model_dump())


def run(task: TrainTask, worker: Worker, shares: Shares, report: Callable[[Row], None]) -> None:
    """Trains from the last checkpoint to the end. On the first worker, `report` receives each row of metrics.jsonl.

    Raises UserError, on one worker or on all, if the config or the data is wrong; its text names the last checkpoint.
    """
    torch.set_num_threads(task.threads)
    config = task.config
    unet, schedule = build(config)
    perceptual = config.loss.perceptual
    features = VGG19Features(perceptual.weights, perceptual.layers) if perceptual else None
    newest = checkpoint.newest(config.output, worker)
    trainer = Trainer(config, unet, schedule, _budget(task, worker), worker.device, features)
    if newest:
        checkpoint.resume(trainer, config.output, newest.name)
    log = TrainingLog(config.output, trainer.step, report) if worker.rank == 0 else None
    loop = _Loop(task, trainer, worker, newest, log)
    try:
        loop.run(shares)
    except UserError as error:
        fix = f"{error.fix}; the last good checkpoint is {loop.last_checkpoint}"
        raise UserError(error.what, fix, error.key) from None
    finally:
        if log:
            log.close()


def _budget(task: TrainTask, worker: Worker) -> Budget:
    if task.steps is not None:
        return Steps(task.steps)
    assert task.deadline is not None  # the task has one of the two
    assert task.config.optimizer.minutes is not None
    pause = SHARED_CLOCK_SECONDS if worker.workers > 1 else 0.0
    return Deadline(task.deadline, 60.0 * task.config.optimizer.minutes, worker.clock, pause)


class _Loop:
    """The steps, validations and checkpoints of one worker."""

    def __init__(
        self, task: TrainTask, trainer: Trainer, worker: Worker, newest: Checkpoint | None, log: TrainingLog | None
    ) -> None:
        """`newest`: the checkpoint that the trainer has resumed from."""
        self.task, self.trainer, self.worker, self.log = task, trainer, worker, log
        self.last_checkpoint = newest.name if newest else "none yet"
        self._validated_step = newest.step if newest and newest.psnr != NOT_VALIDATED else -1
        self._seconds_before: float = newest.facts["seconds"] if newest else 0.0
        self._best = max((kept.psnr for kept in checkpoints.kept(task.config.output)), default=-np.inf)
        self._skipped: set[str] = set(newest.facts["skipped"] if newest else ())
        self._store = ImageStore()
        self._started = time.time()
        self._pace = Pace(trainer, task.config.optimizer.batch_size)
        self._window = Window(trainer, task, self._pace)
        self._validating, self._saving = Pauses(), Pauses()
        self._reserved = 0.0  # seconds for the last checkpoint: those of the slowest one so far

    def run(self, shares: Shares) -> None:
        """Runs all remaining steps; at least one if there is a time limit, so that such a run ends with a model."""
        trainer, budget = self.trainer, self.trainer.budget
        batches = shares(trainer, self._skipped)
        if not trainer.step or isinstance(budget, Deadline):
            # The scores that fine-tuning starts from; and the time that the last validation will take.
            self._pause(self._validate, self._validating)
        if isinstance(budget, Deadline):
            budget.deadline -= 1.5 * self._validating.seconds + EXPORT_SECONDS
        budget.progress(trainer.step)
        # A run of a fixed length ends when its loss explodes, because its rate is the user's to mend.
        good = GoodState(trainer) if isinstance(budget, Deadline) else None
        # Nothing is left if a worker died after the last checkpoint.
        done = isinstance(budget, Steps) and budget.is_spent(trainer.step) and self._validated_step == trainer.step
        while not done:
            try:
                done = self._step(next(batches))
                if good:
                    good.keep()
            except ExplodedError as error:
                self._close_window()
                if good is None:
                    raise
                text = good.go_back(error)
                if self.log:
                    self.log.add({"kind": EVENT, "step": trainer.step, "text": text})

    def _step(self, micro_batches: list[Batch]) -> bool:
        """Trains one step, with the log row, validation and checkpoint that are due then. Returns whether it was the
        last."""
        self._window.add(self.trainer.train_step(micro_batches))
        self._pace.add_step()
        done = self.trainer.budget.is_spent(self.trainer.step)
        validates, saves = self._due(done)
        if saves or self._window.seconds > STATUS_SECONDS:
            self._close_window()
        if saves:
            self._validate_and_save(validates, done)
        return done

    def _close_window(self) -> None:
        """Logs the steps since the last row, if there are any, and begins a new window."""
        if self.log and self._window:
            self.log.add(self._window.row())
        self._window = Window(self.trainer, self.task, self._pace)

    def _due(self, done: bool) -> tuple[bool, bool]:
        """Whether a validation and a checkpoint are due after the newest step; each validation is followed by one."""
        step, config = self.trainer.step, self.task.config
        validates = self._epochs(step) > self._epochs(step - 1)
        saves = step % config.checkpoints.every_steps == 0
        budget = self.trainer.budget
        if isinstance(budget, Deadline) and not done and (validates or saves):
            now = self.worker.clock()
            in_time = now + self._validating.seconds + self._saving.seconds < budget.deadline
            may_save = in_time and self._saving.may(now)
            saves = saves and may_save
            # One that had to wait comes at the next occasion.
            overdue = self._epochs(step) > self._epochs(self._validated_step)
            validates = overdue and may_save and self._validating.may(now)
        return done or validates, done or validates or saves

    def _validate_and_save(self, validates: bool, done: bool) -> None:
        budget = self.trainer.budget
        psnr = self._pause(self._validate, self._validating) if validates else NOT_VALIDATED
        self._pause(lambda: self._save(psnr, done), self._saving)
        if isinstance(budget, Deadline) and self._saving.seconds > self._reserved:
            budget.deadline -= self._saving.seconds - self._reserved
            self._reserved = self._saving.seconds
        self._window = Window(self.trainer, self.task, self._pace)  # the pause is in no window

    def _pause(self, work: Callable[[], float], pauses: Pauses) -> float:
        """Runs `work` outside of training time, records its duration, and returns its result."""
        self.trainer.settle()
        started = self.worker.clock()
        result = work()
        ended = self.worker.clock()
        pauses.note(ended, ended - started)
        self._pace.pause(ended - started)
        return result

    def gather_facts(self) -> dict[str, Any]:
        """Facts of the run so far, for the summary. A collective call: all workers must make it together."""
        if self.worker.workers > 1:
            everyones: list[set[str]] = [set() for _ in range(self.worker.workers)]
            dist.all_gather_object(everyones, self._skipped)
            self._skipped.update(*everyones)
        trainer = self.trainer
        trainer.settle()
        seconds = time.time() - self._started
        options, deadline = self.task.config.optimizer, self.task.deadline
        spent = self._seconds_before + seconds
        if options.minutes is not None and deadline is not None:
            spent = time.time() - (deadline - 60.0 * options.minutes)  # of its time limit, which began with the command
        return {
            "workers": self.worker.workers,
            "device": torch.cuda.get_device_name() if trainer.device.type == "cuda" else "cpu",
            "seconds": round(spent, 1),
            "images_per_second": self._pace.images_per_second,
            "overhead": self._pace.overhead,
            "skipped": sorted(self._skipped),
        }

    def _epochs(self, step: int) -> int:
        """Number of validations due by `step`."""
        epochs = step * self.task.config.optimizer.batch_size / self.task.images
        return int(epochs / self.task.config.validation.every_epochs)

    def _validate(self) -> float:
        """Scores the averaged weights, each worker on its part of the images. Returns mean PSNR over levels, in dB."""
        options, trainer, worker = self.task.config.validation, self.trainer, self.worker
        started = time.perf_counter()
        mine = np.array_split(np.arange(len(self.task.validation)), worker.workers)[worker.rank]
        images = self._validation_images([self.task.validation[i] for i in mine])
        try:
            scores = validation.score(trainer.averaged_unet(), trainer.schedule, options, images, self.task.config.seed)
        except MemoryError as error:
            raise UserError(str(error), "give smaller images", self.task.validation[0].validation_key) from None
        sums = torch.tensor(np.stack([scores.sums, scores.counts]), dtype=torch.float64, device=trainer.device)
        if worker.workers > 1:
            dist.all_reduce(sums)
        added, counts = sums.cpu().numpy()
        used = {"data.validation": counts[0], "validation.pairs": counts[-1]}
        for key in {image.validation_key for image in self.task.validation}:
            if not used[key].any():
                raise UserError("none of its images can be used", "give a folder with others", key)
        means = validation.means(added, counts, options)
        epoch = round(trainer.step * self.task.config.optimizer.batch_size / self.task.images, 3)
        self._validated_step = trainer.step
        self._scores = {"kind": VALIDATION, "step": trainer.step, "epoch": epoch, **means}
        if self.log:
            self.log.add(self._scores | {"seconds": round(time.perf_counter() - started, 2)})
            self.log.draw(trainer.step, scores.panels)
        return means["psnr"]

    def _validation_images(self, wanted: list[TrainImage]) -> Iterator[ValidationImage]:
        """The images that can be used. Raises UserError for one of the benchmark."""
        (least, most), seed = self.task.config.sigma, self.task.config.seed
        for image in wanted:
            try:
                clean = self._store.load(image.uri)
                if image.noisy_uri is None:
                    yield ValidationImage(image.image_id, clean)
                    continue
                version = self._store.version(image, clean, 0, seed)
                sigma = min(max(version.sigmas[0], least), most)
                yield ValidationImage(image.image_id, clean, version.pixels, sigma)
            except UnusableImageError as error:
                self._skipped.add(f"{image.image_id}: {error}")
            except BenchmarkImageError as error:
                raise UserError(
                    f"{image.image_id} is CBSD68's {error}, and the best checkpoint is picked by it",
                    "take it out",
                    image.validation_key,
                ) from None

    def _save(self, psnr: float, done: bool) -> float:
        """Saves a checkpoint on the first worker, and exports the model if it is the best so far. Returns `psnr`."""
        facts, run = self.gather_facts(), self.task.config.output
        self.last_checkpoint = checkpoints.folder_name(self.trainer.step)
        is_best = psnr != NOT_VALIDATED and psnr > self._best
        self._best = max(self._best, psnr)
        if self.log:
            # The checkpoint comes last: a resume does not repeat what stands before it.
            if is_best:
                export.export(self.task, self.trainer.ema, self._scores)
            self.log.flush()
            checkpoint.save(self.trainer, run, psnr, facts)
            checkpoints.prune(run, self.task.config.checkpoints.keep)
        return psnr
