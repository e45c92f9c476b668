"""Manifests that people make: what is taken from them, and what is refused."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewizard.errors import UserError
from imagewizard.manifest import external, listing, shards
from imagewizard.manifest.tally import Tally
from imagewizard.schema import LEVEL_FIELD, MANIFEST_SCHEMA
from imagewizard.sources import parquet, reading, tar
from imagewizard.sources.reading import ImageReader


def read(path: Path, table: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    pq.write_table(pa.table(table), path / "m.parquet", **options)
    with parquet.open_file(str(path / "m.parquet")) as file:
        tables = list(external.tables(file.schema_arrow, external.batches(file)))
    assert all(table.schema == MANIFEST_SCHEMA for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def listed(source: str) -> list[dict[str, Any]]:
    return [row for table in listing.batches(source, Tally()) for row in table.to_pylist()]


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


def levels(source: str | list[str], column: str = "std") -> list[str | None]:
    tables = list(listing.batches(source, Tally(), level_column=column))
    assert all(table.schema.equals(MANIFEST_SCHEMA.append(LEVEL_FIELD)) for table in tables)
    return [level for table in tables for level in table[LEVEL_FIELD.name].to_pylist()]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([12.5, None, float("nan"), -1.0]), ["12.5", None, "nan", "-1"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([7, 25], pa.int8()), ["7", "25"]),
        (pa.array(["12,5", ""]), ["12,5", ""]),
        (pa.array(["7", "8", "7"]).dictionary_encode(), ["7", "8", "7"]),
        (pa.array([True]), ["true"]),
    ],
    ids=str,
)
def test_a_column_of_levels_is_taken_as_text(tmp_path: Path, values: pa.Array, expected: list[str | None]) -> None:
    """So that an error row can say what it holds instead of a level."""
    path, ids = tmp_path / "m.parquet", [str(number) for number in range(len(values))]
    pq.write_table(pa.table({"image_id": ids, "uri": [f"/{i}.png" for i in ids], "std": values}), path)
    assert levels(str(path)) == expected
    assert listed(str(path))[0].keys() == {*MANIFEST_SCHEMA.names}


def test_a_column_of_levels_must_be_there_and_hold_single_values(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"image_id": ["a"], "uri": ["/a.png"], "sigma": [1.0], "std": [[1.0]]}), path)
    for column, complaint in (
        ("level", r"has no column level; name one of image_id, uri, sigma, std, give a number, or auto$"),
        ("std", r"column std is list<.*>; it must hold numbers$"),
    ):
        with pytest.raises(UserError, match=rf"^denoise\.sigma: {path}: .*{complaint}"):
            levels(str(path), column)
    assert levels(str(path), "sigma") == ["1"]


def test_each_source_of_a_list_has_the_column_of_levels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image_id;uri;std\n1;/1.png;5\n2;/2.png;\n")
    (tmp_path / "b.csv").write_text("image_id,uri,std\n3,/3.png,7\n")
    assert sorted(map(str, levels([f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"]))) == ["5", "7", "None"]
    (tmp_path / "b.csv").write_text("image_id,uri,dev\n3,/3.png,7\n")
    with pytest.raises(UserError, match=r"b\.csv: it has no column std; name one of image_id, uri, dev, give"):
        levels([f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"])
    (tmp_path / "c.png").touch()
    with pytest.raises(UserError, match=r"^denoise\.sigma: .*c\.png is listed by no manifest, so it has no column std"):
        levels([f"{tmp_path}/a.csv", f"{tmp_path}/c.png"])


def test_a_column_beside_the_images_in_parquet_gives_levels_too(tmp_path: Path) -> None:
    images = pa.array([b"one", b"two"], pa.binary())
    pq.write_table(pa.table({"image": images, "std": [3, 7]}), tmp_path / "t.parquet")
    assert levels(f"{tmp_path}/t.parquet") == ["3", "7"]


def test_a_runs_own_manifest_has_the_levels_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image_id,uri,std\n1,/1.png,5\n2,/2.png,\n")
    shards.write(str(tmp_path / "run"), f"{tmp_path}/a.csv", None, level_column="std")
    assert levels(f"{tmp_path}/run/manifest", "sigma") == ["5", None]


def test_a_manifest_folder_without_the_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image_id,uri\n1,/1.png\n")
    shards.write(str(tmp_path / "run"), f"{tmp_path}/a.csv", None)
    with pytest.raises(
        UserError, match=r"^denoise\.sigma: .*run/manifest/.*parquet: it has no column std; name one of"
    ):
        levels(f"{tmp_path}/run/manifest")


def test_what_cannot_be_listed_has_no_level_and_becomes_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image_id,uri,std\n1,/1.png,5\n")
    (tmp_path / "b.parquet").write_bytes(b"damaged")
    assert sorted(map(str, levels([f"{tmp_path}/a.csv", f"{tmp_path}/b.parquet"]))) == ["5", "None"]


def test_relative_uris_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    uris = ["a.png", "b/c.png", "/d.png", "s3://b/e.png", "~/f.png", "file:///g.png"]
    found = [row["uri"] for row in read(tmp_path, {"image_id": list("abcdef"), "uri": uris})]
    local = str(tmp_path)
    assert found == [f"{local}/a.png", f"{local}/b/c.png", "/d.png", "s3://b/e.png", "/home/me/f.png", "file:///g.png"]


def test_columns_beside_other_files_are_the_users_own(tmp_path: Path) -> None:
    uris = ["/a.png", "/s.TAR", "/t.parquet", "s3://b/c.jpg"]
    table = {"image_id": list("abcd"), "uri": uris, "member": list("wxyz"), "row": [1, 2, 3, 4], "offset": [5, 6, 7, 8]}
    found = [(row["member"], row["offset"], row["row"]) for row in read(tmp_path, table)]
    assert found == [(None, None, None), ("x", 6, None), (None, None, 3), (None, None, None)]
    # whatever they hold
    own = {"image_id": ["a"], "uri": ["/a.png"], "member": [True], "row": [["x"]], "offset": [{"x": 0.5}]}
    assert read(tmp_path, own) == [{"image_id": "a", "uri": "/a.png"} | NOTHING]


def test_types_that_pandas_makes_are_cast(tmp_path: Path) -> None:
    """Categories, and doubles where an integer is missing somewhere."""
    table = {
        "image_id": pa.array([2**40, 7]),
        "uri": pa.array(["/s.tar", "/t.parquet"]).dictionary_encode(),
        "member": pa.array(["x.png", None]).dictionary_encode(),
        "bytes": [7.0, float("nan")],
        "offset": [512.0, None],
        "row": [float("nan"), 3.0],
    }
    assert read(tmp_path, table) == [
        {"image_id": str(2**40), "uri": "/s.tar", "member": "x.png", "bytes": 7, "offset": 512, "row": None},
        {"image_id": "7", "uri": "/t.parquet", "member": None, "bytes": None, "offset": None, "row": 3},
    ]
    unknown = {"image_id": ["a", "b"], "uri": ["/a", "/b"], "bytes": [-1, 3]}
    assert [row["bytes"] for row in read(tmp_path, unknown)] == [None, 3]
    assert [row["bytes"] for row in read(tmp_path, unknown | {"bytes": ["7 kB", "3"]})] == [None, 3]


def test_file_uris_are_those_that_pathlib_writes(tmp_path: Path) -> None:
    path = tmp_path / "é 50% #1?" / "a b.png"
    path.parent.mkdir()
    path.write_bytes(b"data")
    shard = tmp_path / "sh#ard.tar"
    shard.write_bytes(tar.pack([("m.png", b"member")]))
    uris = [path.as_uri(), path.as_uri().replace("file://", "file:"), shard.as_uri()]
    table = {"image_id": list("abc"), "uri": uris, "member": [None, None, "m.png"], "offset": [None, None, 512]}
    rows = read(tmp_path, table | {"bytes": [None, None, 6]})
    assert ImageReader().read(rows, 100) == [b"data", b"data", b"member"]
    assert [reading.read_origin(reading.origin(row)) for row in rows] == [b"data", b"data", b"member"]
    assert [row["uri"] for row in listed(path.parent.as_uri())] == [str(path)]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"image_id": ["a", None], "uri": ["x", "y"]}, "column image_id is null in row 1"),
        ({"image_id": ["a"] * 5, "uri": [*"wxyz", None]}, "column uri is null in row 4"),
        ({"image_id": ["a"]}, "no column uri"),
        ({"uri": ["a"]}, "no column image_id"),
        ({"image_id": [1.0], "uri": ["x"]}, "column image_id is double; it must hold text or whole numbers"),
        ({"image_id": ["a"], "uri": [b"x"]}, "column uri is binary; it must hold text"),
        ({"image_id": [*"abc"], "uri": ["x", "s3://b/y", "https://h/z"]}, "uri 'https://h/z': https:// cannot be read"),
        ({"image_id": [*"ab"], "uri": ["file://localhost/x", "file://host/x"]}, "uri 'file://host/x': file:// cannot"),
        ({"image_id": ["a"], "uri": ["x"], "bytes": [[7]]}, "column bytes: .*; it must hold whole numbers"),
        ({"image_id": ["a"], "uri": ["x.tar"], "member": [7]}, "column member is int64; it must hold text"),
        ({"image_id": ["a"], "uri": ["x.parquet"], "row": [0.5]}, "column row: .*0.5.*; it must hold whole numbers"),
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
    assert not external.is_one(pa.schema([("image_id", pa.string()), ("uri", pa.string()), ("bytes", pa.binary())]))
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
