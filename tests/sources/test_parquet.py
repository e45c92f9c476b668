"""Parquet with images inside: which column, which rows, and what of a cell that cannot be had."""

import io
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.sources import parquet

BINARY = pa.binary()
HUGGING_FACE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("label", pa.int64()), ("jpg", BINARY)], "jpg"),
        ([("jpg", pa.large_binary())], "jpg"),
        ([("jpg", pa.binary_view())], "jpg"),
        ([("photo", HUGGING_FACE), ("label", pa.int64())], "photo"),
        ([("digest", BINARY), ("image", HUGGING_FACE)], "image"),
        ([("digest", BINARY), ("jpg", BINARY)], re.compile("columns digest, jpg may hold the images; .* image$")),
        ([("image", pa.list_(pa.uint8()))], re.compile("column image is list<.*uint8>; it must hold")),
        ([("image", pa.struct([("path", pa.string())])), ("x", BINARY)], "x"),
        ([("label", pa.int64())], re.compile(r"no column of images \(label\)")),
        ([], re.compile("no column of images")),
    ],
)
def test_which_column_holds_the_images(fields: list, expected: Any) -> None:
    if isinstance(expected, str):
        assert parquet.image_column(pa.schema(fields)) == expected
    else:
        with pytest.raises(UserError, match=expected):
            parquet.image_column(pa.schema(fields))


def write(path: Path, cells: list, type: pa.DataType = BINARY, rows: int = 4, **columns: Any) -> str:
    table = pa.table({"image": pa.array(cells, type), **columns})
    pq.write_table(table, path, row_group_size=rows, compression="none", use_dictionary=False, write_statistics=False)
    return str(path)


def listed(uri: str, level_column: str | None = None) -> list[dict]:
    with parquet.open_file(uri) as file:
        return [row for table in parquet.rows(file, level_column) for row in table.to_pylist()]


@pytest.mark.parametrize("ids", [{}, {"image_id": list("abcde")}], ids=["without ids", "with ids"])
def test_a_column_of_levels_is_read_with_the_rows(tmp_path: Path, ids: dict) -> None:
    uri = write(tmp_path / "a.parquet", [b"x"] * 5, std=[1.0, 2.5, None, 4.0, 5.0], **ids)
    found = listed(uri, "std")
    assert [row["sigma"] for row in found] == ["1", "2.5", None, "4", "5"]
    assert [row["row"] for row in found] == list(range(5))
    assert [row["image_id"] for row in found] == ids.get("image_id", [None] * 5)
    assert "sigma" not in listed(uri)[0]
    with pytest.raises(UserError, match=r"^denoise\.sigma: it has no column level; name one of image, std, "):
        listed(uri, "level")


def test_rows_have_numbers_over_all_row_groups_a_guess_of_their_size_and_ids_where_there_are(tmp_path: Path) -> None:
    cells = [b"x" * 1000] * 4 + [b"x" * 9000] * 3
    found = listed(write(tmp_path / "a.parquet", cells))
    assert [row["row"] for row in found] == list(range(7))
    assert [round(row["bytes"], -3) for row in found] == [1000] * 4 + [9000] * 3
    assert {row["image_id"] for row in found} == {None}
    uri = write(tmp_path / "b.parquet", [{"bytes": b"x" * 500, "path": "p"}] * 5, HUGGING_FACE, image_id=list("abcde"))
    assert [row["image_id"] for row in listed(uri)] == list("abcde")
    assert 450 < listed(uri)[0]["bytes"] < 700


def test_ids_are_text_or_whole_numbers_and_not_null(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column image_id is null in row 5"):
        listed(write(tmp_path / "a.parquet", [b"x"] * 6, image_id=["a", "b", "c", "d", "e", None]))
    with pytest.raises(UserError, match="image_id is double; it must hold text or whole numbers"):
        listed(write(tmp_path / "a.parquet", [b"x"], image_id=[1.0]))
    # as Hugging Face's COCO has them, and as pandas writes categories
    for given, ids in (([7, -8], ["7", "-8"]), (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"])):
        found = listed(write(tmp_path / "a.parquet", [b"x"] * 2, image_id=given))
        assert [row["image_id"] for row in found] == ids


def test_what_is_no_parquet_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(OSError, match="no readable Parquet file"):
        parquet.open_file(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("type", [BINARY, HUGGING_FACE, pa.large_binary()])
def test_cells_are_read_in_any_order(tmp_path: Path, type: pa.DataType) -> None:
    values = [None if i == 5 else bytes([i]) * (i + 1) for i in range(50)]
    cells = [None if v is None else {"bytes": v, "path": None} for v in values] if type == HUGGING_FACE else values
    uri = write(tmp_path / f"{hash(type)}.parquet", cells, type, rows=20)
    for wanted in ([0, 1, 2], [3, 4, 6], [49, 7, 30, 7], [19, 20, 21], [0]):
        assert parquet.RowReader().read(uri, wanted) == [values[row] for row in wanted]
    null, beyond, fine = parquet.RowReader().read(uri, [5, 50, 6])
    assert isinstance(null, OSError) and "null" in str(null)
    assert isinstance(beyond, OSError) and "no row 50" in str(beyond)
    assert fine == values[6]


def test_bytes_that_are_null_in_a_struct_are_an_error(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.parquet", [{"bytes": None, "path": "elsewhere.png"}], HUGGING_FACE)
    [found] = parquet.RowReader().read(uri, [0])
    assert isinstance(found, OSError)


def test_consecutive_rows_go_on_where_the_last_ones_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = write(tmp_path / "a.parquet", [bytes([i]) for i in range(200)], rows=200)
    opened = []
    begun = []
    reader = parquet.RowReader()
    open_file, begin = storage.open_file, parquet._Cursor._begin
    monkeypatch.setattr(storage, "open_file", lambda uri: opened.append(uri) or open_file(uri))
    monkeypatch.setattr(parquet._Cursor, "_begin", lambda self, g: begun.append(g) or begin(self, g))
    for first in range(0, 200, 7):
        rows = list(range(first, min(first + 7, 200)))
        assert reader.read(uri, rows) == [bytes([row]) for row in rows]
    assert len(opened) == 1 and begun == [0]
    assert reader.read(uri, [3]) == [b"\3"]
    assert len(opened) == 1 and begun == [0, 0]


def test_only_one_file_is_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = []
    open_file = storage.open_file
    monkeypatch.setattr(storage, "open_file", lambda uri: streams.append(open_file(uri)) or streams[-1])
    reader = parquet.RowReader()
    for name in "abc":
        reader.read(write(tmp_path / f"{name}.parquet", [b"x"]), [0])
    assert [stream.closed for stream in streams] == [True, True, False]
    reader.close()
    assert streams[-1].closed


def test_a_damaged_row_group_costs_its_rows_alone(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.parquet", [bytes([65 + i]) * 3000 for i in range(12)])
    file = pq.ParquetFile(uri)
    start = file.metadata.row_group(1).column(0).data_page_offset
    file.close()
    with Path(uri).open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\xff" * 40)
    found = parquet.RowReader().read(uri, list(range(12)))
    assert [isinstance(each, OSError) for each in found] == [False] * 4 + [True] * 4 + [False] * 4
    assert "row group 1" in str(found[5])


def test_no_more_of_a_row_group_is_read_than_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pa.table({"image": [bytes([i]) * 1_000_000 for i in range(60)]})
    uri = str(tmp_path / "a.parquet")
    pq.write_table(images, uri, compression="none", use_dictionary=False, write_batch_size=4)  # four in a page
    taken = []

    class Counting(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size) or b""
            taken.append(len(data))
            return data

    monkeypatch.setattr(storage, "open_file", Counting)
    assert parquet.RowReader().read(uri, [0]) == [bytes(1_000_000)]
    assert sum(taken) < 25_000_000
    assert sum(taken) > 1_000_000


def test_a_file_that_is_gone_or_has_other_columns_now_is_an_error_of_its_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"label": [1]}), tmp_path / "b.parquet")
    for name in ("gone", "b"):
        found = parquet.RowReader().read(str(tmp_path / f"{name}.parquet"), [0, 1])
        assert all(isinstance(each, OSError) for each in found)
