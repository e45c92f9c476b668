"""A shard's blocks become one file with the same rows; whatever moment it is stopped at, none is missing or twice."""

from pathlib import Path

import pytest

from imagewizard.manifest import shards
from imagewizard.query.sql import records_of
from imagewizard.runs import compaction, results, totals
from imagewizard.runs.results import BlockFile, ResultFiles, ShardFile
from tests.support.run_folders import error_row, row, write_rows

ALL = "SELECT * FROM attempts ORDER BY image_id, sigma, attempt"


@pytest.fixture
def run(tmp_path: Path) -> str:
    """Six images in three blocks, all with rows at two levels; one failed at one of them, and was retried."""
    run = tmp_path / "run"
    (tmp_path / "in").mkdir()
    for name in "abcdef":
        (tmp_path / "in" / f"{name}.png").touch()
    shards.write(str(run), str(tmp_path / "in"), 2)
    for block, names in enumerate(("ab", "cd", "ef")):
        rows = [row(f"{name}.png", sigma=sigma) for name in names for sigma in (15.0, 25.0)]
        if block == 1:
            rows[0] = error_row("c.png", "read", "gone", sigma=15.0)
        write_rows(run, rows, block=block)
    write_rows(run, [row("c.png", sigma=15.0, attempt=2)], block=1, attempt=2)
    return str(run)


def compact(run: str) -> None:
    compaction.compact(run, 0, results.listing(run).of_shard(0), 2)


def test_one_file_has_all_rows_and_their_totals(run: str) -> None:
    before = records_of(run, ALL)
    expected = totals.merge(totals.snapshot(run)[1].values())
    compact(run)
    assert [path.name for path in Path(run, "results").iterdir()] == [ShardFile(0, 2).name]
    assert records_of(run, ALL) == before and len(before) == 13
    assert totals.read(run, ShardFile(0, 2).name) == expected == totals.merge(totals.snapshot(run)[1].values())


def test_crash_before_the_old_files_are_deleted_duplicates_no_row(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = records_of(run, ALL)
    with monkeypatch.context() as patched:
        patched.setattr(compaction.Folder, "delete", lambda folder, names: None)  # as if killed here
        compact(run)
    assert len(list(Path(run, "results").iterdir())) == 5
    assert records_of(run, ALL) == before
    files = results.listing(run)
    assert files.names == [ShardFile(0, 2).name] and len(files.superseded) == 4


def test_crash_while_old_files_are_deleted_loses_no_row(run: str) -> None:
    before = records_of(run, ALL)
    names = results.listing(run).of_shard(0)
    kept = {name: Path(run, "results", name).read_bytes() for name in names[::2]}
    compact(run)
    for name, data in kept.items():
        Path(run, "results", name).write_bytes(data)
    assert records_of(run, ALL) == before


def test_compaction_includes_later_attempts(run: str) -> None:
    compact(run)
    write_rows(Path(run), [error_row("a.png", "read", "x", sigma=15.0, attempt=2)], attempt=3)
    before = records_of(run, ALL)
    compact(run)
    assert [path.name for path in Path(run, "results").iterdir()] == [ShardFile(0, 3).name]
    assert records_of(run, ALL) == before


@pytest.mark.parametrize(
    ("rows", "block"),
    [
        ([row("e.png", sigma=15.0), row("e.png", sigma=25.0), row("f.png", sigma=15.0)], 2),  # a level is missing
        ([row("e.png", sigma=15.0), row("e.png", sigma=25.0)], 2),  # an image is missing
        ([row(name, sigma=sigma) for name in ("e.png", "x.png") for sigma in (15.0, 25.0)], 2),  # another's rows
        ([row("a.png", sigma=15.0)], 3),  # a row twice
    ],
)
def test_shard_with_missing_rows_is_not_compacted(run: str, rows: list[dict], block: int) -> None:
    write_rows(Path(run), rows, block=block)
    before = sorted(Path(run, "results").iterdir())
    with pytest.raises(RuntimeError, match="shard 0 has"):
        compact(run)
    assert sorted(Path(run, "results").iterdir()) == before


def test_estimated_level_counts_as_one_level(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    shards.write(str(tmp_path / "run"), str(tmp_path / "in"), 2)
    name = write_rows(tmp_path / "run", [row("a.png", sigma=None)]).name
    compaction.compact(str(tmp_path / "run"), 0, [name], 1)


def test_settings_without_a_level_count_by_their_parameters(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    run = tmp_path / "run"
    shards.write(str(run), str(tmp_path / "in"), 2)
    rows = [row("a.png", sigma=None, noise_kind="camera", noise_params=f'{{"gain": {gain}}}') for gain in (4.0, 64.0)]
    name = write_rows(run, rows).name
    with pytest.raises(RuntimeError, match="at 3 levels"):
        compaction.compact(str(run), 0, [name], 3)
    compaction.compact(str(run), 0, [name], 2)
    assert records_of(str(run), "SELECT count(*) AS n FROM results") == [{"n": 2}]


def test_a_shard_is_finished_when_all_its_blocks_have_rows() -> None:
    blocks = [BlockFile(0, 0, 1).name, BlockFile(0, 1, 1).name, BlockFile(0, 1, 2).name]
    assert not compaction.is_finished(0, 3, ResultFiles(blocks))
    assert compaction.is_finished(0, 2, ResultFiles(blocks))
    assert compaction.is_finished(0, 3, ResultFiles([ShardFile(0, 1).name, blocks[2]]))
    assert not compaction.is_finished(1, 1, ResultFiles(blocks))
