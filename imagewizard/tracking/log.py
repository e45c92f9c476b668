"""What a training run tells as it goes: metrics.jsonl, TensorBoard's event files, curves and panels in its folder."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from imagewizard import storage
from imagewizard.storage import Folder
from imagewizard.tracking import curves, history, tensorboard
from imagewizard.tracking import panels as training_panels
from imagewizard.tracking.history import EVENT
from imagewizard.tracking.panels import Panel


class TrainingLog:
    """Written by one process at a time: the first worker. A crash costs the rows of steps that come again."""

    def __init__(self, run: str, step: int) -> None:
        self._run = run
        self._local = storage.local_path(run)
        self._rows = [row for row in history.read(run) if row["step"] <= step or row["kind"] == EVENT]
        _write(self._run, self._rows)
        # TensorBoard appends to its file, which object stores do not have: there it is written beside and copied.
        self._scratch = tempfile.TemporaryDirectory(prefix="imagewizard-") if self._local is None else None
        folder = self._local / "tensorboard" if self._local else Path(self._scratch.name if self._scratch else "")
        self._events = tensorboard.EventWriter(folder, purge_step=step + 1 if step else None)

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row, with the time of day."""
        row = row | {"time": round(time.time(), 3)}
        self._rows.append(row)
        if self._local:
            with (self._local / "metrics.jsonl").open("a") as stream:
                stream.write(json.dumps(row) + "\n")
        else:
            _write(self._run, self._rows)
        self._events.add(row)

    def draw(self, step: int, panels: list[Panel]) -> None:
        """Draws the panels of a validation, and the curves anew."""
        if panels:
            picture = training_panels.draw(panels)
            self._put(f"panels/step-{step:08d}.png", picture)
            self._events.add_panels(step, picture)
        self._put("curves.png", curves.draw(self._rows))
        self._upload_events()

    def close(self) -> None:
        self._events.close()
        if self._scratch is not None:
            self._upload_events()
            self._scratch.cleanup()

    def _upload_events(self) -> None:
        if self._scratch is not None:
            for path in Path(self._scratch.name).iterdir():
                self._put(f"tensorboard/{path.name}", path.read_bytes())

    def _put(self, name: str, data: bytes) -> None:
        Folder(self._run).write(name, data)


def add_event(run: str, step: int, text: str) -> None:
    """Adds an event to the rows of a run whose workers are gone."""
    _write(run, [*history.read(run), {"kind": EVENT, "step": step, "text": text, "time": time.time()}])


def _write(run: str, rows: list[dict[str, Any]]) -> None:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    Folder(run).write("metrics.jsonl", data)
