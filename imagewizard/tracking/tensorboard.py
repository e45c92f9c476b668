"""TensorBoard's event files: the numbers of metrics.jsonl and the panels.

Records are written one by one with tensorboardX's protocol buffers. tensorboardX's own SummaryWriter buffers them in a
queue and writes them from a thread some time later; a crash, or a copy of the file, would miss the buffered ones.
"""

import io
import math
import socket
import time
from pathlib import Path
from typing import Any

from PIL import Image

from imagewizard.tracking.history import EVENT, Row

NOT_CURVES = ("kind", "step", "steps", "time")
# Panels are noisy and compress badly as PNG: the file of a hundred validations had 200 MB, and each validation uploads
# it to S3 again.
JPEG_QUALITY = 90


class EventWriter:
    """Appends to a new file in a local folder; each call returns after its records are in the file.

    It writes nothing if tensorboardX is missing, which a machine that only trains may lack.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        """`purge_step`: TensorBoard discards records of earlier files in the folder from this step on (None: all)."""
        self._records: Any = None
        try:
            from tensorboardX.proto import event_pb2, summary_pb2  # tensorboardX imports torch
            from tensorboardX.record_writer import RecordWriter
        except ModuleNotFoundError:
            return
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files in the order of their names.
        self._records = RecordWriter(str(folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"))
        self._write(file_version="brain.Event:2")
        self._write(step=purge_step or 0, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def add(self, row: Row) -> None:
        """Adds the numbers of a train or validation row as the scalars train/loss, validation/psnr_25, …"""
        if row["kind"] == EVENT or self._records is None:
            return
        values = [
            self._summary.Value(tag=f"{row['kind']}/{name}", simple_value=value)
            for name, value in row.items()
            if name not in NOT_CURVES and value is not None and math.isfinite(value)
        ]
        self._write(wall_time=row["time"], step=row["step"], summary=self._summary(value=values))

    def add_panels(self, step: int, picture: bytes) -> None:
        """Adds the panels of a validation. `picture`: an encoded image."""
        if self._records is None:
            return
        image = Image.open(io.BytesIO(picture)).convert("RGB")
        data = io.BytesIO()
        image.save(data, "JPEG", quality=JPEG_QUALITY)
        shown = self._summary.Image(
            height=image.height, width=image.width, colorspace=3, encoded_image_string=data.getvalue()
        )
        value = self._summary.Value(tag="validation/panels", image=shown)
        self._write(step=step, summary=self._summary(value=[value]))

    def close(self) -> None:
        """Closes the file."""
        if self._records is not None:
            self._records.close()

    def _write(self, **fields: Any) -> None:
        self._records.write(self._event(**{"wall_time": time.time()} | fields).SerializeToString())
        self._records.flush()
