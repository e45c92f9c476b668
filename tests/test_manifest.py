"""A run's manifest: ids, shards, blocks, and what is refused."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewizard import manifest
from imagewizard.errors import UserError


def listing(run: Path) -> list[dict]:
    index = manifest.read_index(str(run))
    assert index is not None
    return [row for shard in range(len(index.blocks)) for row in manifest.read_shard(str(run), shard).to_pylist()]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))


def test_a_folder_is_listed_recursively_by_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "in", "b.PNG", "a.jpg", "deep/er/c.tiff", "notes.txt", "deep/README", "x.jpeg.bak", "ü/é.webp")
    index = manifest.write(str(tmp_path / "run"), str(tmp_path / "in"), None)
    rows = listing(tmp_path / "run")
    assert sorted(row["image_id"] for row in rows) == ["a.jpg", "b.PNG", "deep/er/c.tiff", "ü/é.webp"]
    assert (index.images, index.skipped) == (4, 3)
    for row in rows:
        assert Path(row["uri"]).read_bytes() == b"x" * row["bytes"]
        assert Path(row["uri"]) == tmp_path / "in" / row["image_id"]


def test_links_to_folders_are_not_followed_and_dangling_links_are_kept(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.png")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    manifest.write(str(tmp_path / "run"), str(tmp_path / "in"), None)
    assert [row["image_id"] for row in listing(tmp_path / "run")] == ["a.png", "gone.png"]


def test_a_list_of_files_is_named_below_the_folder_they_share(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "x/y/b.png", "x/readme.md")
    files = [str(tmp_path / name) for name in ("x/y/b.png", "x/a.png", "x/readme.md")]
    index = manifest.write(str(tmp_path / "run"), files, None)
    assert [row["image_id"] for row in listing(tmp_path / "run")] == ["y/b.png", "a.png"]
    assert index.skipped == 1


def test_a_list_may_hold_one_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    manifest.write(str(tmp_path / "run"), [str(tmp_path / "a.png")], None)
    assert [row["image_id"] for row in listing(tmp_path / "run")] == ["a.png"]


def test_a_parquet_manifest_is_taken_as_it_is(tmp_path: Path) -> None:
    table = pa.table({"image_id": ["2", "1"], "uri": ["s3://b/2.png", "/x/1.png"], "other": [1.0, 2.0]})
    pq.write_table(table, tmp_path / "m.parquet")
    manifest.write(str(tmp_path / "run"), str(tmp_path / "m.parquet"), None)
    assert listing(tmp_path / "run") == [
        {"image_id": "2", "uri": "s3://b/2.png", "bytes": None},
        {"image_id": "1", "uri": "/x/1.png", "bytes": None},
    ]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"image_id": ["a", "a"], "uri": ["x", "y"]}, "'a' more than once"),
        ({"image_id": ["a", None], "uri": ["x", "y"]}, "image_id has 1 nulls"),
        ({"image_id": ["a"]}, "no column uri"),
        ({"image_id": [1], "uri": ["x"]}, "image_id is int64"),
        ({"image_id": pa.array([], pa.string()), "uri": pa.array([], pa.string())}, "holds no image"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_line(tmp_path: Path, table: dict, complaint: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    with pytest.raises(UserError, match=complaint) as error:
        manifest.check_source(str(tmp_path / "m.parquet"))
    assert "\n" not in str(error.value)


def test_missing_empty_and_single_inputs_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "in/notes.txt", "a.png", "broken.parquet")
    for source, complaint in (
        (str(tmp_path / "nowhere"), "does not exist"),
        (str(tmp_path / "in"), "holds no image"),
        (str(tmp_path / "a.png"), "is a single file"),
        (str(tmp_path / "broken.parquet"), "no readable Parquet"),
        ([str(tmp_path / "a.png"), str(tmp_path / "a.png")], "twice"),
        ([], "holds no image"),
    ):
        with pytest.raises(UserError, match=complaint):
            manifest.check_source(source)


def test_blocks_are_bounded_in_rows_and_bytes() -> None:
    def shard(*sizes: int | None) -> pa.Table:
        return pa.table({"bytes": pa.array(sizes, pa.int64())})

    assert manifest.blocks(shard(*[1] * 10), 4) == [(0, 4), (4, 8), (8, 10)]
    half = manifest.BLOCK_BYTES // 2
    assert manifest.blocks(shard(half, half, 1, half), 4) == [(0, 2), (2, 4)]
    assert manifest.blocks(shard(10 * half, 1), 4) == [(0, 1), (1, 2)]  # a giant travels alone
    assert manifest.blocks(shard(*[None] * 70), 100) == [(0, 64), (64, 70)]  # unknown: taken for a megabyte


def test_large_listings_are_cut_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SHARD_ROWS", 10)
    touch(tmp_path / "in", *[f"{folder}/{i}.png" for folder in "abc" for i in range(9)])
    index = manifest.write(str(tmp_path / "run"), str(tmp_path / "in"), 4)
    assert index.images == 27
    assert index.blocks == [3, 3, 2]
    assert len({row["image_id"] for row in listing(tmp_path / "run")}) == 27


def test_a_small_job_is_cut_finely_enough_for_every_actor(tmp_path: Path) -> None:
    touch(tmp_path / "in", *[f"{i}.png" for i in range(40)])
    assert manifest.write(str(tmp_path / "run"), str(tmp_path / "in"), None).block_rows == 2


def test_an_unfinished_listing_has_no_index(tmp_path: Path) -> None:
    assert manifest.read_index(str(tmp_path)) is None
