"""The demo deletes the run of an earlier demo, and never anything else."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from imagewizard.errors import RunLockedError, UserError
from imagewizard.storage import lease
from imagewizard.storage.lease import Lease
from jobs import demo


def write_run(run: Path, kind: str = "denoise", **config: object) -> Path:
    """A run folder with a file of each kind."""
    for name in ("manifest/0.parquet", "results/0.parquet", "images/sigma25/a.png", "_tmp/part"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"data")
    for name in ("summary.json", "report.html"):
        (run / name).write_bytes(b"data")
    (run / "job.yaml").write_text(yaml.safe_dump({"kind": kind, "config": {"input": demo.photos()} | config}))
    return run


def files(folder: Path) -> set[str]:
    """All files of a folder but the lock file."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != lease.LOCK}


def test_the_run_of_an_earlier_demo_is_deleted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    demo.clear(str(run))
    assert files(run) == set()


def test_a_folder_that_is_absent_or_empty_stays_so(tmp_path: Path) -> None:
    demo.clear(str(tmp_path / "absent"))
    demo.clear(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda run: write_run(run, kind="train"),
        lambda run: write_run(run, input="photos"),
        lambda run: write_run(run, input=demo.photos()[:-1]),
        lambda run: (run / "notes.txt").write_text("mine"),
        lambda run: (run / "images.old").mkdir(),
    ],
    ids=["training", "another folder", "fewer photographs", "a file beside it", "a folder beside it"],
)
def test_anything_else_is_refused_and_left_whole(tmp_path: Path, change: Callable[[Path], object]) -> None:
    run = write_run(tmp_path / "run")
    change(run)
    before = files(run)
    with pytest.raises(UserError, match=r"^output: .*the demo did not make; give an empty or a new folder$"):
        demo.clear(str(run))
    assert files(run) == before and not (run / lease.LOCK).exists()


def test_a_run_with_a_driver_is_refused_and_left_whole(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    before = files(run)
    with Lease(str(run)), pytest.raises(RunLockedError):
        demo.clear(str(run))
    assert files(run) == before


def test_the_lease_is_held_while_files_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run")
    held = []
    rmtree, unlink = shutil.rmtree, Path.unlink

    def look(path: Path) -> None:
        if path.parent == run:
            held.append((path.name, lease.holder(str(run)) is not None))

    monkeypatch.setattr(shutil, "rmtree", lambda path: (look(path), rmtree(path)))
    monkeypatch.setattr(Path, "unlink", lambda path: (look(path), unlink(path)))
    demo.clear(str(run))
    assert held and all(alive for _, alive in held)
    assert held[-1][0] == "job.yaml", "what is left after a crash is still a run"
    assert lease.holder(str(run)) is None


def test_a_run_that_came_before_the_lease_was_taken_is_left_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LateLease(Lease):
        def __enter__(self) -> Lease:
            write_run(tmp_path / "run", kind="train")
            return super().__enter__()

    run = write_run(tmp_path / "run")
    before = files(run)
    monkeypatch.setattr(demo, "Lease", LateLease)
    with pytest.raises(UserError, match="the demo did not make"):
        demo.clear(str(run))
    assert files(run) == before
