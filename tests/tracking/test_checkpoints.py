"""Lists and prunes the checkpoints of a run (tests/training covers their content)."""

import json
from pathlib import Path

import pytest

from imagewizard.tracking import checkpoints
from imagewizard.tracking.checkpoints import Checkpoint


def write(run: Path, step: int, psnr: float) -> Path:
    folder = run / "checkpoints" / checkpoints.folder_name(step)
    folder.mkdir(parents=True)
    (folder / checkpoints.NUMBERS).write_text(json.dumps({"step": step, "psnr": psnr, "facts": {"workers": 1}}))
    return folder


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_checkpoints_are_listed_from_the_oldest_to_the_newest(tmp_path: Path) -> None:
    for step, psnr in ((30, 31.0), (5, 29.0), (120, checkpoints.NOT_VALIDATED)):
        write(tmp_path, step, psnr)
    found = checkpoints.kept(str(tmp_path))
    assert found[0] == Checkpoint(5, 29.0, {"workers": 1})
    assert [each.step for each in found] == [5, 30, 120]
    assert found[1].name == "step-00000030"
    assert checkpoints.latest_step(str(tmp_path)) == 120


@pytest.mark.parametrize("numbers", [None, "{", "{}", '{"step": "x", "psnr": 1.0, "facts": {}}', "[]"])
def test_folder_without_whole_numbers_is_no_checkpoint(tmp_path: Path, numbers: str | None) -> None:
    write(tmp_path, 1, 30.0)
    folder = write(tmp_path, 2, 31.0)
    (folder / checkpoints.NUMBERS).unlink()
    if numbers is not None:
        (folder / checkpoints.NUMBERS).write_text(numbers)
    assert checkpoints.latest_step(str(tmp_path)) == 1


def test_run_without_checkpoints_starts_at_step_0(tmp_path: Path) -> None:
    assert checkpoints.kept(str(tmp_path)) == [] and checkpoints.latest_step(str(tmp_path)) == 0


@pytest.mark.parametrize(("keep", "left"), [(1, [2, 4]), (2, [1, 2, 4]), (9, [1, 2, 3, 4])])
def test_best_and_newest_checkpoints_survive_pruning(tmp_path: Path, keep: int, left: list[int]) -> None:
    for step, psnr in enumerate((31.0, 32.0, 30.0, checkpoints.NOT_VALIDATED), start=1):
        write(tmp_path, step, psnr)
    checkpoints.prune(str(tmp_path), keep)
    assert names(tmp_path) == [checkpoints.folder_name(step) for step in left]


def test_pruning_deletes_what_a_crash_left_half_written(tmp_path: Path) -> None:
    write(tmp_path, 1, 30.0)
    (write(tmp_path, 2, 30.0) / checkpoints.NUMBERS).unlink()
    (tmp_path / "checkpoints" / "notes").mkdir()
    checkpoints.prune(str(tmp_path), keep=1)
    assert names(tmp_path) == ["notes", "step-00000001"]
