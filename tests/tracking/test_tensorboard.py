"""TensorBoard's event files, read record by record with checksums, and by TensorBoard's rules for a restart."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from imagewizard.tracking import panels as training_panels
from imagewizard.tracking.tensorboard import EventWriter
from tests.support.training_runs import event_row, panel, train_row, validation_row


def masked_crc(data: bytes) -> int:
    """CRC-32C (RFC 3720, B.4) bit by bit, masked as in TensorFlow's record format."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> list[Event]:
    stream, found = io.BytesIO(path.read_bytes()), []
    while header := stream.read(12):
        length, check = struct.unpack("<QI", header)
        assert check == masked_crc(header[:8])
        data = stream.read(length)
        assert stream.read(4) == struct.pack("<I", masked_crc(data))
        found.append(Event.FromString(data))
    return found


def events(folder: Path) -> list[Event]:
    """The records that TensorBoard keeps: a restart discards earlier records from its step on."""
    kept: list[Event] = []
    for path in sorted(folder.iterdir()):
        assert "tfevents" in path.name
        found = records(path)
        assert found[0].file_version == "brain.Event:2"
        for event in found[1:]:
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                kept = [before for before in kept if before.step < event.step]
            else:
                kept.append(event)
    return kept


def scalars(found: list[Event]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for event in found:
        for value in event.summary.value:
            if value.HasField("simple_value"):
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def test_rows_are_scalars_at_once(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "new" / "tensorboard", purge_step=None)
    train, validation = train_row(10), validation_row(10)
    writer.add(train)
    writer.add(event_row(15, "a worker died"))
    writer.add(validation)
    found = events(tmp_path / "new" / "tensorboard")  # the writer is still open
    assert len(found) == 2
    expected = {
        f"{row['kind']}/{name}": [(10, pytest.approx(value))]
        for row in (train, validation)
        for name, value in row.items()
        if name not in ("kind", "step", "steps", "time")
    }
    assert scalars(found) == expected
    assert {"train/loss", "train/perceptual", "validation/psnr", "validation/psnr_15"} <= expected.keys()
    assert found[0].wall_time == train["time"]
    writer.close()


def test_nan_is_no_point_of_a_curve(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, purge_step=None)
    writer.add(validation_row(10) | {"ssim_15": None, "psnr_15": float("nan")})
    writer.close()
    assert not {"validation/ssim_15", "validation/psnr_15"} & scalars(events(tmp_path)).keys()


def test_a_resume_has_no_step_twice(tmp_path: Path) -> None:
    first = EventWriter(tmp_path, purge_step=None)
    for step in (10, 20, 30, 40):
        first.add(train_row(step, seed=1))
    first.close()
    second = EventWriter(tmp_path, purge_step=21)
    for step in (30, 40, 50):
        second.add(train_row(step))
    second.close()
    loss = scalars(events(tmp_path))["train/loss"]
    rows = [train_row(10, seed=1), train_row(20, seed=1), train_row(30), train_row(40), train_row(50)]
    assert loss == [(row["step"], pytest.approx(row["loss"])) for row in rows]
    anew = EventWriter(tmp_path, purge_step=None)  # died before its first checkpoint: all steps come again
    anew.add(train_row(10))
    anew.close()
    assert [step for step, _ in scalars(events(tmp_path))["train/loss"]] == [10]


def test_a_truncated_file_does_not_affect_the_next(tmp_path: Path) -> None:
    first = EventWriter(tmp_path, purge_step=None)
    first.add(train_row(10))
    first.close()
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:-3])
    second = EventWriter(tmp_path, purge_step=1)
    second.add(train_row(10))
    second.close()
    assert len(records(max(tmp_path.iterdir()))) == 3


def test_panels_are_an_image(tmp_path: Path) -> None:
    sheet = training_panels.draw([panel("a.png", 15.0, 1)])
    writer = EventWriter(tmp_path, purge_step=None)
    writer.add_panels(200, sheet)
    writer.close()
    event = events(tmp_path)[0]
    value = event.summary.value[0]
    assert (event.step, value.tag) == (200, "validation/panels")
    shown, expected = Image.open(io.BytesIO(value.image.encoded_image_string)), Image.open(io.BytesIO(sheet))
    assert shown.size == expected.size == (value.image.width, value.image.height)
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(expected)).mean() < 8  # lossy
    assert len(value.image.encoded_image_string) < len(sheet) / 2
