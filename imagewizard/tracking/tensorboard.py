"""TensorBoard's event files: the numbers of metrics.jsonl and the panels, for those who look at runs there.

Written record by record with tensorboardX's protocol buffers. Its own SummaryWriter has a process's queue and a thread
in between, and hands over what it was given some time later; a crash, or a copy of the file, must not miss that.
"""

import io
import math
import socket
import struct
import time
from pathlib import Path

from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from imagewizard.tracking.history import EVENT, Row

NOT_CURVES = ("kind", "step", "steps", "time")
# Panels are noise in large part: as PNG a file of a hundred validations had 200 MB, which goes to S3 at each of them.
JPEG_QUALITY = 90


class EventWriter:
    """Appends to a new file in a local folder; what was added is in the file when the call returns."""

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        """`purge_step`: TensorBoard forgets what earlier files of the folder hold from this step on (None: all)."""
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files in the order of their names.
        self._file = (folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}").open("xb")
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=purge_step or 0, session_log=start))

    def add(self, row: Row) -> None:
        """The numbers of a train or validation row, as the scalars train/loss, validation/psnr_25, …"""
        if row["kind"] == EVENT:
            return
        values = [
            Summary.Value(tag=f"{row['kind']}/{name}", simple_value=value)
            for name, value in row.items()
            if name not in NOT_CURVES and value is not None and math.isfinite(value)
        ]
        self._write(Event(wall_time=row["time"], step=row["step"], summary=Summary(value=values)))

    def add_panels(self, step: int, picture: bytes) -> None:
        """The panels of a validation, an encoded image."""
        image = Image.open(io.BytesIO(picture)).convert("RGB")
        data = io.BytesIO()
        image.save(data, "JPEG", quality=JPEG_QUALITY)
        shown = Summary.Image(
            height=image.height, width=image.width, colorspace=3, encoded_image_string=data.getvalue()
        )
        value = Summary.Value(tag="validation/panels", image=shown)
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=[value])))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        """A record of TensorFlow's TFRecord format: length, its checksum, data, its checksum."""
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        self._file.write(length + struct.pack("<I", masked_crc32c(length)))
        self._file.write(data + struct.pack("<I", masked_crc32c(data)))
        self._file.flush()
