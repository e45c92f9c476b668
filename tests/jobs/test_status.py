"""imagewizard status: the text or one line of JSON for each run, whatever its kind."""

import json
from pathlib import Path

import pytest

from jobs import shell, status
from tests.support import run_folders, training_runs


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """A stopped bulk job, one of whose two images is done, and a finished training."""
    run_folders.write_job(tmp_path / "bulk", 2)
    run_folders.write_rows(tmp_path / "bulk", [run_folders.row("a.png")])
    return [str(tmp_path / "bulk"), str(training_runs.finished_run(tmp_path / "training"))]


def test_each_run_is_described_in_turn(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(status.main, runs) == shell.DONE
    bulk, _, training = capsys.readouterr().out.partition(runs[1])
    assert bulk.startswith(f"{runs[0]}: stopped\n  2 images, 2 rows: 1 ok, 0 failed, 1 pending (50.0 % done)\n")
    assert training.startswith(": finished")


def test_json_has_one_line_for_each_run(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(status.main, ["--json", *runs]) == shell.DONE
    bulk, training = map(json.loads, capsys.readouterr().out.splitlines())
    assert (bulk["run"], bulk["state"], bulk["ok"], bulk["pending"]) == (runs[0], "stopped", 1, 1)
    assert (training["run"], training["state"]) == (runs[1], "finished")


def test_folder_without_a_run_is_the_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(status.main, [str(tmp_path)]) == shell.WRONG_INPUT
    error = capsys.readouterr().err
    assert str(tmp_path) in error and error.count("\n") == 1
