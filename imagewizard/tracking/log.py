"""Logs a training while it runs: metrics.jsonl, TensorBoard's event files and panels in the run folder."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagewizard import storage
from imagewizard.storage import Folder
from imagewizard.tracking import history
from imagewizard.tracking import panels as training_panels
from imagewizard.tracking.history import EVENT, Row
from imagewizard.tracking.panels import ValidationPanel
from imagewizard.tracking.tensorboard import EventWriter

# Objects in S3 cannot be appended to, so metrics.jsonl is rewritten there; this may take 1/20 of the time.
UPLOAD_SHARE = 0.05


class TrainingLog:
    """The log of one run. Only the first worker writes it. A crash loses only rows of steps that a resume repeats."""

    def __init__(self, run: str, step: int, report: Callable[[Row], None]) -> None:
        """`step`: step of the checkpoint from which the run resumes; `report` receives each added row."""
        self._run, self._report = run, report
        self._local = storage.local_path(run)
        self._rows = [row for row in history.read(run) if row["step"] <= step or row["kind"] == EVENT]
        history.write(run, self._rows)
        self._uploaded, self._upload_seconds = time.monotonic(), 0.0
        # TensorBoard's file is appended to as well: for an object store it is written to a local folder and copied.
        self._scratch = tempfile.TemporaryDirectory(prefix="imagewizard-") if self._local is None else None
        folder = self._local / "tensorboard" if self._local else Path(self._scratch.name if self._scratch else "")
        self._events = EventWriter(folder, purge_step=step + 1 if step else None)

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row, with the current time."""
        row = row | {"time": round(time.time(), 3)}
        self._rows.append(row)
        if self._local:
            with (self._local / "metrics.jsonl").open("a") as stream:
                stream.write(json.dumps(row) + "\n")
        elif time.monotonic() - self._uploaded >= self._upload_seconds / UPLOAD_SHARE:
            self._upload_rows()
        self._events.add(row)
        self._report(row)

    def draw(self, step: int, panels: list[ValidationPanel]) -> None:
        """Draws the panels of a validation."""
        if panels:
            picture = training_panels.draw(panels)
            self._put(f"panels/step-{step:08d}.png", picture)
            self._events.add_panels(step, picture)
        self._upload_events()

    def flush(self) -> None:
        """Puts all rows into the run folder for good. A checkpoint needs those up to its step: a resume does not repeat
        them."""
        if self._local:
            with (self._local / "metrics.jsonl").open("rb") as stream:
                os.fsync(stream.fileno())
        else:
            self._upload_rows()
            self._upload_events()

    def close(self) -> None:
        """Closes the log. All rows and panels are in the run folder when this returns."""
        self._events.close()
        if self._scratch is not None:
            self._upload_rows()
            self._upload_events()
            self._scratch.cleanup()

    def _upload_rows(self) -> None:
        started = time.monotonic()
        history.write(self._run, self._rows)
        self._uploaded = time.monotonic()
        self._upload_seconds = self._uploaded - started

    def _upload_events(self) -> None:
        if self._scratch is not None:
            for path in Path(self._scratch.name).iterdir():
                self._put(f"tensorboard/{path.name}", path.read_bytes())

    def _put(self, name: str, data: bytes) -> None:
        Folder(self._run).write(name, data)
