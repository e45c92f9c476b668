"""Part of the fault matrix: after kill -9 in mid-job the same command gives the rows of an undisturbed run."""

from pathlib import Path

import pytest

from tests.support import kill_matrix

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    kill_matrix.prepare(folder)
    return folder


@pytest.mark.parametrize(
    ("stage", "target", "nth", "exit_code"),
    [
        ("denoising", "actor", 7, 0),  # Ray starts another one and gives it the block again
        ("during-write", "worker", 7, 0),
        ("decoding", "raylet", 7, 1),
        ("after-compaction", "driver", 3, -9),
    ],
)
def test_no_row_is_lost_or_duplicated(folder: Path, stage: str, target: str, nth: int, exit_code: int) -> None:
    found = kill_matrix.kill(folder, stage, target, nth)
    assert (found.lost, found.duplicated, found.changed, found.exit_code) == (0, 0, 0, exit_code)
