"""How far a training is, computed from what lies in its run folder: from any machine, while it runs or long after."""

from dataclasses import dataclass
from datetime import UTC, datetime

from imagewizard.runs import job as run_job
from imagewizard.runs import summary
from imagewizard.storage import Folder, lease
from imagewizard.tracking import checkpoints, history
from imagewizard.tracking.history import EVENT, TRAIN, VALIDATION, Row


@dataclass(frozen=True)
class TrainingStatus:
    """The state of a training run; rows are those of metrics.jsonl, None where there is none yet."""

    state: str
    """training | stopped | finished."""
    epochs: float | None
    """How many there are to be."""
    train: Row | None
    """The newest one: step, steps, epoch, loss and its terms, learning_rate, images_per_second, overhead, …"""
    validation: Row | None
    best_validation: Row | None
    """The first of the highest mean PSNR."""
    events: list[Row]
    checkpoint: str | None
    """URI of the newest one."""
    last_row: datetime | None
    driver: str | None
    """`pid on host` of the driver that holds the run."""

    @property
    def eta_seconds(self) -> float | None:
        """Time to go as the newest row has it, for a run with a driver; None if that cannot be told."""
        return self.train["eta_seconds"] if self.train and self.driver else None


def read(run: str) -> TrainingStatus:
    """The status of a training run, one that has only its job.yaml too."""
    job = run_job.read_job(run) or {}
    holder = lease.holder(run)
    rows = history.read(run)
    train = history.of_kind(rows, TRAIN)
    validations = history.of_kind(rows, VALIDATION)
    last = max((row["time"] for row in rows), default=None)
    return TrainingStatus(
        state="finished" if summary.read(run) else "training" if holder else "stopped",
        epochs=job.get("config", {}).get("optimizer", {}).get("epochs"),
        train=train[-1] if train else None,
        validation=validations[-1] if validations else None,
        best_validation=history.best(rows),
        events=history.of_kind(rows, EVENT),
        checkpoint=newest_checkpoint(run),
        last_row=None if last is None else datetime.fromtimestamp(last, UTC),
        driver=f"pid {holder['pid']} on {holder['host']}" if holder else None,
    )


def newest_checkpoint(run: str) -> str | None:
    """URI of the run's checkpoint of the most steps."""
    kept = checkpoints.kept(run)
    return checkpoints.folder_of(run).uri_of(kept[-1].name) if kept else None


def text(run: str, status: TrainingStatus) -> str:
    """The status in a few lines, as the command prints it."""
    lines = [f"{run}: {status.state}" + (f" ({status.driver})" if status.driver else "")]
    if status.train:
        row = status.train if status.eta_seconds else status.train | {"eta_seconds": None}
        share = f"{100.0 * row['step'] / row['steps']:.1f} % done"
        lines += [history.line(row, status.epochs), f"{share}, {100.0 * row['overhead']:.1f} % overhead"]
    else:
        lines.append("no step is done yet")
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
        lines.append("the same `imagewizard train` command again goes on from here")
    if status.state == "finished":
        lines.append(f"imagewizard denoise model={Folder(run).uri_of('model')} uses what it made")
    return "\n  ".join(lines)
