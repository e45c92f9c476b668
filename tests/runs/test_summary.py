"""A summary is written only if every image and level has its one current row."""

import json
from pathlib import Path

import pytest

from imagewizard.manifest.shards import ManifestIndex
from imagewizard.progress import Progress
from imagewizard.runs import summary
from tests.support import run_folders


def test_a_summary_counts_current_rows_and_names_the_files(tmp_path: Path) -> None:
    run_folders.write_job(tmp_path, 2)
    first = run_folders.write_rows(tmp_path, [run_folders.row("a"), run_folders.error_row("b", "read", "gone")])
    second = run_folders.write_rows(tmp_path, [run_folders.row("b", attempt=2)], attempt=2)
    index = ManifestIndex(images=2, skipped=7, block_rows=2, blocks=[1])
    written = summary.write(str(tmp_path), index, 1, Progress(2, 0, 0))
    assert (written["ok"], written["failed"], written["skipped_files"]) == (2, 0, 7)
    assert written["result_files"] == [first.name, second.name]
    assert json.loads((tmp_path / "summary.json").read_text()) == summary.read(str(tmp_path)) == written


def test_missing_rows_are_noticed(tmp_path: Path) -> None:
    run_folders.write_job(tmp_path, 2)
    run_folders.write_rows(tmp_path, [run_folders.row("a")])
    index = ManifestIndex(images=2, skipped=0, block_rows=2, blocks=[1])
    with pytest.raises(RuntimeError, match="1 current rows for 2"):
        summary.write(str(tmp_path), index, 1, Progress(2, 0, 0))
    assert summary.read(str(tmp_path)) is None
