"""Names of result files, and the rows of a run, read at once or as a dataset."""

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewizard.errors import UserError
from imagewizard.runs import results
from imagewizard.runs.results import BlockFile, ResultFiles, ShardFile
from imagewizard.schema import RESULT_SCHEMA
from tests.support.run_folders import error_row, row, write_job, write_rows


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (BlockFile(0, 0, 1), "s00000-b000000-a01.parquet"),
        (BlockFile(12, 345, 3), "s00012-b000345-a03.parquet"),
        (BlockFile(123456, 1234567, 123), "s123456-b1234567-a123.parquet"),
    ],
)
def test_a_block_and_its_file_name_stand_for_each_other(block: BlockFile, name: str) -> None:
    assert block.name == name
    assert BlockFile.parse(name) == block


@pytest.mark.parametrize(
    "name",
    [
        "s00000-b000000-a01.parquet.3f2a",
        "._s00000-b000000-a01.parquet",
        "s00000-b000000.parquet",
        "s0-b0-a1.parquet",
        "s000001-b000000-a01.parquet",  # a second name for s00001
        "s0000١-b000000-a01.parquet",  # an Arabic digit
        "s00000-b000000-a01.parquet\n",
        "summary.json",
    ],
)
def test_other_names_do_not_parse_as_a_block(name: str) -> None:
    assert BlockFile.parse(name) is None


@pytest.mark.parametrize(
    ("shard", "name"), [(ShardFile(0, 1), "s00000-c01.parquet"), (ShardFile(123456, 123), "s123456-c123.parquet")]
)
def test_a_shard_and_its_file_name_stand_for_each_other(shard: ShardFile, name: str) -> None:
    assert shard.name == name
    assert ShardFile.parse(name) == results.parse(name) == shard
    assert BlockFile.parse(name) is None


@pytest.mark.parametrize("name", ["s00000-c1.parquet", "s000000-c01.parquet", "s00000-c01.parquet.x", "s00000.parquet"])
def test_other_names_do_not_parse_as_a_shard(name: str) -> None:
    assert results.parse(name) is None


def test_shard_file_supersedes_its_blocks() -> None:
    names = [
        *(BlockFile(0, block, 1).name for block in range(3)),
        BlockFile(0, 1, 2).name,
        BlockFile(0, 2, 3).name,
        ShardFile(0, 1).name,
        ShardFile(0, 2).name,
        BlockFile(1, 0, 1).name,
        "index.json",
    ]
    files = ResultFiles(reversed(names))
    assert files.names == [BlockFile(0, 2, 3).name, ShardFile(0, 2).name, BlockFile(1, 0, 1).name]
    assert files.of_shard(0) == [ShardFile(0, 2).name, BlockFile(0, 2, 3).name]
    assert files.of_shard(7) == []
    assert sorted(files.superseded) == sorted([*names[:4], ShardFile(0, 1).name])


def test_a_shards_file_is_listed_after_its_blocks() -> None:
    """Who lists in the order of names, as S3 does, misses none while blocks are being replaced."""
    assert ShardFile(3, 1).name > BlockFile(3, 999_999, 99).name


def test_listing_is_repeated_if_a_compaction_interferes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first listing is made to see the folder half way: the block is gone, the shard's file not yet seen."""
    block, whole = BlockFile(0, 0, 1).name, ShardFile(0, 1).name
    for listings in ([[], [whole]], [[block], [], [whole]]):
        seen = iter(listings)
        monkeypatch.setattr(results.Folder, "list", lambda folder, name, suffix, seen=seen: next(seen))
        assert results.listing(str(tmp_path)).names == [whole]


def test_listing_ends_although_rows_are_committed_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = itertools.count(1)
    growing = lambda folder, name, suffix: [BlockFile(0, block, 1).name for block in range(next(count))]  # noqa: E731
    monkeypatch.setattr(results.Folder, "list", growing)
    assert len(results.listing(str(tmp_path)).names) == 2


def test_notes_travel_with_the_rows(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row("a.png"), row("b.png")], schema=RESULT_SCHEMA)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "s00000-c01.parquet").write_bytes(results.encode(table, {"stage_seconds": {"read": 1.5}}))
    assert results.read(str(tmp_path), "s00000-c01.parquet") == (table, {"stage_seconds": {"read": 1.5}})
    assert results.read_notes(str(tmp_path), "s00000-c01.parquet") == {"stage_seconds": {"read": 1.5}}
    columns = results.read_columns(str(tmp_path), "s00000-c01.parquet", ["status", "image_id"])
    assert columns.to_pylist() == [{"status": "ok", "image_id": name} for name in ("a.png", "b.png")]


def test_only_committed_files_are_listed(tmp_path: Path) -> None:
    write_rows(tmp_path, [row("b.png")], shard=1)
    write_rows(tmp_path, [row("a.png")], block=7, attempt=2)
    (tmp_path / "results" / "s00000-b000000-a01.parquet.tmp").write_bytes(b"half a file")
    (tmp_path / "results" / "notes.parquet").write_bytes(b"not ours")
    (tmp_path / "results" / ".DS_Store").write_bytes(b"")
    (tmp_path / "results" / "s00009-b000000-a01.parquet").mkdir()
    assert results.result_files(str(tmp_path)) == ["s00000-b000007-a02.parquet", "s00001-b000000-a01.parquet"]


def test_folder_that_is_no_run_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="no run folder"):
            results.result_files(str(folder))


def test_run_without_results_has_all_columns(tmp_path: Path) -> None:
    write_job(tmp_path, 3)
    names = results.result_files(str(tmp_path))
    assert names == []
    assert results.dataset(str(tmp_path), names).to_table().schema == RESULT_SCHEMA


def test_columns_of_an_all_error_file_keep_their_types(tmp_path: Path) -> None:
    write_rows(tmp_path, [error_row("a.png", "read", "no such file")])
    write_rows(tmp_path, [row("b.png")], block=1)
    rows = results.dataset(str(tmp_path), results.result_files(str(tmp_path))).to_table()
    assert rows.schema == RESULT_SCHEMA
    assert rows["psnr"].to_pylist() == [None, 30.0]


def test_only_small_runs_are_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [write_rows(tmp_path, [row(f"{block}.png")], block=block).name for block in range(3)]
    held = results.rows(str(tmp_path), names)
    assert held is not None and [table["image_id"].to_pylist() for table in held.values()] == [
        ["0.png"],
        ["1.png"],
        ["2.png"],
    ]
    monkeypatch.setattr(results, "IN_MEMORY_FILES", 2)
    assert results.rows(str(tmp_path), names) is None
    assert results.rows(str(tmp_path), names[1:]) is not None
    monkeypatch.setattr(results, "IN_MEMORY_BYTES", 100)
    assert results.rows(str(tmp_path), names[1:]) is None


def test_a_column_that_an_older_version_did_not_write_is_null(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [row("a.png")])
    pq.write_table(pq.read_table(path).drop_columns(["output_uri", "sigma_estimated", "notes"]), path)
    held = results.rows(str(tmp_path), [path.name])
    assert held is not None and held[path.name].schema == RESULT_SCHEMA
    assert held[path.name].equals(results.dataset(str(tmp_path), [path.name]).to_table())
    assert held[path.name].equals(results.read(str(tmp_path), path.name)[0])  # as a compaction reads it
