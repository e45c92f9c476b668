"""What is left out has a reason that says why, and a few names."""

import os
from pathlib import Path
from typing import Any

import boto3
import pytest

from imagewizard.errors import UserError
from imagewizard.manifest import left_out, listing, shards
from imagewizard.manifest.left_out import LeftOut
from imagewizard.manifest.tally import Tally
from imagewizard.sources import tar
from imagewizard.sources.reading import ImageReader
from imagewizard.storage import local
from tests.support.listings import examples, touch


def listed(source: str | list[str], tally: Tally) -> list[dict[str, Any]]:
    return [row for table in listing.batches(source, tally) for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("._a.jpg", "AppleDouble"),
        ("deep/er/._a.jpg", "AppleDouble"),
        ("__MACOSX/deep/a.jpg", "AppleDouble"),
        ("x/.AppleDouble/a.jpg", "AppleDouble"),
        ("._s.tar", "AppleDouble"),
        ("@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "thumbnail"),
        ("x/.@__thumb/s100a.jpg", "thumbnail"),
        ("DCIM/.thumbnails/1.jpg", "thumbnail"),
        ("#recycle/a.png", "recycle bin"),
        ("$RECYCLE.BIN/S-1-5/a.png", "recycle bin"),
        (".Trash-1000/files/a.png", "recycle bin"),
        ("a.jpg", None),
        ("a._b.jpg", None),
        ("x@eaDir/a.jpg", None),
        ("@eaDir.jpg", None),
        ("__MACOSX.jpg", None),
        ("x/.hidden/a.jpg", None),
        ("a#recycle/b$.jpg", None),
        ("#recycle.png", None),
        (".Trash-no/a.png", None),
    ],
)
def test_what_programs_leave_is_known_by_its_path(path: str, reason: str | None) -> None:
    found = left_out.why(path)
    assert (found is None) if reason is None else (found is not None and reason in found)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a.HEIC", "HEIC images are not read"),
        ("a.cr2", "camera raw images are not read"),
        ("s.tar.gz", left_out.ARCHIVE),
        ("s.TGZ", left_out.ARCHIVE),
        ("s.tar.zst", left_out.ARCHIVE),
        ("s.zip", left_out.ARCHIVE),
        ("m.csv", left_out.CSV),
        ("notes.txt", left_out.OTHER),
        ("README", left_out.OTHER),
    ],
)
def test_other_files_have_a_reason_too(path: str, reason: str) -> None:
    assert left_out.why_no_image(path).startswith(reason)


def test_a_few_names_are_kept_and_can_be_printed() -> None:
    found = LeftOut()
    for name in ["a\x1b[2J.txt", "b\n.txt", "x" * 500, "d", "e"]:
        found.add(name)
    assert found.files == 5
    assert found.examples[:2] == [r"'a\x1b[2J.txt'", r"'b\n.txt'"]
    assert len(found.examples) == left_out.EXAMPLES and len(found.examples[2]) == left_out.EXAMPLE_LENGTH


def test_a_line_for_each_reason_the_most_frequent_first() -> None:
    kept = {"odd": {"files": 1, "examples": ["x"]}, "no image": {"files": 1200, "examples": ["a", "b", "c"]}}
    assert left_out.lines(kept) == ["left out 1,200: no image (a, b, c, …)", "left out 1: odd (x)"]
    assert left_out.lines({}) == []
    assert left_out.lines({}, files=3) == ["left out 3: no images by their suffix"]


CLUTTER = {
    "AppleDouble": ["._a.png", "__MACOSX/a.png", "deep/._s.tar", "s.tar#._m.png"],
    "thumbnail": ["@eaDir/a.png/SYNO.jpg", "s.tar#@eaDir/m.png"],
    "HEIC": ["b.HEIC", "s.tar#c.heic"],
    "camera raw": ["b.dng"],
    "archives": ["x.tar.gz", "x.zip"],
    left_out.OTHER: ["notes.txt", "s.tar#m.txt"],
}


def write_clutter(folder: Path) -> None:
    """Two images (a file and a member) and what is to be left out."""
    names = [name for names in CLUTTER.values() for name in names]
    touch(folder, "a.png", *[name for name in names if "#" not in name])
    members = ["m.png", *[name.partition("#")[2] for name in names if "#" in name]]
    (folder / "s.tar").write_bytes(tar.pack([(name, b"x") for name in members]))


def check_clutter(rows: list[dict[str, Any]], tally: Tally) -> None:
    assert sorted(row["image_id"] for row in rows) == ["a.png", "s.tar#m.png"]
    for sign, names in CLUTTER.items():
        [found] = [found for reason, found in examples(tally).items() if reason.startswith(sign) or sign in reason]
        assert set(found) <= set(names) and len(found) == min(len(names), left_out.EXAMPLES), sign
    assert tally.skipped == sum(map(len, CLUTTER.values()))
    assert tally.images == 2 and not tally.ids_are_given


def test_each_file_that_is_left_out_has_a_reason(tmp_path: Path, bucket: str) -> None:
    write_clutter(tmp_path / "in")
    for name in (path.relative_to(tmp_path).as_posix() for path in (tmp_path / "in").rglob("*") if path.is_file()):
        boto3.client("s3").put_object(
            Bucket=bucket.removeprefix("s3://"), Key=name, Body=(tmp_path / name).read_bytes()
        )
    for source in (f"{tmp_path}/in", f"{bucket}/in"):
        tally = Tally()
        check_clutter(listed(source, tally), tally)


def test_what_is_no_regular_file_is_left_out_of_a_folder_and_a_row_of_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    touch(folder, "a.png")
    os.mkfifo(folder / "x.jpg")
    os.mkfifo(folder / "s.tar")
    os.mkfifo(folder / "index.json")
    (folder / "self.png").symlink_to("self.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "above.png").symlink_to(tmp_path)
    tally = Tally()
    assert [row["image_id"] for row in listed(str(folder), tally)] == ["a.png"]
    assert examples(tally) == {
        "no regular file but a FIFO": ["index.json", "s.tar", "x.jpg"],
        "no regular file but a device": ["zero.png"],
        local.LOOP: ["self.png"],
        local.FOLDER_LINK: ["above.png"],
    }
    names = ["a.png", "self.png", "x.jpg", "zero.png"]
    rows = listed([f"{folder}/{name}" for name in [*names, "s.tar"]], Tally())
    assert [row["image_id"].partition("#<")[0] for row in rows] == [*names, "s.tar"]
    found = ImageReader().read(rows, 1000)
    assert found[0] == b"x" * 5 and all(isinstance(each, OSError) for each in found[1:])
    with pytest.raises(UserError, match=r"s\.tar cannot be read: .*no regular file but a FIFO"):
        listed(f"{folder}/s.tar", Tally())


@pytest.mark.parametrize("index", ["folder", "loop"])
def test_an_index_that_cannot_be_read_is_none(tmp_path: Path, index: str) -> None:
    touch(tmp_path, "a.png")
    if index == "folder":
        (tmp_path / "index.json").mkdir()
    else:
        (tmp_path / "index.json").symlink_to("index.json")
    assert [row["image_id"] for row in listed(str(tmp_path), Tally())] == ["a.png"]


def test_what_a_list_names_is_left_out_only_if_it_can_be_no_image(tmp_path: Path) -> None:
    touch(tmp_path, "@eaDir/a.png", "._b.png", "c.heic", "d.png/e.png", "f.tar/g.png")
    names = ["@eaDir/a.png", "._b.png", "c.heic", "d.png", "f.tar"]
    tally = Tally()
    rows = listed([f"{tmp_path}/{name}" for name in names], tally)
    assert [row["image_id"] for row in rows] == ["@eaDir/a.png", "d.png/e.png", "f.tar/g.png"]
    assert sorted(name for found in examples(tally).values() for name in found) == ["._b.png", "c.heic"]


def test_a_listing_reports_what_it_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.png", "._a.png", "notes.txt", "x.txt")
    said: list[str] = []
    index = shards.write(str(tmp_path / "run"), str(tmp_path / "in"), None, report=said.append)
    assert said[0] == f"left out 2: {left_out.OTHER} (notes.txt, x.txt)" and len(said) == 2
    assert index.skipped == 3 and shards.read_index(str(tmp_path / "run")) == index
