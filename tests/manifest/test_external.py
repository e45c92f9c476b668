"""Manifests that people make: what is taken from them, and what is refused."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewizard.errors import UserError
from imagewizard.manifest import external, listing
from imagewizard.manifest.tally import Tally
from imagewizard.schema import MANIFEST_SCHEMA
from imagewizard.sources import parquet


def read(path: Path, table: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    pq.write_table(pa.table(table), path / "m.parquet", **options)
    with parquet.open_file(str(path / "m.parquet")) as file:
        tables = list(external.tables(file))
    assert all(table.schema == MANIFEST_SCHEMA for table in tables)
    return [row for table in tables for row in table.to_pylist()]


NOTHING = {"bytes": None, "member": None, "offset": None, "row": None}


def test_other_columns_are_left_out_and_missing_ones_are_null(tmp_path: Path) -> None:
    found = read(tmp_path, {"other": [1.0, 2.0], "uri": ["s3://b/2.png", "/x/1.png"], "image_id": ["2", "1"]})
    assert found == [{"image_id": "2", "uri": "s3://b/2.png"} | NOTHING, {"image_id": "1", "uri": "/x/1.png"} | NOTHING]


def test_all_columns_are_cast_to_the_manifest_schema(tmp_path: Path) -> None:
    table = {
        "image_id": pa.array(["a", "b"], pa.large_string()),
        "uri": pa.array(["/a.tar", "/b.parquet"], pa.string_view()),
        "bytes": pa.array([7, None], pa.uint32()),
        "member": ["x.png", None],
        "offset": pa.array([512, None], pa.int16()),
        "row": [None, 3],
    }
    assert read(tmp_path, table) == [
        {"image_id": "a", "uri": "/a.tar", "bytes": 7, "member": "x.png", "offset": 512, "row": None},
        {"image_id": "b", "uri": "/b.parquet", "bytes": None, "member": None, "offset": None, "row": 3},
    ]


def test_relative_uris_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    uris = ["a.png", "b/c.png", "/d.png", "s3://b/e.png", "~/f.png", "file:///g.png"]
    found = [row["uri"] for row in read(tmp_path, {"image_id": list("abcdef"), "uri": uris})]
    local = str(tmp_path)
    assert found == [f"{local}/a.png", f"{local}/b/c.png", "/d.png", "s3://b/e.png", "/home/me/f.png", "file:///g.png"]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"image_id": ["a", None], "uri": ["x", "y"]}, "column image_id is null in row 1"),
        ({"image_id": ["a"] * 5, "uri": [*"wxyz", None]}, "column uri is null in row 4"),
        ({"image_id": ["a"]}, "no column uri"),
        ({"uri": ["a"]}, "no column image_id"),
        ({"image_id": [1], "uri": ["x"]}, "column image_id is int64; it must hold text"),
        ({"image_id": ["a"], "uri": [b"x"]}, "column uri is binary; it must hold text"),
        ({"image_id": [*"abc"], "uri": ["x", "s3://b/y", "https://h/z"]}, "uri 'https://h/z': https:// cannot be read"),
        ({"image_id": ["a"], "uri": ["x"], "bytes": ["7"]}, "column bytes is string; it must hold whole numbers"),
        ({"image_id": ["a"], "uri": ["x"], "member": [7]}, "column member is int64; it must hold text"),
        ({"image_id": ["a"], "uri": ["x"], "row": [0.5]}, "column row is double; it must hold whole numbers"),
    ],
)
def test_wrong_columns_and_values_are_refused(
    tmp_path: Path, table: dict, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "LISTED_ROWS", 2)
    with pytest.raises(UserError, match=complaint):
        read(tmp_path, table)


def test_a_file_with_images_is_no_manifest(tmp_path: Path) -> None:
    assert external.is_one(pa.schema([("image_id", pa.string()), ("uri", pa.string()), ("sha", pa.binary())]))
    assert not external.is_one(pa.schema([("image_id", pa.string()), ("uri", pa.string()), ("image", pa.binary())]))
    assert not external.is_one(pa.schema([("image_id", pa.string())]))


def test_error_for_a_damaged_manifest_names_it(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    table = pa.table({"image_id": [f"{i:03d}" for i in range(100)], "uri": ["x"] * 100})
    pq.write_table(table, path, row_group_size=50)
    with pq.ParquetFile(path) as file:
        start = file.metadata.row_group(1).column(0).dictionary_page_offset
    with path.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\xff" * 30)
    with pytest.raises(UserError, match=f"^{path} cannot be read"):
        list(listing.batches(str(path), Tally()))
