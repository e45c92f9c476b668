"""The log of a training, read back from its folder, local or in S3 (moto's real server)."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import fs

from imagewizard import storage
from imagewizard.storage import Folder
from imagewizard.tracking import curves as curve_sheet
from imagewizard.tracking import history
from imagewizard.tracking import log as training_log
from imagewizard.tracking.history import add_event
from imagewizard.tracking.log import TrainingLog
from tests.support.training_runs import event_row, panel, train_row, validation_row
from tests.tracking.test_tensorboard import events, scalars


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "run")
    return f"{request.getfixturevalue('bucket')}/{request.node.name}"


def lines(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Folder(run).read("metrics.jsonl").splitlines()]


def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "time"} for row in rows]


def curves(run: str, scratch: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars that TensorBoard would show of the run's folder."""
    filesystem, path = storage.resolve(Folder(run).uri_of("tensorboard"))
    scratch.mkdir()
    fs.copy_files(path, str(scratch), source_filesystem=filesystem)
    return scalars(events(scratch))


def nobody(row: dict[str, Any]) -> None:
    pass


def logged(run: str, step: int, rows: list[dict[str, Any]]) -> None:
    log = TrainingLog(run, step, nobody)
    for row in rows:
        log.add(row)
    log.draw(rows[-1]["step"], [])
    log.close()


def test_rows_are_in_the_file_at_once(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_log, "UPLOAD_SHARE", float("inf"))
    told: list[dict[str, Any]] = []
    log = TrainingLog(run, 0, told.append)
    assert lines(run) == []
    rows = [validation_row(0), train_row(10), train_row(20)]
    for count, row in enumerate(rows, start=1):
        log.add(row)
        assert without_time(lines(run)) == without_time(rows[:count])
        assert all(found["time"] > 1.7e9 for found in lines(run))  # when it was added
        assert told == lines(run)
    log.close()


def test_uploads_take_a_share_of_the_time_and_flush_and_close_upload_the_rest(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_log, "UPLOAD_SHARE", 1e-9)
    run = f"{bucket}/run"
    log = TrainingLog(run, 0, nobody)
    log.add(train_row(10))
    log.add(train_row(20))
    assert [row["step"] for row in lines(run)] == [10]  # the only upload so far
    log.flush()
    assert [row["step"] for row in lines(run)] == [10, 20]
    log.add(train_row(30))
    log.close()
    assert [row["step"] for row in lines(run)] == [10, 20, 30]


def test_resume_drops_repeated_rows(run: str) -> None:
    rows = [validation_row(0), train_row(10), train_row(20), validation_row(20), train_row(30), train_row(40)]
    logged(run, 0, rows)
    add_event(run, 20, "worker 1 died")
    log = TrainingLog(run, 20, nobody)
    kept = [*rows[:4], event_row(20, "worker 1 died")]
    assert without_time(lines(run)) == without_time(kept)
    log.add(train_row(30, seed=1))
    log.close()
    assert without_time(lines(run)) == without_time([*kept, train_row(30, seed=1)])


def test_resume_after_a_half_written_line(tmp_path: Path) -> None:
    logged(str(tmp_path), 0, [train_row(10), train_row(20)])
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "train", "st')
    logged(str(tmp_path), 20, [train_row(30)])
    assert [row["step"] for row in lines(str(tmp_path))] == [10, 20, 30]


def test_event_of_a_run_without_workers(run: str) -> None:
    logged(run, 0, [train_row(10), train_row(20), train_row(30)])
    add_event(run, 10, "worker 0 died (killed); resuming from step 10")
    found = lines(run)
    assert [(row["kind"], row["step"]) for row in found] == [("train", 10), ("train", 20), ("train", 30), ("event", 10)]
    assert found[-1]["text"] == "worker 0 died (killed); resuming from step 10" and found[-1]["time"] > 1.7e9
    assert history.line(found[-1]) == "step 10  worker 0 died (killed); resuming from step 10"


def test_event_before_anything_else(run: str) -> None:
    add_event(run, 0, "worker 0 died")
    logged(run, 0, [train_row(10)])
    assert [row["kind"] for row in lines(run)] == ["event", "train"]


def test_validation_draws_panels(run: str) -> None:
    log = TrainingLog(run, 0, nobody)
    log.add(validation_row(10))
    log.draw(10, [panel("a.png", 25.0, 1), panel("b.png", 25.0, 2)])
    panels = Image.open(io.BytesIO(Folder(run).read("panels/step-00000010.png")))
    assert panels.format == "PNG" and panels.height > 2 * 240
    log.draw(20, [])
    assert Folder(run).list("panels") == ["step-00000010.png"]
    log.close()


def test_curves_include_rows_from_before_a_resume(run: str, tmp_path: Path) -> None:
    logged(run, 0, [train_row(step) for step in (10, 20, 30)])
    curve_sheet.write(run)
    first = Folder(run).read("curves.png")
    assert Image.open(io.BytesIO(first)).size == (1440, 900)
    logged(run, 30, [train_row(step) for step in (40, 50)])
    curve_sheet.write(run)
    logged(str(tmp_path / "whole"), 0, [train_row(step) for step in (10, 20, 30, 40, 50)])
    curve_sheet.write(str(tmp_path / "whole"))
    assert first != Folder(run).read("curves.png") == (tmp_path / "whole" / "curves.png").read_bytes()


def test_tensorboard_shows_each_step_once(run: str, tmp_path: Path) -> None:
    logged(run, 0, [train_row(step, seed=1) for step in (10, 20, 30)])
    assert [step for step, _ in curves(run, tmp_path / "first")["train/loss"]] == [10, 20, 30]
    logged(run, 20, [train_row(30), train_row(40), validation_row(40)])
    found = curves(run, tmp_path / "second")
    rows = [train_row(10, seed=1), train_row(20, seed=1), train_row(30), train_row(40)]
    assert found["train/loss"] == [(row["step"], pytest.approx(row["loss"])) for row in rows]
    assert found["validation/psnr_25"] == [(40, pytest.approx(validation_row(40)["psnr_25"]))]
    logged(run, 0, [train_row(10)])  # died before its first checkpoint: from the start
    assert [step for step, _ in curves(run, tmp_path / "third")["train/loss"]] == [10]


def test_nothing_is_left_behind(run: str) -> None:
    logged(run, 0, [train_row(10)])
    assert Folder(run).list("_tmp") == []
    assert Folder(run).list() == ["metrics.jsonl"]
