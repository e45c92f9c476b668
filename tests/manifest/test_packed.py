"""Images in tar shards and Parquet files are listed with their place, and bad shards are rows, not ends."""

import gzip
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewizard.errors import UserError
from imagewizard.manifest import left_out, listing
from imagewizard.manifest.tally import Tally
from imagewizard.sources import parquet as parquet_images
from imagewizard.sources import tar as tar_shards


def listed(source: str | list[str], tally: Tally | None = None) -> list[dict[str, Any]]:
    tables = listing.batches(source, tally or Tally())
    return sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row["image_id"])


def contents(rows: list[dict[str, Any]]) -> list[bytes | OSError]:
    return [
        tar_shards.read(row["uri"], [(row["offset"], row["bytes"])])[0]
        if row["member"] is not None
        else parquet_images.RowReader().read(row["uri"], [row["row"]])[0]
        for row in rows
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tar of two images, and a Parquet file of three, one of which is null, in folders."""
    (tmp_path / "in" / "tars").mkdir(parents=True)
    data = tar_shards.pack([("x/0.png", b"zero"), ("x/0.txt", b"a zero"), ("x/1.png", b"one")])
    (tmp_path / "in" / "tars" / "a.TAR").write_bytes(data)
    pq.write_table(pa.table({"image": [b"p0", None, b"p2"]}), tmp_path / "in" / "b.parquet")
    (tmp_path / "in" / "c.png").write_bytes(b"file")
    (tmp_path / "in" / "d.tar.gz").write_bytes(b"compressed")
    pq.write_table(pa.table({"name": ["x"], "label": [1]}), tmp_path / "in" / "labels.parquet")
    return tmp_path / "in"


def check(rows: list[dict[str, Any]], root: str, tally: Tally) -> None:
    assert [row["image_id"] for row in rows] == [
        "b.parquet#0", "b.parquet#1", "b.parquet#2", "c.png", "tars/a.TAR#x/0.png", "tars/a.TAR#x/1.png",
    ]  # fmt: skip
    assert [row["uri"] for row in rows] == [f"{root}/{row['image_id'].partition('#')[0]}" for row in rows]
    assert [row["row"] for row in rows] == [0, 1, 2, None, None, None]
    assert [row["member"] for row in rows] == [None] * 4 + ["x/0.png", "x/1.png"]
    assert contents(rows[4:]) == [b"zero", b"one"]
    p0, null, p2 = contents(rows[:3])
    assert (p0, p2) == (b"p0", b"p2") and isinstance(null, OSError)
    assert tally.skipped == 3
    assert {reason: each.examples for reason, each in tally.left_out.items()} == {
        left_out.ARCHIVE: ["d.tar.gz"],
        left_out.NO_IMAGES: ["labels.parquet"],
        left_out.OTHER: ["tars/a.TAR#x/0.txt"],
    }
    assert not tally.ids_are_given


def test_packed_files_in_a_folder(folder: Path) -> None:
    tally = Tally()
    check(listed(str(folder), tally), str(folder), tally)


def test_packed_files_below_an_s3_prefix(folder: Path, bucket: str) -> None:
    for path in folder.rglob("*.*"):
        key = f"in/{path.relative_to(folder).as_posix()}"
        boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=path.read_bytes())
    tally = Tally()
    check(listed(f"{bucket}/in", tally), f"{bucket}/in", tally)
    [row] = [row for row in listed(f"{bucket}/in/tars/a.TAR") if row["member"] == "x/1.png"]
    assert row["image_id"] == "a.TAR#x/1.png" and contents([row]) == [b"one"]


def test_a_single_packed_file_and_a_list_of_them(folder: Path) -> None:
    tar, parquet = f"{folder}/tars/a.TAR", f"{folder}/b.parquet"
    assert [row["image_id"] for row in listed(tar)] == ["a.TAR#x/0.png", "a.TAR#x/1.png"]
    assert [row["image_id"] for row in listed(parquet)] == [f"b.parquet#{i}" for i in range(3)]
    assert [row["image_id"] for row in listed([tar])] == ["a.TAR#x/0.png", "a.TAR#x/1.png"]
    both = [row["image_id"] for row in listed([tar, parquet])]
    assert both == ["b.parquet#0", "b.parquet#1", "b.parquet#2", "tars/a.TAR#x/0.png", "tars/a.TAR#x/1.png"]


def test_a_parquet_file_with_ids_keeps_them(folder: Path) -> None:
    table = pa.table({"image_id": ["one", "two"], "uri": ["elsewhere", "elsewhere"], "image": [b"1", b"2"]})
    pq.write_table(table, folder / "b.parquet")
    tally = Tally()
    rows = [row for row in listed(str(folder), tally) if row["row"] is not None]
    assert [(row["image_id"], row["uri"], row["row"]) for row in rows] == [
        ("one", f"{folder}/b.parquet", 0),
        ("two", f"{folder}/b.parquet", 1),
    ]
    assert tally.ids_are_given


def test_a_manifest_in_a_folder_is_one(folder: Path) -> None:
    table = pa.table({"image_id": ["m"], "uri": ["s3://b/x.tar"], "member": ["x.png"], "offset": [512], "bytes": [3]})
    pq.write_table(table, folder / "b.parquet")
    tally = Tally()
    [row] = [row for row in listed(str(folder), tally) if row["image_id"] == "m"]
    expected = {"uri": "s3://b/x.tar", "member": "x.png", "offset": 512, "bytes": 3, "row": None}
    assert row == {"image_id": "m"} | expected
    assert tally.ids_are_given


def test_repeated_member_name_gets_an_id_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_shards.pack([("x.png", b"old"), ("x.png", b"new"), ("x.png", b"newer")]))
    rows = listed(str(tmp_path))
    assert len({row["image_id"] for row in rows}) == 3
    assert rows[0]["image_id"] == "a.tar#x.png"
    assert sorted(contents(rows)) == [b"new", b"newer", b"old"]


def test_damaged_shard_becomes_a_row_and_costs_no_other_shard(folder: Path) -> None:
    data = bytearray(tar_shards.pack([(f"{i}.png", b"x" * 600) for i in range(4)]))
    data[3072 : 3072 + 20] = b"\xff" * 20
    (folder / "damaged.tar").write_bytes(data)
    (folder / "empty.tar").touch()
    (folder / "empty.parquet").touch()
    (folder / "gone.tar").symlink_to("/nowhere.tar")
    rows = listed(str(folder))
    bad = {row["image_id"].partition("#")[0]: row for row in rows if row["member"] and row["offset"] is None}
    assert sorted(bad) == ["damaged.tar", "empty.parquet", "empty.tar", "gone.tar"]
    assert bad["damaged.tar"]["image_id"] == "damaged.tar#<damaged at byte 3072>"
    assert bad["empty.tar"]["member"] == "<damaged at byte 0>"
    assert bad["empty.parquet"]["image_id"].startswith("empty.parquet#<unreadable: ")
    assert all(isinstance(content, OSError) for content in contents(list(bad.values())))
    assert len(rows) == 6 + 2 + 4


def test_many_shards_are_listed_at_once(tmp_path: Path) -> None:
    for i in range(50):
        (tmp_path / f"{i}.tar").write_bytes(tar_shards.pack([(f"{j}.png", b"x") for j in range(3)]))
    assert len({row["image_id"] for row in listed(str(tmp_path))}) == 150


def compressed() -> bytes:
    return gzip.compress(tar_shards.pack([("a.png", b"")]), mtime=0)  # part of a test's name, which has to last


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.tar", b"", "is no tar: empty file"),
        ("a.tar", compressed(), "is no tar"),
        ("a.tar.gz", compressed(), "compressed.*store it as plain .tar"),
        ("a.tgz", compressed(), "compressed"),
        ("a.parquet", b"", "no readable Parquet file"),
        ("a.parquet", {"name": ["x"]}, "no column of images"),
        ("a.parquet", {"image": [[1, 2]]}, "column image is list<.*; it must hold"),
        ("a.parquet", {"x": [b"1"], "y": [b"2"]}, "any of its columns x, y"),
        ("a.parquet", {"image_id": [1.5], "image": [b"2"]}, "column image_id is double; .* text or whole numbers"),
    ],
)
def test_source_with_the_wrong_contents_is_refused(
    tmp_path: Path, name: str, content: bytes | dict, complaint: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        pq.write_table(pa.table(content), tmp_path / name)
    with pytest.raises(UserError, match=complaint) as error:
        listed(str(tmp_path / name))
    assert str(error.value).startswith(f"{tmp_path}/{name}") and "\n" not in str(error.value)


def test_a_wrong_image_column_is_refused_in_a_folder_too(folder: Path) -> None:
    pq.write_table(pa.table({"image": ["text"]}), folder / "b.parquet")
    with pytest.raises(UserError, match=rf"^{folder}/b\.parquet: its column image is string"):
        listed(str(folder))


def test_links_in_a_tar_are_images_and_what_macos_leaves_is_none(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w:") as shard:
        for name, kind, target in (
            ("dir.png", tarfile.DIRTYPE, ""),
            ("dir.png/a.png", tarfile.REGTYPE, ""),
            ("hard.png", tarfile.LNKTYPE, "dir.png/a.png"),
            ("sym.png", tarfile.SYMTYPE, "dir.png/a.png"),
            ("loop.png", tarfile.SYMTYPE, "loop.png"),
            ("out.png", tarfile.SYMTYPE, "../../etc/passwd"),
            ("._a.png", tarfile.REGTYPE, ""),
            ("._b.png", tarfile.LNKTYPE, "dir.png/a.png"),
            ("../../evil.png", tarfile.REGTYPE, ""),
            ("/abs.png", tarfile.REGTYPE, ""),
            ("fifo.png", tarfile.FIFOTYPE, ""),
            ("notes", tarfile.SYMTYPE, "dir.png/a.png"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(name) if kind == tarfile.REGTYPE else 0
            shard.addfile(info, io.BytesIO(name.encode()))
    tally = Tally()
    rows = listed(str(tmp_path), tally)
    found = {row["member"]: content for row, content in zip(rows, contents(rows), strict=True)}
    assert found == {name: name.encode() for name in ("dir.png/a.png", "../../evil.png", "/abs.png")} | {
        "hard.png": b"dir.png/a.png",
        "sym.png": b"dir.png/a.png",
    }
    assert {reason: each.examples for reason, each in tally.left_out.items()} == {
        left_out.why("._a.png"): ["odd.tar#._a.png", "odd.tar#._b.png"],
        tar_shards.NO_FILE: ["odd.tar#fifo.png"],
        tar_shards.NO_TARGET: ["odd.tar#loop.png", "odd.tar#out.png"],
        left_out.OTHER: ["odd.tar#notes"],
    }


def test_a_file_that_tar_was_given_twice_is_one_image(tmp_path: Path) -> None:
    """GNU tar stores the others as hard links of the name to itself."""
    (tmp_path / "a.png").write_bytes(b"data")
    subprocess.run(["tar", "-cf", "s.tar", "a.png", "a.png", "a.png"], cwd=tmp_path, check=True)
    with tarfile.open(tmp_path / "s.tar") as shard:
        assert [(each.name, each.islnk()) for each in shard] == [("a.png", False), ("a.png", True), ("a.png", True)]
    assert [row["image_id"] for row in listed(f"{tmp_path}/s.tar")] == ["s.tar#a.png"]
