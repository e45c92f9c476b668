"""The promises that every store keeps, whatever its scheme."""

import os
from pathlib import Path

import pytest

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.storage import Folder, stores


@pytest.fixture(params=["tmp_path", "bucket", "localbucket"])
def folder(request: pytest.FixtureRequest) -> Folder:
    return Folder(f"{request.getfixturevalue(request.param)}/folder")


def test_a_scheme_has_one_store(tmp_path: Path) -> None:
    assert stores.of("s3://bucket/a") is stores.of("s3://other/b")
    assert type(stores.of(str(tmp_path))) is type(stores.of(f"file://{tmp_path}"))
    with pytest.raises(UserError, match=r"^gs://bucket/a: gs:// is not supported; give a local path or s3://"):
        stores.of("gs://bucket/a")


def test_folders_and_files_are_distinguished(folder: Folder) -> None:
    folder.write("below/file", b"data")
    assert [storage.of(folder.uri).kind(folder.uri_of(name)) for name in ("", "below", "below/file", "none")] == [
        "folder", "folder", "file", None
    ]  # fmt: skip


def test_all_files_below_a_folder(folder: Folder) -> None:
    sizes = {"a": 1, "sub/b": 2, "sub/deep/c d": 3, "sub.x": 4}
    for name, size in sizes.items():
        folder.write(name, bytes(size))
    found = {
        path: size
        for page in storage.of(folder.uri).pages(folder.uri)
        for path, size, _ in page
        if not path.startswith("_tmp")
    }
    assert found == sizes


def test_a_version_changes_with_the_file(folder: Folder) -> None:
    folder.write("a", b"first")
    folder.write("b", b"stays")
    folder.write("sub/c", b"below")
    before = storage.of(folder.uri).versions(folder.uri)
    folder.write("a", b"other")
    after = storage.of(folder.uri).versions(folder.uri)
    assert before.keys() == after.keys() == {"a", "b"}
    assert before["a"] != after["a"] and before["b"] == after["b"]
    assert storage.read_bytes(folder.uri_of("a"), version=after["a"]) == b"other"
    with pytest.raises(OSError, match="changed while it was read"):
        storage.read_bytes(folder.uri_of("a"), version=before["a"])


def test_a_stream_becomes_a_file_when_it_ends(folder: Folder) -> None:
    folder.write("old", b"old")
    data = os.urandom(20 << 20)  # S3 receives it in several parts
    for name in ("old", "new"):
        before = folder.read_if_there(name)
        with storage.of(folder.uri).writer(folder.uri_of(name)) as stream:
            for start in range(0, len(data), 1 << 20):
                stream.write(data[start : start + (1 << 20)])
            stream.flush()
            assert folder.read_if_there(name) == before
        assert folder.read(name) == data
    assert folder.list() == ["new", "old"]


def test_an_interrupted_stream_leaves_the_old_file(folder: Folder) -> None:
    folder.write("old", b"old")
    for name in ("old", "new"):
        with pytest.raises(KeyboardInterrupt), storage.of(folder.uri).writer(folder.uri_of(name)) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt
    assert folder.list() == ["old"] and folder.read("old") == b"old"


def test_an_impossible_stream_fails_at_once(tmp_path: Path, bucket: str) -> None:
    for uri in (f"{tmp_path}/none/file", f"{bucket}-not/file"):
        with pytest.raises((OSError, UserError), match=r"none/file|NoSuchBucket"), storage.of(uri).writer(uri):
            pytest.fail("it was entered")
