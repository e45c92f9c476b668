"""Manifests in CSV: what spreadsheets and programs write."""

import io
from pathlib import Path

import pyarrow as pa
import pytest

from imagewizard.errors import UserError
from imagewizard.manifest import csv_manifest, external, left_out, listing
from imagewizard.manifest.tally import Tally


def rows(path: Path, text: str, encoding: str = "utf-8") -> list[dict]:
    path.write_bytes(text.encode(encoding))
    return [row for table in listing.batches(str(path), Tally()) for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("image_id,uri\n007,/x/a b.png\n8,/y#1.png\n", "utf-8"),
        ("image_id,uri\r\n007,/x/a b.png\r\n8,/y#1.png", "utf-8-sig"),
        ("image_id,uri\r007,/x/a b.png\r8,/y#1.png", "utf-8"),
        (f"image_id,uri,text\n007,/x/a b.png,{'a' * 3_000_000}\n8,/y#1.png,", "utf-8"),
        ('other;uri;"image_id"\n1,5;/x/a b.png;"007"\n;"/y#1.png";8\n', "utf-8"),
        ("uri\timage_id\n/x/a b.png\t007\n/y#1.png\t8\n", "utf-8"),
    ],
)
def test_columns_are_found_by_their_names_and_ids_stay_text(tmp_path: Path, text: str, encoding: str) -> None:
    found = rows(tmp_path / "m.csv", text, encoding)
    assert [(row["image_id"], row["uri"]) for row in found] == [("007", "/x/a b.png"), ("8", "/y#1.png")]
    assert all(row["bytes"] is row["member"] is row["offset"] is row["row"] is None for row in found)


def test_places_in_packed_files_are_numbers(tmp_path: Path) -> None:
    text = "image_id,uri,bytes,member,offset,row\na,/s.tar,7,x.png,512,\nb,/t.parquet,,,,3\nc,/c.png,9,team,left,x\n"
    place = {"bytes": 7, "member": "x.png", "offset": 512, "row": None}
    nothing = dict.fromkeys(place)
    with pytest.raises(UserError, match=r"column offset: .*left.*; it must hold whole numbers") as error:
        rows(tmp_path / "m.csv", text.replace("/c.png", "/c.tar"))
    assert str(error.value).startswith(f"{tmp_path}/m.csv: ")
    assert rows(tmp_path / "m.TSV", text) == [
        {"image_id": "a", "uri": "/s.tar"} | place,
        {"image_id": "b", "uri": "/t.parquet"} | nothing | {"row": 3},
        {"image_id": "c", "uri": "/c.png"} | nothing | {"bytes": 9},
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "m.csv cannot be read: it is empty"),
        ("a,b\n1,2\n", "m.csv: it has no column image_id; give a manifest with image_id and uri"),
        ("image_id\n1\n", "it has no column uri"),
        ("image_id,uri\n1,\n", "column uri is null in row 0"),
        ("image_id,uri\n1,/a.png\n2\n", "m.csv cannot be read: .*[Ee]xpected 2 columns"),
        ("image_id,uri\n1,gs://b/a.png\n", "gs:// cannot be read"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as error:
        rows(tmp_path / "m.csv", text)
    assert "\n" not in str(error.value)


def test_it_is_read_where_it_is_named_and_left_out_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image_id,uri\n1,/a.png\n")
    (tmp_path / "labels.csv").write_text("name,label\na,b\n")
    (tmp_path / "b.png").touch()
    tally = Tally()
    names = [f"{tmp_path}/{name}" for name in ("m.csv", "labels.csv", "b.png")]
    found = [row["image_id"] for table in listing.batches(names, tally) for row in table.to_pylist()]
    assert sorted(found) == ["1", "b.png"]
    assert tally.left_out[left_out.NO_MANIFEST].examples == ["labels.csv"] and tally.ids_are_given
    tally = Tally()
    assert sum(table.num_rows for table in listing.batches(str(tmp_path), tally)) == 1
    assert sorted(tally.left_out[left_out.CSV].examples) == ["labels.csv", "m.csv"]


def test_a_large_file_comes_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_manifest, "_BLOCK_BYTES", 1 << 20)
    text = "image_id,uri\n" + "".join(f"{i},/{'x' * 100}/{i}.png\n" for i in range(30_000))
    batches = csv_manifest.read(io.BytesIO(text.encode()))
    tables = list(external.tables(batches.schema, batches))
    assert len(tables) > 1 and sum(table.num_rows for table in tables) == 30_000
    assert isinstance(tables[0], pa.Table) and tables[-1]["image_id"][-1].as_py() == "29999"
