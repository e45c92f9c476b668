"""The status of a run is computed from its folder alone."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.errors import UserError
from imagewizard.manifest import shards
from imagewizard.runs import job, status, totals
from imagewizard.storage.lease import Lease
from tests.support import run_folders


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of four images at one level, with a row that is ok, and one that failed and was retried in vain."""
    for name in "abcd":
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.png").touch()
    folder = tmp_path / "run"
    job.write_job("denoise", DenoiseConfig(input=f"{tmp_path}/in", output=str(folder)), "f" * 16)
    shards.write(str(folder), f"{tmp_path}/in", 2)
    error = run_folders.error_row("b.png", "read", "gone")
    run_folders.write_rows(folder, [run_folders.row("a.png"), error])
    run_folders.write_rows(folder, [error | {"attempt": 2}], attempt=2)
    return folder


def test_counts_are_of_current_rows(run: Path) -> None:
    found = status.read(str(run))
    assert (found.state, found.images, found.ok, found.failed, found.pending) == ("stopped", 4, 1, 1, 2)
    assert found.driver is None and found.eta_seconds is None


def test_a_run_with_a_driver_is_running(run: Path) -> None:
    with Lease(str(run)):
        found = status.read(str(run))
    assert found.state == "running" and found.driver is not None and found.driver.startswith("pid ")


def test_a_run_with_all_rows_is_finished(run: Path) -> None:
    run_folders.write_rows(run, [run_folders.row("c.png"), run_folders.row("d.png")], block=1)
    found = status.read(str(run))
    assert (found.state, found.pending) == ("finished", 0)


def test_compaction_while_status_is_read_costs_only_the_rate(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = totals.snapshot

    def look(folder: str) -> object:
        found = snapshot(folder)
        shutil.rmtree(run / "results")
        return found

    monkeypatch.setattr(status.totals, "snapshot", look)
    found = status.read(str(run))
    assert (found.ok, found.failed, found.rows_per_second) == (1, 1, None)


def test_run_whose_listing_is_not_finished(run: Path) -> None:
    shutil.rmtree(run / "manifest")
    shutil.rmtree(run / "results")
    assert status.read(str(run)).state == "stopped"
    with Lease(str(run)):
        assert status.read(str(run)).state == "listing"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder"):
        status.read(str(tmp_path))


@pytest.mark.parametrize("files_at_once", [1, 256])
def test_the_rate_is_that_of_the_last_minutes(run: Path, files_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "FILES_AT_ONCE", files_at_once)
    ends = [0, 1000, 1020, 1060]  # seconds
    rows = [
        run_folders.row(f"{end}.png", finished_at=run_folders.STARTED + timedelta(seconds=end), sigma=50.0)
        for end in ends
    ]
    run_folders.write_rows(run, rows[:2], block=2)
    run_folders.write_rows(run, rows[2:], block=3)
    found = status.read(str(run))
    assert found.last_row == run_folders.STARTED + timedelta(seconds=1060)
    assert found.rows_per_second == pytest.approx(3 / 60)


def test_the_text(run: Path) -> None:
    found = status.read(str(run))
    lines = status.text("runs/a", found).splitlines()
    assert lines == [
        "runs/a: stopped",
        "  4 images, 4 rows: 1 ok, 1 failed, 2 pending (50.0 % done)",
        "  the same `imagewizard denoise` command again goes on from here",
    ]
    working = replace(found, state="running", driver="pid 7 on host", rows_per_second=0.5)
    assert status.text("runs/a", working).splitlines() == [
        "runs/a: running (pid 7 on host)",
        "  4 images, 4 rows: 1 ok, 1 failed, 2 pending (50.0 % done)",
        "  0.5 rows/s, ETA 0:04; last row 2026-05-01 12:00:00 UTC",
    ]
    finished = replace(found, state="finished", ok=3, pending=0)
    assert status.text("runs/a", finished).splitlines()[-1].startswith("  imagewizard query runs/a errors tells why")
