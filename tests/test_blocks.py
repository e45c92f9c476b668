"""Blocks keep their images through packing, and what is pending is what no committed file holds."""

from pathlib import Path

import pyarrow as pa
import pytest

from imagewizard import blocks, manifest
from imagewizard.results import BlockFile
from tests import run_folders


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run of ten images in blocks of four."""
    for i in range(10):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{i}.png").touch()
    manifest.write(str(tmp_path / "run"), str(tmp_path / "in"), 4)
    return str(tmp_path / "run")


def pending(run: str, *files: str, retry: bool = False, sigmas: tuple = (25.0,)) -> dict[str, list[tuple]]:
    found = blocks.pending(run, blocks.Piece(0, 0, 3, list(files)), list(sigmas), 4, retry)
    return {b.name: [(row["image_id"], row["sigmas"]) for row in table.to_pylist()] for b, table in found}


def test_a_block_comes_out_of_packing_as_it_went_in() -> None:
    table = pa.table({"a": ["x", None], "data": pa.array([b"12", None], pa.large_binary())})
    block, unpacked = blocks.unpack(blocks.pack(BlockFile(3, 14, 2), table))
    assert block == BlockFile(3, 14, 2)
    assert unpacked.equals(table)


def test_all_blocks_of_a_new_run_are_pending(run: str) -> None:
    found = pending(run, sigmas=(15.0, 25.0))
    assert list(found) == [BlockFile(0, i, 1).name for i in range(3)]
    assert [row[0] for rows in found.values() for row in rows] == [f"{i}.png" for i in range(10)]
    assert all(row[1] == [15.0, 25.0] for rows in found.values() for row in rows)


def test_committed_blocks_are_not_pending(run: str) -> None:
    assert list(pending(run, BlockFile(0, 1, 1).name)) == [BlockFile(0, 0, 1).name, BlockFile(0, 2, 1).name]


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
    assert pending(run, first.name)[BlockFile(0, 1, 1).name]
    assert BlockFile(0, 0, 2).name not in pending(run, first.name)
    found = pending(run, first.name, retry=True)
    assert found[BlockFile(0, 0, 2).name] == [("0.png", [25.0]), ("1.png", [15.0, 25.0])]
    second = run_folders.write_rows(
        Path(run),
        [row("0.png", sigma=25.0), row("1.png", sigma=15.0), error_row("1.png", "read", "x", sigma=25.0)],
        attempt=2,
    )
    found = pending(run, first.name, second.name, retry=True)
    assert found[BlockFile(0, 0, 3).name] == [("1.png", [25.0])]


def test_a_level_to_be_estimated_is_null_and_can_be_retried(run: str) -> None:
    assert pending(run, sigmas=(None,))[BlockFile(0, 0, 1).name][0] == ("0.png", [None])
    file = run_folders.write_rows(Path(run), [run_folders.error_row("0.png", "read", "x", sigma=None)])
    assert pending(run, file.name, retry=True, sigmas=(None,))[BlockFile(0, 0, 2).name] == [("0.png", [None])]


def test_pieces_cover_what_is_left_and_no_more() -> None:
    names = [BlockFile(*key).name for key in ((0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 0, 2))]
    left = blocks.pieces([2, 2, 1], [*names, "notes.parquet"], retry_failed=False)
    assert left == [blocks.Piece(1, 1, 2, []), blocks.Piece(2, 0, 1, [])]
    every = blocks.pieces([2, 2, 1], names, retry_failed=True)
    assert [(piece.shard, piece.first, piece.files) for piece in every] == [
        (0, 0, names[:1]), (0, 1, names[1:2]), (1, 0, names[2:]), (1, 1, []), (2, 0, []),
    ]  # fmt: skip


def test_pieces_of_a_large_job_hold_several_blocks() -> None:
    counts = [1024] * 15
    found = blocks.pieces(counts, [BlockFile(3, 17, 1).name], retry_failed=False)
    assert len(found) <= blocks.MAX_PIECES + len(counts)
    covered = [(piece.shard, block) for piece in found for block in range(piece.first, piece.last)]
    assert covered == [(shard, block) for shard in range(15) for block in range(1024)]
    assert [piece.files for piece in found if piece.shard == 3 and piece.first <= 17 < piece.last] == [
        [BlockFile(3, 17, 1).name]
    ]
