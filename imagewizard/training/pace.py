"""How fast a training is: over the whole run, and over each window between two rows of its log."""

import time

import torch

from imagewizard.config.train import TrainTask
from imagewizard.tracking.history import TRAIN, Row
from imagewizard.training.trainer import StepResult, Trainer


class Pace:
    """Counts steps and their time, without pauses and start-up.

    The first step of a process belongs to its start-up: until it ends, images are read and kernels are compiled.
    """

    def __init__(self, trainer: Trainer, batch_size: int, started: bool = False) -> None:
        """`started`: the process has made its first step."""
        self._trainer, self._batch_size, self.started = trainer, batch_size, started
        self._restart()

    def _restart(self) -> None:
        self._since, self._busy, self._steps, self._paused = time.perf_counter(), self._trainer.busy_seconds, 0, 0.0

    def add_step(self) -> None:
        """Counts a step, unless it is the first one of the process."""
        if self.started:
            self._steps += 1
            return
        self.started = True
        self._trainer.read_clock()
        self._restart()

    def pause(self, seconds: float) -> None:
        """Notes that so much of the time has gone into something else than steps."""
        self._paused += seconds

    @property
    def seconds(self) -> float:
        """Since the beginning, or since the end of the start-up."""
        return max(1e-9, time.perf_counter() - self._since - self._paused)

    def seconds_left(self, steps: int) -> float | None:
        """How long so many more steps take with their pauses, rounded; None without a step that counts."""
        if not self._steps:
            return None
        return round(steps * (time.perf_counter() - self._since) / self._steps, 1)

    @property
    def images_per_second(self) -> float | None:
        """Rounded; None without a step that counts."""
        return round(self._steps * self._batch_size / self.seconds, 2) if self._steps else None

    @property
    def overhead(self) -> float | None:
        """Share of the time outside of forward pass, backward pass and update; None without a step that counts.

        `trainer.busy_seconds` must be up to date.
        """
        busy = self._trainer.busy_seconds - self._busy
        return round(max(0.0, 1.0 - busy / self.seconds), 4) if self._steps else None


class Window:
    """The steps since the last row of the log."""

    def __init__(self, trainer: Trainer, task: TrainTask, whole: Pace) -> None:
        """`whole`: the pace since the process began."""
        self._trainer, self._task, self._whole = trainer, task, whole
        self._pace = Pace(trainer, task.config.optimizer.batch_size, whole.started)
        self._results: list[StepResult] = []

    def __len__(self) -> int:
        return len(self._results)

    @property
    def seconds(self) -> float:
        """As `Pace.seconds`."""
        return self._pace.seconds

    def add(self, result: StepResult) -> None:
        """Adds a step."""
        self._results.append(result)
        self._pace.add_step()

    def row(self) -> Row:
        """A `train` row of metrics.jsonl: means over the steps, of which there must be one."""
        results, trainer = self._results, self._trainer
        trainer.read_clock()
        *means, norm = torch.stack([result.values for result in results]).mean(dim=0).tolist()
        steps = trainer.budget.steps(trainer.step)
        return {
            "kind": TRAIN,
            "step": trainer.step,
            "steps": steps,
            "epoch": round(trainer.step * self._task.config.optimizer.batch_size / self._task.images, 3),
            **{name: round(value, 6) for name, value in zip(results[0].names, means, strict=True)},
            "learning_rate": results[-1].learning_rate,
            "grad_norm": round(norm, 4),
            "images_per_second": self._pace.images_per_second,
            "overhead": self._pace.overhead,
            "eta_seconds": self._whole.seconds_left(steps - trainer.step),  # a window may be short
        }
