"""Listing of folders, prefixes and lists: which files, by which ids, and what is refused."""

import os
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.manifest import left_out, listing, shards
from imagewizard.manifest import tally as listing_rows
from imagewizard.manifest.tally import Tally
from imagewizard.schema import MANIFEST_SCHEMA
from imagewizard.sources import tar
from imagewizard.storage import local, s3_listing
from tests.support.listings import examples, touch


def listed(source: str | list[str], tally: Tally | None = None) -> list[dict[str, Any]]:
    tables = list(listing.batches(source, tally or Tally()))
    assert all(table.schema == MANIFEST_SCHEMA for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def ids(source: str | list[str]) -> list[str]:
    return [row["image_id"] for row in listed(source)]


def test_a_folder_is_listed_recursively_by_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "b.PNG", "a.jpg", "deep/er/c.tiff", "notes.txt", "deep/README", "x.jpeg.bak", "ü/é.webp")
    tally = Tally()
    rows = listed(str(tmp_path), tally)
    assert sorted(row["image_id"] for row in rows) == ["a.jpg", "b.PNG", "deep/er/c.tiff", "ü/é.webp"]
    for row in rows:
        assert row["uri"] == f"{tmp_path}/{row['image_id']}"
        assert Path(row["uri"]).read_bytes() == b"x" * row["bytes"]
        assert row["member"] is row["offset"] is row["row"] is None
    assert (tally.images, tally.skipped, tally.bytes) == (4, 3, sum(row["bytes"] for row in rows))
    assert examples(tally) == {left_out.OTHER: ["deep/README", "notes.txt", "x.jpeg.bak"]}
    assert not tally.ids_are_given


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "in"])
def test_a_folder_may_be_given_in_several_forms(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/a/b.png")
    monkeypatch.chdir(tmp_path)
    [row] = listed(form.format(tmp_path / "in"))
    assert row["image_id"] == "a/b.png"
    assert row["uri"].removeprefix("file://") == f"{tmp_path}/in/a/b.png"


def test_links_to_folders_are_not_followed_and_dangling_links_are_kept(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in" / "loop.png").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out" / "b.png")
    rows = listed(str(tmp_path / "in"))
    assert [(row["image_id"], row["bytes"]) for row in rows] == [("a.png", 8), ("gone.png", None), ("link.png", 9)]


def test_name_that_is_not_utf8_is_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.png")).touch()
    tally = Tally()
    assert len(listed(str(tmp_path), tally)) == 1
    assert examples(tally) == {storage.NOT_UTF8: ["'\\udce9.png'"]}


def test_large_folder_is_listed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "PAGE_NAMES", 4)
    monkeypatch.setattr(listing_rows, "BATCH_ROWS", 5)
    names = [f"{folder}/{i}.png" for folder in "ab" for i in range(11)]
    touch(tmp_path, *names)
    tally = Tally()
    assert sorted(row["image_id"] for row in listed(str(tmp_path), tally)) == sorted(names)
    assert tally.bytes == sum(map(len, names))
    assert [table.num_rows for table in listing.batches(str(tmp_path), Tally())] == [5, 5, 5, 5, 2]


def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "closed/b.png")
    scandir = os.scandir

    def refuse(path: str) -> Any:  # permissions do not bind root
        if "closed" in path:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=f"{tmp_path}/closed/ may not be listed"):
        listed(str(tmp_path))


def test_ids_of_a_list_are_relative_to_the_shared_folder(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "x/y/b.png", "x/readme.md", "x/z/c.png", "x/z/w/d.png")
    tally = Tally()
    sources = [f"{tmp_path}/x/{name}" for name in ("y/b.png", "a.png", "gone.png", "readme.md", "z/")]
    rows = listed(sources, tally)
    assert [row["image_id"] for row in rows] == ["y/b.png", "a.png", "gone.png", "z/c.png", "z/w/d.png"]
    assert [row["uri"] for row in rows] == [f"{tmp_path}/x/{row['image_id']}" for row in rows]
    assert tally.skipped == 1
    assert ids([f"{tmp_path}/x/a.png"]) == ["a.png"]
    assert ids([f"{tmp_path}/x/z"]) == ["z/c.png", "z/w/d.png"]
    assert ids([f"{tmp_path}/x/a.png", "s3://bucket/a.png"]) == [f"{tmp_path}/x/a.png", "s3://bucket/a.png"]
    assert ids(["s3://bucket/p/a.png", "s3://bucket/p/q/b.png"]) == ["a.png", "q/b.png"]
    assert ids([]) == []


def test_sources_of_a_list_must_not_overlap(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "x/y/b.png", "xy/c.png")
    x = f"{tmp_path}/x"
    for sources, complaint in (
        ([f"{x}/a.png", f"{x}/a.png"], "twice"),
        ([x, f"{x}/"], "twice"),
        ([f"{x}/y/b.png", x], "lies in"),
        ([f"{x}/a.png", f"{tmp_path}/nowhere"], "nowhere does not exist"),
    ):
        with pytest.raises(UserError, match=complaint):
            listed(sources)
    assert len(ids([x, f"{tmp_path}/xy"])) == 3


def put(bucket: str, *keys: str) -> None:
    for key in keys:
        boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=b"x" * len(key))


def test_an_s3_prefix_is_listed_as_a_folder_is(bucket: str) -> None:
    put(bucket, "in/a.png", "in/deep/b c+%é.JPG", "in/notes.txt", "in/", "in/empty/", "inn/x.png", "x.png")
    tally = Tally()
    rows = sorted(listed(f"{bucket}/in", tally), key=lambda row: row["image_id"])
    assert [row["image_id"] for row in rows] == ["a.png", "deep/b c+%é.JPG"]
    assert [row["uri"] for row in rows] == [f"{bucket}/in/{row['image_id']}" for row in rows]
    assert [row["bytes"] for row in rows] == [8, 18]
    assert examples(tally) == {left_out.OTHER: ["notes.txt"]}
    assert sorted(ids(f"{bucket}/")) == ["in/a.png", "in/deep/b c+%é.JPG", "inn/x.png", "x.png"]
    assert sorted(ids([f"{bucket}/in", f"{bucket}/x.png"])) == ["in/a.png", "in/deep/b c+%é.JPG", "x.png"]


def test_missing_s3_source_is_reported(bucket: str) -> None:
    put(bucket, "in/a.png", "note.txt")
    for source, complaint in (
        (f"{bucket}/nowhere", "nowhere does not exist"),
        (f"{bucket}/i", "does not exist"),
        (f"{bucket}/in/a.png", "single file"),
        ("s3://not-there-at-all/in", "NoSuchBucket"),
        ([f"{bucket}/in", "s3://not-there-at-all/in"], "NoSuchBucket"),
    ):
        with pytest.raises(UserError, match=complaint) as error:
            listed(source)
        assert error.value.key is None and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("a.png", r"is a single file; give its folder, or, in a config, a list"),
        ("a.heic", "a.heic: HEIC images are not read; convert them"),
        ("m.jsonl", "m.jsonl: no image by its suffix; give a folder, a tar shard, Parquet, or a CSV manifest"),
        ("a.zip", "a.zip: archives are not unpacked"),
    ],
)
def test_a_single_file_is_refused_with_what_can_be_given(tmp_path: Path, name: str, complaint: str) -> None:
    touch(tmp_path, name)
    with pytest.raises(UserError, match=complaint):
        listed(f"{tmp_path}/{name}")


def test_the_first_batch_is_enough_for_a_check(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, "in/a.png")
    closed = []

    def endless(uri: str, threads: int) -> Any:
        try:
            while True:
                yield [("in/a.png", 1)] * 1000
        finally:
            closed.append(uri)

    monkeypatch.setattr(s3_listing, "pages", endless)
    shards.check_source(f"{bucket}/in")
    assert closed == [f"{bucket}/in"]


def test_index_of_another_program_is_an_ordinary_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    for text in ('{"images": 3}', "[1]", "no json", '{"blocks": [1]}'):
        (tmp_path / "index.json").write_text(text)
        assert ids(str(tmp_path)) == ["a.png"]


def test_a_manifest_folder_gives_exactly_the_shards_that_its_index_names(tmp_path: Path) -> None:
    touch(tmp_path, *[f"in/{i}.png" for i in range(5)])
    shards.write(str(tmp_path / "run"), str(tmp_path / "in"), 4)
    folder = tmp_path / "run" / "manifest"
    before = listed(str(tmp_path / "in"))
    (folder / "s00001.parquet").write_bytes((folder / "s00000.parquet").read_bytes())
    tally = Tally()
    assert listed(str(folder), tally) == before
    assert (tally.images, tally.skipped) == (5, 0)
    (folder / "s00000.parquet").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"s00000\.parquet is damaged"):
        listed(str(folder))
    (folder / "s00000.parquet").unlink()
    with pytest.raises(UserError, match=r"s00000\.parquet is gone: .*run again"):
        listed(str(folder))


def test_rows_become_tables_of_bounded_size(tmp_path: Path) -> None:
    touch(tmp_path, *[f"{i}/a.png" for i in range(30)])
    assert [table.num_rows for table in listing.batches(str(tmp_path), Tally())] == [30]
    assert isinstance(next(listing.batches(str(tmp_path), Tally())), pa.Table)


def test_skipped_files_are_counted_and_not_held(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", *[f"{i}.txt" for i in range(40)])
    tally = Tally()
    listed(str(tmp_path), tally)
    assert tally.skipped == 40 and len(tally.left_out[left_out.OTHER].examples) == left_out.EXAMPLES


def test_a_source_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9")
    touch(Path(folder), "a.png")
    for source in (folder, [f"{folder}/a.png"]):
        with pytest.raises(UserError, match=r"\\udce9.*the name is not UTF-8; rename it"):
            listed(source)


def test_a_file_whose_id_is_that_of_a_member_is_found(tmp_path: Path) -> None:
    touch(tmp_path, "in/x.tar#1/a.png", "in/other#.png")
    (tmp_path / "in" / "x.tar").write_bytes(tar.pack([("1/a.png", b"member")]))
    with pytest.raises(
        UserError,
        match=r"'x\.tar#1/a\.png' is given more than once, for /.*/in/x\.tar#1/a\.png and 1/a\.png in /.*/in/x\.tar;",
    ):
        shards.write(str(tmp_path / "run"), str(tmp_path / "in"), None)
    touch(tmp_path, "in/x.tar#a.png")
    (tmp_path / "in" / "x.tar").write_bytes(tar.pack([("a.png", b"member")]))
    with pytest.raises(UserError, match="more than once"):
        shards.write(str(tmp_path / "run"), [f"{tmp_path}/in/x.tar", f"{tmp_path}/in/x.tar#a.png"], None)
    (tmp_path / "in" / "x.tar#a.png").unlink()
    (tmp_path / "in" / "x.tar").write_bytes(tar.pack([("2/a.png", b"member")]))
    assert shards.write(str(tmp_path / "run"), str(tmp_path / "in"), None).images == 3


def test_an_order_that_is_the_same_the_next_time(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"in/{number:02}.png" for number in range(40)]
    put(bucket, *keys)
    list_page = s3_listing._list
    monkeypatch.setattr(
        s3_listing, "_list", lambda bucket, prefix, after, n: list_page(bucket, prefix, after, min(n, 3))
    )
    found = listing.batches(f"{bucket}/in", Tally(), in_order=True)
    assert [f"in/{name}" for table in found for name in table["image_id"].to_pylist()] == keys
    for number in range(20):
        (tmp_path / f"{number:02}.tar").write_bytes(tar.pack([(f"{i}.png", b"x") for i in range(3)]))
    found = listing.batches(str(tmp_path), Tally(), in_order=True)
    names = [name for table in found for name in table["image_id"].to_pylist()]
    assert len(names) == 60 and names == sorted(names)


def test_a_limit_ends_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_rows, "BATCH_ROWS", 4)
    monkeypatch.setattr(local, "PAGE_NAMES", 4)
    touch(tmp_path / "in", *[f"{number}/{i}.png" for number in range(9) for i in range(4)], "notes.txt")
    tally = Tally()
    monkeypatch.setattr(shards, "Tally", lambda: tally)
    index = shards.write(str(tmp_path / "run"), str(tmp_path / "in"), None, limit=6)
    assert index.images == 6 and index.filters == {"limit": 6} and index.filtered == 0
    assert tally.images == 8  # it ends with the table that is enough
    found = [
        row["image_id"] for table in listing.batches(f"{tmp_path}/run/manifest", Tally()) for row in table.to_pylist()
    ]
    assert found == [row["image_id"] for row in listed(str(tmp_path / "in"))][:6]
    assert shards.write(str(tmp_path / "all"), str(tmp_path / "in"), None, limit=99).images == 36
