"""Where images come from makes no difference once they are read, and whoever cannot be read costs nobody else."""

from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewizard.manifest import listing
from imagewizard.manifest.tally import Tally
from imagewizard.schema import MANIFEST_SCHEMA
from imagewizard.sources import reading, tar
from imagewizard.sources.reading import ImageReader

LIMIT = 10_000


def image(uri: object, **packed: object) -> dict:
    return dict.fromkeys(MANIFEST_SCHEMA.names) | {"image_id": "x", "uri": str(uri)} | packed


@pytest.fixture
def mixed(tmp_path: Path) -> list[dict]:
    """Four images: a file, a tar's member, a row of Parquet, another file."""
    (tmp_path / "a.png").write_bytes(b"file a")
    (tmp_path / "b.png").write_bytes(b"file b")
    (tmp_path / "s.tar").write_bytes(tar.pack([("m.png", b"member")]))
    pq.write_table(pa.table({"image": pa.array([b"row 0", b"row 1"], pa.binary())}), tmp_path / "t.parquet")
    return [
        image(tmp_path / "a.png"),
        image(tmp_path / "s.tar", member="m.png", offset=512, bytes=6),
        image(tmp_path / "t.parquet", row=1),
        image(tmp_path / "b.png"),
    ]


def test_contents_come_in_the_order_of_the_images(mixed: list[dict]) -> None:
    assert ImageReader().read(mixed, LIMIT) == [b"file a", b"member", b"row 1", b"file b"]
    assert ImageReader().read(mixed[::-1], LIMIT) == [b"file b", b"row 1", b"member", b"file a"]
    assert ImageReader().read([], LIMIT) == []


def test_what_cannot_be_read_is_told_and_costs_nobody_else(mixed: list[dict], tmp_path: Path) -> None:
    (tmp_path / "big.png").write_bytes(bytes(LIMIT + 1))
    bad = [image(tmp_path / "gone.png"), image(tmp_path / "big.png"), image(tmp_path / "gone.parquet", row=0)]
    bad += [image(tmp_path / "s.tar", member="cut.png", offset=512, bytes=1 << 20)]
    found = ImageReader().read([bad[0], mixed[0], bad[1], mixed[1], bad[2], mixed[2], bad[3]], LIMIT)
    assert found[1::2] == [b"file a", b"member", b"row 1"]
    errors = found[::2]
    assert all(isinstance(each, OSError) for each in errors)
    assert "vanished since it was listed" in str(errors[0])
    assert f"{LIMIT + 1} bytes" in str(errors[1])


@pytest.mark.parametrize("uri", ["gs://bucket/a.png", "s3:///a.png", "s3://bucket", "a\0b.png"])
def test_an_address_that_nothing_can_have_costs_nobody_else(mixed: list[dict], uri: str) -> None:
    odd = [image(uri), image(uri, member="m", offset=0, bytes=1), image(uri, row=0)]
    found = ImageReader().read([*odd, mixed[0], mixed[2] | {"row": -1}], LIMIT)
    assert [type(each) for each in found] == [OSError] * 3 + [bytes, OSError]
    assert "no row -1" in str(found[-1])


def test_an_origin_leads_back_to_the_contents(mixed: list[dict], tmp_path: Path) -> None:
    origins = [reading.origin(each) for each in mixed]
    assert origins == [str(tmp_path / name) for name in ("a.png", "s.tar#m.png", "t.parquet#1", "b.png")]
    assert [reading.read_origin(origin) for origin in origins] == [b"file a", b"member", b"row 1", b"file b"]


def test_a_member_may_have_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(tar.pack([(f"{'a' * 300}.png", b"member")]))
    assert reading.read_origin(f"{tmp_path}/s.tar#{'a' * 300}.png") == b"member"


def test_a_file_name_may_hold_a_number_sign(tmp_path: Path) -> None:
    (tmp_path / "a#1.png").write_bytes(b"file")
    assert reading.read_origin(str(tmp_path / "a#1.png")) == b"file"


def test_an_origin_that_leads_nowhere_is_an_os_error(mixed: list[dict], tmp_path: Path) -> None:
    for name in ("gone.png", "s.tar#gone.png", "t.parquet#9", "gone.tar#x.png"):
        with pytest.raises(OSError):
            reading.read_origin(str(tmp_path / name))


ODD = ["a#b", "50%", "x y?", "in.tar#1", "100%23", "é.TAR%231", "t.parquet#0"]


def write_odd(folder: Path, odd: str) -> None:
    """Eight images, with an odd text in the names of folders, files and members."""
    data = [f"image {number}".encode() for number in range(8)]
    (folder / odd).mkdir(parents=True)
    for name, content in ((f"{odd}.png", data[0]), ("a.png", data[1])):
        (folder / odd / name).write_bytes(content)
    members = [("m.png", data[2]), (f"{odd}/m.png", data[3]), ("m.png", data[4]), (f"{odd}.png", data[5])]
    (folder / odd / f"{odd}.tar").write_bytes(tar.pack(members))
    pq.write_table(pa.table({"image": pa.array(data[6:], pa.binary())}), folder / odd / f"{odd}.parquet")


@pytest.mark.parametrize("odd", ODD)
def test_every_image_is_found_again_by_its_address(tmp_path: Path, odd: str, bucket: str) -> None:
    write_odd(tmp_path / "in", odd)
    # Files that a wrong split would name.
    for decoy in ("in.tar", "t.parquet"):
        (tmp_path / "in" / decoy).write_bytes(b"no image")
    for path in (path for path in (tmp_path / "in").rglob("*") if path.is_file()):
        key = path.relative_to(tmp_path).as_posix()
        boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=path.read_bytes())
    for root in (str(tmp_path / "in"), f"{bucket}/in"):
        rows = [row for table in listing.batches(root, Tally()) for row in table.to_pylist()]
        rows = [row for row in rows if "#<" not in row["image_id"]]  # the decoys
        assert len({row["image_id"] for row in rows}) == 8
        assert len({reading.origin(row) for row in rows}) == 8
        contents = ImageReader().read(rows, LIMIT)
        assert len(set(contents)) == 8
        assert [reading.read_origin(reading.origin(row), LIMIT) for row in rows] == contents
        for row, content in zip(rows, contents, strict=True):
            if row["member"] is row["row"] is None:
                assert reading.origin(row) == row["uri"]
            elif not row["image_id"].endswith(f"m.png#{row['offset']}"):  # as older versions wrote it
                packed = row["row"] if row["member"] is None else row["member"]
                assert reading.read_origin(f"{row['uri']}#{packed}") == content


def test_a_file_is_read_rather_than_a_member_of_a_tar_beside_it(tmp_path: Path) -> None:
    (tmp_path / "x.tar#1").mkdir()
    (tmp_path / "x.tar#1" / "a.png").write_bytes(b"file")
    (tmp_path / "x.tar").write_bytes(tar.pack([("1/a.png", b"member"), ("2/a.png", b"other")]))
    assert reading.read_origin(f"{tmp_path}/x.tar#1/a.png") == b"file"
    assert reading.read_origin(f"{tmp_path}/x.tar#2/a.png") == b"other"


def test_no_read_goes_beyond_the_limit(mixed: list[dict]) -> None:
    for each in mixed:
        [found] = ImageReader().read([each], 4)
        assert isinstance(found, OSError) and str(found).endswith("bytes, more than the 4 that are allowed")
        assert str(found)[0].isdigit()
        with pytest.raises(OSError, match="more than the 4"):
            reading.read_origin(reading.origin(each), 4)


@pytest.mark.parametrize("place", [{"offset": -1, "bytes": 5}, {"offset": 512, "bytes": -1}])
def test_a_place_that_no_member_can_have_is_not_read(mixed: list[dict], place: dict) -> None:
    [found] = ImageReader().read([mixed[1] | place], LIMIT)
    assert isinstance(found, OSError) and "the manifest is wrong" in str(found)
