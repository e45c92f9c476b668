"""What is pending is what no committed file holds, and on a retry what failed."""

from pathlib import Path

import pytest

from imagewizard.bulk import pending
from imagewizard.bulk.pending import BlockRange, Setting, ShardBlocks, block_ranges
from imagewizard.manifest import shards
from imagewizard.noise.synthetic import Camera
from imagewizard.runs.results import BlockFile, ResultFiles, ShardFile
from tests.support import run_folders


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run of ten images in blocks of four."""
    for i in range(10):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{i}.png").touch()
    shards.write(str(tmp_path / "run"), str(tmp_path / "in"), 4)
    return str(tmp_path / "run")


MEAN = '{"mean": 0.0}'
TWO = [(MEAN, 15.0), (MEAN, 25.0)]


def left(run: str, *files: str, retry: bool = False, settings: list[Setting] = TWO[1:]) -> dict[str, list[tuple]]:
    found = pending.pending_blocks(run, BlockRange(0, 0, 3, list(files)), ShardBlocks.read(run, 4, 0), settings, retry)
    return {b.name: [(row["image_id"], row["settings"]) for row in table.to_pylist()] for b, table in found}


def test_all_blocks_of_a_new_run_are_pending(run: str) -> None:
    found = left(run, settings=TWO)
    assert list(found) == [BlockFile(0, i, 1).name for i in range(3)]
    assert [row[0] for rows in found.values() for row in rows] == [f"{i}.png" for i in range(10)]
    assert all(row[1] == [0, 1] for rows in found.values() for row in rows)


def test_committed_blocks_are_not_pending(run: str) -> None:
    assert list(left(run, BlockFile(0, 1, 1).name)) == [BlockFile(0, 0, 1).name, BlockFile(0, 2, 1).name]


def test_retrying_takes_the_failed_keys_and_only_them(run: str) -> None:
    row, error_row = run_folders.row, run_folders.error_row
    first = run_folders.write_rows(
        Path(run),
        [
            row("0.png", sigma=15.0),
            error_row("0.png", "denoise", "x", sigma=25.0),
            error_row("1.png", "read", "x", sigma=15.0),
            error_row("1.png", "read", "x", sigma=25.0),
            row("2.png", sigma=15.0),
            row("2.png", sigma=25.0),
        ],
    )
    assert left(run, first.name, settings=TWO)[BlockFile(0, 1, 1).name]
    assert BlockFile(0, 0, 2).name not in left(run, first.name, settings=TWO)
    found = left(run, first.name, retry=True, settings=TWO)
    assert found[BlockFile(0, 0, 2).name] == [("0.png", [1]), ("1.png", [0, 1])]
    second = run_folders.write_rows(
        Path(run),
        [
            row("0.png", sigma=25.0, attempt=2),
            row("1.png", sigma=15.0, attempt=2),
            error_row("1.png", "read", "x", sigma=25.0, attempt=2),
        ],
        attempt=2,
    )
    found = left(run, first.name, second.name, retry=True, settings=TWO)
    assert found[BlockFile(0, 0, 3).name] == [("1.png", [1])]


def test_retrying_knows_settings_by_their_parameters(run: str) -> None:
    """Those of a camera have no sigma that would tell them apart."""
    settings = [noise.setting for noise in (Camera(gain=4.0), Camera(gain=16.0), Camera(gain=64.0))]
    params = [{"noise_kind": "camera", "noise_params": params, "sigma": None} for params, _ in settings]
    failed = [run_folders.error_row("0.png", "read", "x", **params[index]) for index in (0, 2)]
    first = run_folders.write_rows(Path(run), [*failed, run_folders.row("0.png", **params[1])])
    assert left(run, settings=settings)[BlockFile(0, 0, 1).name][0] == ("0.png", [0, 1, 2])
    found = left(run, first.name, retry=True, settings=settings)
    assert found[BlockFile(0, 0, 2).name] == [("0.png", [0, 2])]


def test_a_retry_counts_the_attempts_of_a_key_and_not_those_of_its_block(run: str) -> None:
    row, error_row = run_folders.row, run_folders.error_row
    first = run_folders.write_rows(Path(run), [row("0.png"), error_row("1.png", "read", "x")])
    second = run_folders.write_rows(Path(run), [error_row("1.png", "read", "x", attempt=2)], attempt=4)
    block_range, shard = BlockRange(0, 0, 1, [first.name, second.name]), ShardBlocks.read(run, 4, 0)
    [(file, table)] = pending.pending_blocks(run, block_range, shard, TWO[1:], True)
    assert file == BlockFile(0, 0, 5)
    assert [(image["image_id"], image["attempts"]) for image in table.to_pylist()] == [("1.png", [3])]


def test_a_retry_finds_failures_in_a_shards_whole_file(run: str) -> None:
    row, error_row = run_folders.row, run_folders.error_row
    rows = [row("0.png"), *(error_row(f"{i}.png", "read", "x") for i in range(1, 10))]
    whole = run_folders.write_shard(Path(run), [*rows, row("9.png", attempt=2)], attempt=2)
    found = left(run, whole.name, retry=True)
    assert found == {
        BlockFile(0, block, 3).name: [(f"{i}.png", [0]) for i in ids]
        for block, ids in enumerate(([1, 2, 3], [4, 5, 6, 7], [8]))
    }


@pytest.mark.parametrize("sigma", [None, 12.0])
def test_an_image_to_be_restored_has_one_row_and_can_be_retried(run: str, sigma: float | None) -> None:
    """Whatever its level: each may have its own."""
    assert left(run, settings=[])[BlockFile(0, 0, 1).name][0] == ("0.png", [0])
    failed = run_folders.error_row("0.png", "read", "x", sigma=sigma, noise_kind=None, noise_params="{}")
    file = run_folders.write_rows(Path(run), [failed])
    assert left(run, file.name, retry=True, settings=[])[BlockFile(0, 0, 2).name] == [("0.png", [0])]


def test_the_level_that_a_manifest_gives_travels_with_its_image(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image_id,uri,std\na,/a.png,12.5\nb,/b.png,\n")
    shards.write(str(tmp_path / "run"), str(tmp_path / "m.csv"), 4, level_column="std")
    shard = ShardBlocks.read(str(tmp_path / "run"), 4, 0)
    [(_, table)] = pending.pending_blocks(str(tmp_path / "run"), BlockRange(0, 0, 1, []), shard, [], False)
    assert table["sigma"].to_pylist() == ["12.5", None]


def test_ranges_cover_what_is_left_and_no_more() -> None:
    names = [BlockFile(*key).name for key in ((0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 0, 2))]
    files = ResultFiles([*names, "notes.parquet"])
    assert block_ranges([2, 2, 1], files, set()) == [BlockRange(1, 1, 2, []), BlockRange(2, 0, 1, [])]
    retried = block_ranges([2, 2, 1], files, {0, 1})
    assert [(each.shard, each.first, each.files) for each in retried] == [
        (0, 0, names[:1]), (0, 1, names[1:2]), (1, 0, names[2:]), (1, 1, []), (2, 0, []),
    ]  # fmt: skip


def test_a_shard_with_a_whole_file_is_left_alone_unless_it_is_retried() -> None:
    files = ResultFiles([ShardFile(0, 1).name, ShardFile(1, 2).name, BlockFile(1, 1, 3).name])
    assert block_ranges([2, 2], files, set()) == []
    assert block_ranges([2, 2], files, {1}) == [
        BlockRange(1, 0, 1, [ShardFile(1, 2).name]),
        BlockRange(1, 1, 2, [ShardFile(1, 2).name, BlockFile(1, 1, 3).name]),
    ]


def test_ranges_of_a_large_job_hold_several_blocks() -> None:
    counts = [1024] * 15
    found = block_ranges(counts, ResultFiles([BlockFile(3, 17, 1).name]), set())
    assert len(found) <= 2 * pending.MAX_RANGES + len(counts)
    sizes = [each.last - each.first for each in found]
    assert max(sizes) == 16 and set(sizes[-100:]) == {2}, "the last tenth is for all actors to end together"
    covered = [(each.shard, block) for each in found for block in range(each.first, each.last)]
    assert covered == [(shard, block) for shard in range(15) for block in range(1024)]
    assert [each.files for each in found if each.shard == 3 and each.first <= 17 < each.last] == [
        [BlockFile(3, 17, 1).name]
    ]
