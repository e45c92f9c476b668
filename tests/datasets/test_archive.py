"""Archives good and bad: the wanted files are extracted, and nothing else is written."""

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from imagewizard.datasets import archive


def place(path: PurePosixPath) -> str | None:
    return f"{path.parent.name}/{path.name}" if path.suffix == ".jpg" else None


def tar_of(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def written(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


MEMBERS = {"BSR/data/train/a.jpg": b"a" * 9, "BSR/train/Thumbs.db": b"x", "./val/b.jpg": b"", "c.mat": b"x"}


@pytest.mark.parametrize("kind", ["gz", "plain", "zip"])
def test_wanted_files_are_extracted_under_their_names(tmp_path: Path, kind: str) -> None:
    if kind == "zip":
        path = zip_of(tmp_path / "a", MEMBERS)
    else:
        path = tar_of(tmp_path / "a", dict(MEMBERS), "w:gz" if kind == "gz" else "w")
    archive.unpack(path, tmp_path / "out", place)
    assert written(tmp_path / "out") == {"train/a.jpg": b"a" * 9, "val/b.jpg": b""}


def test_zip_names_with_backslashes_are_paths(tmp_path: Path) -> None:
    archive.unpack(zip_of(tmp_path / "a", {"BSR\\train\\a.jpg": b"a"}), tmp_path / "out", place)
    assert written(tmp_path / "out") == {"train/a.jpg": b"a"}


@pytest.mark.parametrize(
    "name", ["../train/a.jpg", "x/../../train/a.jpg", "/train/a.jpg", "..\\train\\a.jpg", "../b.mat"]
)
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, name: str, make: object) -> None:
    path = make(tmp_path / "a", {name: b"evil"})  # type: ignore[operator]
    with pytest.raises(archive.ArchiveError, match="points outside"):
        archive.unpack(path, tmp_path / "in" / "out", place)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_place_of_an_image_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("train/a.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(archive.ArchiveError, match=r"'train/a.jpg' is a link"):
        archive.unpack(tar_of(tmp_path / "a", {info.name: info}), tmp_path / "out", place)
    assert not (tmp_path / "out").exists()


def test_a_name_with_a_null_byte_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("train/a.jpg")
    info.pax_headers = {"path": "train/a\0.jpg"}
    with pytest.raises(archive.ArchiveError, match="embedded null"):
        archive.unpack(tar_of(tmp_path / "a", {info.name: info}), tmp_path / "out", place)


def test_a_link_for_a_folder_moves_no_image(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    info = tarfile.TarInfo("train")
    info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "elsewhere")
    archive.unpack(tar_of(tmp_path / "a", {"train": info, "train/a.jpg": b"a"}), tmp_path / "out", place)
    assert written(tmp_path / "out") == {"train/a.jpg": b"a"}
    assert written(tmp_path / "elsewhere") == {}


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("train/a.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as zipped:
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(archive.ArchiveError, match="is a link"):
        archive.unpack(tmp_path / "a", tmp_path / "out", place)


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_duplicate_names_and_bombs_are_refused(tmp_path: Path, make: object) -> None:
    path = make(tmp_path / "a", {"x/train/a.jpg": b"1", "y/train/a.jpg": b"2"})  # type: ignore[operator]
    with pytest.raises(archive.ArchiveError, match=r"'y/train/a.jpg' is there twice"):
        archive.unpack(path, tmp_path / "out", place)
    path = make(tmp_path / "b", {"train/b.jpg": bytes(archive.MAX_MEMBER_BYTES + 1)})  # type: ignore[operator]
    with pytest.raises(archive.ArchiveError, match=r"'train/b.jpg' has 16777217 bytes"):
        archive.unpack(path, tmp_path / "out", place)
    assert not (tmp_path / "out" / "train" / "b.jpg").exists()


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_files_with_too_large_a_total_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object
) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 25)
    path = make(tmp_path / "a", {f"train/{n}.jpg": bytes(10) for n in range(9)})  # type: ignore[operator]
    with pytest.raises(archive.ArchiveError, match=r"'train/2.jpg' has 10 bytes, more than is left"):
        archive.unpack(path, tmp_path / "out", place)
    assert sorted(written(tmp_path / "out")) == ["train/0.jpg", "train/1.jpg"]


def broken_archives() -> dict[str, bytes]:
    noise = {f"train/{index}.jpg": np.random.default_rng(index).bytes(5000) for index in range(9)}
    tar, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as writer:
        for name, content in noise.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            writer.addfile(info, io.BytesIO(content))
    with zipfile.ZipFile(zipped, "w") as archived:
        for name, content in noise.items():
            archived.writestr(name, content)
    packed = gzip.compress(tar.getvalue())
    flipped = bytearray(zipped.getvalue())
    flipped[9000] ^= 1
    encrypted = bytearray(zipped.getvalue())
    at = encrypted.index(b"PK\1\2")
    encrypted[at + 8] |= 1
    encrypted[6] |= 1
    return {
        "empty": b"",
        "a web page": b"<html>404</html>" * 100,
        "a cut tar": tar.getvalue()[:20000],
        "a cut tar.gz": packed[: len(packed) // 2],
        "a tar.gz of a wrong checksum": packed[:-8] + bytes(8),
        "a damaged tar.gz": packed[:20000] + bytes(500) + packed[20500:],
        "a tar.gz of broken codes": gzip.compress(tar.getvalue()[:20000]) + packed[:10] + b"\xff" * 99,
        "a cut zip": zipped.getvalue()[:-500],
        "a damaged zip": bytes(flipped),
        "an encrypted zip": bytes(encrypted),
        "gzip of no tar": gzip.compress(b"text" * 1000),
    }


@pytest.mark.parametrize("kind", broken_archives())
def test_a_broken_archive_gives_a_one_line_error(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_bytes(broken_archives()[kind])
    with pytest.raises(archive.ArchiveError) as caught:
        archive.unpack(tmp_path / "a", tmp_path / "out", place)
    assert "\n" not in str(caught.value)
