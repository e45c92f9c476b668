"""The progress of a training, computed from its run folder: on any machine, while it runs or long after."""

from dataclasses import dataclass
from datetime import UTC, datetime

from imagewizard.runs import job as run_job
from imagewizard.runs import summary
from imagewizard.storage import Folder, lease
from imagewizard.tracking import checkpoints, history
from imagewizard.tracking.history import EVENT, TRAIN, VALIDATION, Row


@dataclass(frozen=True)
class TrainingStatus:
    """The state of a training run. Rows are those of metrics.jsonl, None if there is none yet."""

    state: str
    """training | stopped | finished."""
    epochs: float | None
    """Epochs in the whole run; None if unknown."""
    train: Row | None
    """The newest row: step, steps, epoch, loss and its terms, learning_rate, images_per_second, overhead, …"""
    validation: Row | None
    best_validation: Row | None
    """The row with the highest mean PSNR, the first of equals."""
    events: list[Row]
    checkpoint: str | None
    """URI of the newest checkpoint."""
    last_row: datetime | None
    driver: str | None
    """`pid on host` of the driver that holds the run."""
    is_new: bool = False
    """Whether its network began with random weights: its config has `network`, not `model`."""

    @property
    def eta_seconds(self) -> float | None:
        """Remaining time in seconds, from the newest row; None for a run without a driver or a row."""
        return self.train["eta_seconds"] if self.train and self.driver else None


def read(run: str) -> TrainingStatus:
    """The status of a training run, also if it has only its job.yaml."""
    job = run_job.read_job(run) or {}
    holder = lease.holder(run)
    rows = history.read(run)
    train = history.of_kind(rows, TRAIN)
    validations = history.of_kind(rows, VALIDATION)
    last = max((row["time"] for row in rows), default=None)
    return TrainingStatus(
        state="finished" if summary.read(run) else "training" if holder else "stopped",
        epochs=job.get("config", {}).get("optimizer", {}).get("epochs"),
        is_new=job.get("config", {}).get("network") is not None,
        train=train[-1] if train else None,
        validation=validations[-1] if validations else None,
        best_validation=history.best(rows),
        events=history.of_kind(rows, EVENT),
        checkpoint=newest_checkpoint(run),
        last_row=None if last is None else datetime.fromtimestamp(last, UTC),
        driver=f"pid {holder['pid']} on {holder['host']}" if holder else None,
    )


def newest_checkpoint(run: str) -> str | None:
    """URI of the run's checkpoint with the most steps; None if there is none."""
    kept = checkpoints.kept(run)
    return checkpoints.folder_of(run).uri_of(kept[-1].name) if kept else None


def further(run: str, is_new: bool) -> str:
    """The words that change the command of a run into one that trains its model further. `is_new`: of TrainingStatus.

    A config has either `model` or `network`.
    """
    return f"model={Folder(run).uri_of('model')} {'network=null ' if is_new else ''}output=ANOTHER"


def text(run: str, status: TrainingStatus) -> str:
    """The status as a few lines of text, as the command prints it."""
    lines = [f"{run}: {status.state}" + (f" ({status.driver})" if status.driver else "")]
    if status.train:
        row = status.train if status.eta_seconds else status.train | {"eta_seconds": None}
        overhead = "" if row["overhead"] is None else f", {100.0 * row['overhead']:.1f} % overhead"
        lines += [history.line(row, status.epochs), f"{100.0 * row['step'] / row['steps']:.1f} % done{overhead}"]
    else:
        lines.append("no step yet")
    if status.validation and status.best_validation:
        lines.append(history.line(status.validation))
        if status.best_validation is not status.validation:
            lines.append(f"best: {history.line(status.best_validation)}")
    if status.events:
        lines.append(history.line(status.events[-1]))
    if status.checkpoint:
        lines.append(f"checkpoint {status.checkpoint}")
    if status.last_row:
        lines.append(f"last row {status.last_row:%Y-%m-%d %H:%M:%S} UTC")
    if status.state == "stopped":
        lines.append("run the same `imagewizard train` command again to resume")
    if status.state == "finished":
        lines.append(f"use its model: imagewizard denoise model={Folder(run).uri_of('model')} …")
        lines.append(f"train it further: imagewizard train … {further(run, status.is_new)}")
    return "\n  ".join(lines)
