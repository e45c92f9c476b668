"""A run's manifest: shards, blocks, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewizard.errors import RunLockedError, UserError
from imagewizard.manifest import index as manifest_index
from imagewizard.manifest import listing, shards
from imagewizard.manifest.left_out import LeftOut
from imagewizard.manifest.tally import Tally
from imagewizard.schema import MANIFEST_SCHEMA
from imagewizard.sources import tar
from imagewizard.storage import Folder


def rows_of(run: Path) -> list[dict]:
    index = shards.read_index(str(run))
    assert index is not None
    return [row for shard in range(len(index.blocks)) for row in shards.read_shard(str(run), shard).to_pylist()]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))


def listed(source: str | list[str]) -> list[dict]:
    return [row for table in listing.batches(source, Tally()) for row in table.to_pylist()]


def test_manifest_holds_the_listed_images(tmp_path: Path) -> None:
    touch(tmp_path / "in", "b.PNG", "a.jpg", "deep/er/c.tiff", "notes.txt")
    index = shards.write(str(tmp_path / "run"), str(tmp_path / "in"), None)
    assert rows_of(tmp_path / "run") == listed(str(tmp_path / "in"))
    assert (index.images, index.skipped, index.filtered, index.bytes) == (3, 1, 0, 24)
    assert index.source == str(tmp_path / "in")
    assert index == shards.read_index(str(tmp_path / "run"))
    assert shards.read_shard(str(tmp_path / "run"), 0).schema == MANIFEST_SCHEMA


def test_manifest_on_s3_equals_one_on_disk(tmp_path: Path, bucket: str) -> None:
    touch(tmp_path / "in", "a.png", "b.png")
    shards.write(f"{bucket}/run", str(tmp_path / "in"), None)
    assert shards.read_shard(f"{bucket}/run", 0).to_pylist() == listed(str(tmp_path / "in"))
    shards.write(str(tmp_path / "run"), f"{bucket}/run/manifest", None)
    assert rows_of(tmp_path / "run") == listed(str(tmp_path / "in"))


def test_the_index_of_a_run_may_be_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds each path of a list that was the source. Without it a resume would list anew."""
    index = manifest_index.ManifestIndex(2, 0, 1, [2], source=["a" * 100, "b" * 100])
    manifest_index.write(Folder(f"{tmp_path}/manifest"), index)
    monkeypatch.setattr(manifest_index, "MAX_BYTES", 100)
    assert shards.read_index(str(tmp_path)) == index
    assert manifest_index.read(f"{tmp_path}/manifest") is None


def test_repeated_ids_are_refused_and_no_shard_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 10)
    for name, first in (("a", 0), ("b", 24)):
        ids = [f"{i}.png" for i in range(first, first + 25)]
        uris = [f"/{name}/{image_id}" for image_id in ids]
        pq.write_table(pa.table({"image_id": ids, "uri": uris}), tmp_path / f"{name}.parquet")
    twice = r"'24\.png' is given more than once, for /a/24\.png and /b/24\.png; "
    with pytest.raises(UserError, match=twice) as error:
        shards.write(str(tmp_path / "run"), [f"{tmp_path}/a.parquet", f"{tmp_path}/b.parquet"], None)
    assert "\n" not in str(error.value)
    assert shards.read_index(str(tmp_path / "run")) is None
    assert list((tmp_path / "run" / "manifest").iterdir()) == []
    assert shards.write(str(tmp_path / "run"), f"{tmp_path}/a.parquet", None).images == 25


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"image_id": ["a", "a"], "uri": ["/y", "/x"]}, "'a' is given more than once, for /x and /y;"),
        ({"image_id": [1, 1], "uri": ["/x", "/x"]}, "'1' is given more than once, for /x both times;"),
        ({"image_id": ["a", None], "uri": ["x", "y"]}, "image_id is null in row 1"),
        ({"image_id": ["a"]}, "no column uri"),
        ({"image_id": [1.5], "uri": ["x"]}, "image_id is double; it must hold text or whole numbers"),
        ({"image_id": pa.array([], pa.string()), "uri": pa.array([], pa.string())}, "holds no image"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_line(tmp_path: Path, table: dict, complaint: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    with pytest.raises(UserError, match=complaint) as error:
        shards.check_source(str(tmp_path / "m.parquet"))
    assert "\n" not in str(error.value)


def test_missing_empty_and_single_inputs_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "in/notes.txt", "a.png", "broken.parquet")
    for source, complaint in (
        (str(tmp_path / "nowhere"), "does not exist"),
        (str(tmp_path / "in"), r"holds no image, but left out 1: no image by its suffix \(notes.txt\);"),
        (str(tmp_path / "a.png"), "is a single file"),
        (str(tmp_path / "broken.parquet"), "no readable Parquet"),
        ([str(tmp_path / "a.png"), str(tmp_path / "a.png")], "twice"),
        ([], "holds no image"),
    ):
        with pytest.raises(UserError, match=complaint):
            shards.check_source(source)
    with pytest.raises(UserError, match="no image to list"):
        shards.write(str(tmp_path / "run"), str(tmp_path / "in"), None)
    assert shards.read_index(str(tmp_path / "run")) is None


def test_driver_that_lost_the_lease_writes_no_index(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    calls = []

    def check() -> None:
        calls.append(None)
        if len(calls) == 2:  # before the index, after the one shard
            raise RunLockedError("lost")

    with pytest.raises(RunLockedError):
        shards.write(str(tmp_path / "run"), str(tmp_path / "in"), None, check)
    assert shards.read_index(str(tmp_path / "run")) is None


def shard(*sizes: int | None, **columns: list) -> pa.Table:
    nothing = [None] * len(sizes)
    values = {"image_id": ["i"] * len(sizes), "uri": ["u"] * len(sizes), "bytes": sizes, "member": nothing}
    return pa.table(values | {"offset": nothing, "row": nothing} | columns, schema=MANIFEST_SCHEMA)


def test_blocks_are_bounded_in_rows_and_bytes() -> None:
    assert shards.blocks(shard(*[1] * 10), 4) == [(0, 4), (4, 8), (8, 10)]
    half = shards.BLOCK_BYTES // 2
    assert shards.blocks(shard(half, half, 1, half), 4) == [(0, 2), (2, 4)]
    assert shards.blocks(shard(10 * half, 1), 4) == [(0, 1), (1, 2)]  # a giant travels alone
    assert shards.blocks(shard(*[None] * 70), 100) == [(0, 64), (64, 70)]  # unknown: taken for a megabyte


def test_a_block_has_images_of_one_packed_file() -> None:
    uris = ["f", "g", "a", "a", "b", "b", "b", "c", "h", "i"]
    members = [None, None, "m", "n", "m", None, None, None, None, None]
    rows = [None, None, None, None, None, 0, 1, 0, None, None]
    table = shard(*[1] * 10, uri=uris, member=members, row=rows)
    assert shards.blocks(table, 100) == [(0, 2), (2, 4), (4, 7), (7, 8), (8, 10)]
    assert shards.blocks(table, 2) == [(0, 2), (2, 4), (4, 6), (6, 7), (7, 8), (8, 10)]


def test_large_listings_are_cut_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 10)
    touch(tmp_path / "in", *[f"{folder}/{i}.png" for folder in "abc" for i in range(9)])
    index = shards.write(str(tmp_path / "run"), str(tmp_path / "in"), 4)
    assert index.images == 27
    assert index.blocks == [3, 3, 2]
    assert len({row["image_id"] for row in rows_of(tmp_path / "run")}) == 27


def test_many_small_tables_make_full_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 10)
    writer = shards.ShardWriter(Folder(str(tmp_path)), block_rows=4, generation=2)
    tables = (shard(*[number] * rows) for number, rows in enumerate([3, 0, 9, 25, 1, 1, 1]))
    for table in tables:
        writer.add(table)
    left_out = {"a": LeftOut(2, ["x", "y"]), "b": LeftOut(1, ["z"])}
    index = writer.finish(Tally(images=45, filtered=5, left_out=left_out), source="in", listed_at="now")
    assert index.left_out == {"a": {"files": 2, "examples": ["x", "y"]}, "b": {"files": 1, "examples": ["z"]}}
    assert (index.images, index.filtered, index.skipped, index.bytes) == (40, 5, 3, 2 * 9 + 3 * 25 + 4 + 5 + 6)
    assert index.blocks == [3, 3, 3, 3] and index.shards[0] == "s00000-g2.parquet"
    assert manifest_index.read(str(tmp_path)) == index
    found = [pq.read_table(tmp_path / name) for name in index.shards]
    assert [table.num_rows for table in found] == [10, 10, 10, 10]
    values = [value for table in found for value in table["bytes"].to_pylist()]
    assert values == [0] * 3 + [2] * 9 + [3] * 25 + [4, 5, 6]


def test_a_small_job_is_cut_finely_enough_for_every_actor(tmp_path: Path) -> None:
    touch(tmp_path / "in", *[f"{i}.png" for i in range(40)])
    assert shards.write(str(tmp_path / "run"), str(tmp_path / "in"), None).block_rows == 2


def test_the_index_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shards.read_index(str(tmp_path)) is None
    touch(tmp_path / "in", "a.png")
    written = []
    write = Folder.write
    monkeypatch.setattr(Folder, "write", lambda self, name, data: written.append(name) or write(self, name, data))
    shards.write(str(tmp_path / "run"), str(tmp_path / "in"), None)
    assert written == ["s00000.parquet", "index.json"]


def test_an_interrupted_listing_has_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(source: str, tally: Tally, **options: Any) -> Iterator[pa.Table]:
        yield shard(*[1] * 30)
        raise OSError("the server is gone")

    monkeypatch.setattr(shards, "SHARD_ROWS", 10)
    monkeypatch.setattr(listing, "batches", broken)
    with pytest.raises(OSError, match="the server is gone"):
        shards.write(str(tmp_path / "run"), "in", None)
    assert len(list((tmp_path / "run" / "manifest").iterdir())) == 3
    assert shards.read_index(str(tmp_path / "run")) is None


def test_packed_images_keep_their_place(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar").write_bytes(tar.pack([("x.png", b"123"), ("y.png", b"45")]))
    pq.write_table(pa.table({"image": [b"6"]}), tmp_path / "in" / "b.parquet")
    index = shards.write(str(tmp_path / "run"), str(tmp_path / "in"), 64)
    assert index.blocks == [2]
    rows = {row["image_id"]: (row["member"], row["offset"], row["row"]) for row in rows_of(tmp_path / "run")}
    assert rows == {
        "a.tar#x.png": ("x.png", 512, None), "a.tar#y.png": ("y.png", 1536, None), "b.parquet#0": (None, None, 0)
    }  # fmt: skip
