"""Lists and prunes the checkpoints of a run (tests/training covers their content)."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from imagewizard.progress import silent
from imagewizard.storage import Folder
from imagewizard.tracking import checkpoints
from imagewizard.tracking.checkpoints import Checkpoint
from tests.support.training_runs import write_checkpoint


def write(run: Path, step: int, psnr: float) -> Path:
    return write_checkpoint(run, step, psnr, {"workers": 1})


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


# --- what the start of a job finds


def damage(folder: Path, how: str) -> None:
    """Damages a checkpoint, which has a digest, in one of many ways."""
    tensors, numbers = folder / "state.safetensors", folder / "state.json"
    content = json.loads(numbers.read_text()) | {"sha256": hashlib.sha256(tensors.read_bytes()).hexdigest()}
    numbers.write_text(json.dumps(content))
    match how:
        case "numbers cut":
            os.truncate(numbers, numbers.stat().st_size // 2)
        case "numbers empty":
            os.truncate(numbers, 0)
        case "numbers of zeros":
            numbers.write_bytes(bytes(numbers.stat().st_size))
        case "numbers of another":
            numbers.write_text(json.dumps(content | {"step": 7}))
        case "tensors cut":
            os.truncate(tensors, tensors.stat().st_size - 1)
        case "tensors missing":
            tensors.unlink()
        case "tensors a folder":
            tensors.unlink()
            tensors.mkdir()
        case "tensors of zeros":
            tensors.write_bytes(bytes(tensors.stat().st_size))
        case "other values":
            save_file({"unet.weight": 0 * np.arange(4, dtype=np.float32)}, tensors)


DAMAGES = [
    "numbers cut", "numbers empty", "numbers of zeros", "numbers of another", "tensors cut",
    "tensors missing", "tensors a folder", "tensors of zeros", "other values",
]  # fmt: skip


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_checkpoints_are_named_and_passed_over(tmp_path: Path, how: str) -> None:
    for step in (10, 20, 30, 40):
        write(tmp_path, step, 30.0)
    for step in (40, 30):
        damage(tmp_path / "checkpoints" / checkpoints.folder_name(step), how)
    lines: list[str] = []
    assert checkpoints.settle(str(tmp_path), lines.append) == 20
    assert [line.split(" is passed over: ")[0] for line in lines] == [
        f"damaged  checkpoints/{checkpoints.folder_name(step)}" for step in (40, 30)
    ]
    assert all("state." in line and "\n" not in line for line in lines)
    assert [kept.step for kept in checkpoints.kept(str(tmp_path))] == [10, 20]
    lines.clear()  # at the next start nothing records them
    assert checkpoints.settle(str(tmp_path), lines.append) == 20
    assert len(lines) == 2 and all(line.startswith("removed  checkpoints/") for line in lines)
    assert names(tmp_path) == [checkpoints.folder_name(step) for step in (10, 20)]


@pytest.mark.parametrize("where", ["local", "s3"])
def test_folders_that_were_never_completed_are_removed(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = str(tmp_path) if where == "local" else f"{request.getfixturevalue('bucket')}/run"
    whole = write(tmp_path / "made", 3, 31.0)
    for path in whole.iterdir():
        Folder(run).write(f"checkpoints/{whole.name}/{path.name}", path.read_bytes())
    Folder(run).write("checkpoints/step-00000005/state.safetensors", b"half")
    Folder(run).write("checkpoints/notes/mine.txt", b"kept")
    lines: list[str] = []
    assert checkpoints.settle(run, lines.append) == 3
    assert lines == ["removed  checkpoints/step-00000005, which was never completed"]
    assert Folder(run).list("checkpoints", "/") == ["notes/", "step-00000003/"]


def test_steps_of_more_digits_are_newer(tmp_path: Path) -> None:
    for step in (100_000_000, 99_999_999):
        write(tmp_path, step, 30.0)
    assert checkpoints.settle(str(tmp_path), silent) == 100_000_000
    assert checkpoints.latest_step(str(tmp_path)) == 100_000_000


def test_a_run_without_a_whole_checkpoint_begins_anew(tmp_path: Path) -> None:
    assert checkpoints.settle(str(tmp_path), silent) == 0
    damage(write(tmp_path, 5, 30.0), "tensors cut")
    assert checkpoints.settle(str(tmp_path), silent) == 0
    shutil.rmtree(tmp_path / "checkpoints")
    assert checkpoints.settle(str(tmp_path), silent) == 0
