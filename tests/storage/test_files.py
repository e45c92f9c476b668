"""Files on disk and in S3 (a real server, moto's) through one interface, and atomic writes."""

import io
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import fs

from imagewizard.errors import UserError
from imagewizard.storage import Folder, files

NAMES = ["plain.txt", "a b+c%20d=é.txt", "x" * 150]


@pytest.fixture(params=["local", "file", "s3"])
def root(request: pytest.FixtureRequest) -> str:
    """The URI of an empty folder."""
    if request.param == "s3":
        return request.getfixturevalue("bucket") + "/some prefix"
    folder: Path = request.getfixturevalue("tmp_path") / "some folder"
    folder.mkdir()
    return str(folder) if request.param == "local" else f"file://{folder}"


def write(root: str, name: str, data: bytes | pa.Buffer = b"data") -> str:
    folder = Folder(root)
    folder.write(name, data)
    return folder.uri_of(name)


def exists(uri: str) -> bool:
    folder, _, name = uri.rpartition("/")
    return Folder(folder).exists(name)


# --- both stores


@pytest.mark.parametrize("name", [*NAMES, "deep/er/file"])
def test_written_files_are_read_back(root: str, name: str) -> None:
    uri = files.join(root, *name.split("/"))
    assert not exists(uri)
    assert write(root, name, b"first") == uri
    assert exists(uri)
    assert files.read_bytes(uri) == b"first"
    write(root, name, b"second, longer")
    write(root, name, b"third")
    assert files.read_bytes(uri) == b"third"


@pytest.mark.parametrize("data", [b"", os.urandom(12 << 20)], ids=["empty", "12 MiB"])
def test_any_size_and_buffer(root: str, data: bytes) -> None:
    assert files.read_bytes(write(root, "bytes", data)) == data
    assert files.read_bytes(write(root, "buffer", pa.py_buffer(data))) == data


def test_lists_the_files_directly_below(root: str) -> None:
    folder = Folder(root)
    assert folder.list() == folder.list("none") == []
    for name in [*NAMES, "b.parquet", "a.parquet", "sub/c.parquet", "a.parquet.bak"]:
        write(root, name)
    assert folder.list() == sorted([*NAMES, "b.parquet", "a.parquet", "a.parquet.bak"])
    assert folder.list("", ".parquet") == ["a.parquet", "b.parquet"]
    assert folder.list("sub", ".parquet") == folder.subfolder("sub").list() == ["c.parquet"]
    assert Folder(root + "/").list() == folder.list()
    assert [name for name in folder.list("", "/") if name != "_tmp/"] == ["sub/"]


def test_folders_exist_too(root: str) -> None:
    write(root, "folder/file")
    assert exists(files.join(root, "folder"))
    assert exists(files.join(root, "folder") + "/")
    assert not exists(files.join(root, "fold"))
    assert not exists(files.join(root, "folder", "file", "below"))


def test_reading_a_missing_file(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        files.read_bytes(files.join(root, "none"))
    write(root, "folder/file")
    with pytest.raises(OSError):
        files.read_bytes(files.join(root, "folder"))


@pytest.mark.parametrize("data", [None, "text", object()], ids=["None", "text", "object"])
def test_failed_write_leaves_nothing_and_keeps_the_old_file(root: str, data: object) -> None:
    kept = write(root, "kept", b"as it was")
    for name in ("kept", "new"):
        with pytest.raises(TypeError):
            write(root, name, data)  # type: ignore[arg-type]
    assert files.read_bytes(kept) == b"as it was"
    assert Folder(root).list() == ["kept"]


def test_existing_file_is_not_replaced(root: str) -> None:
    folder = Folder(root)
    assert folder.write_new("new/file", b"first")
    for data in (b"second", b"first"):
        assert not folder.write_new("new/file", data)
    assert folder.read("new/file") == b"first"
    assert folder.write_new("buffer", pa.py_buffer(b"data"))
    assert folder.list("_tmp") == []


@pytest.mark.parametrize("where", ["local", "s3"])
def test_one_of_many_writers_wins(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = Folder(str(tmp_path) if where == "local" else request.getfixturevalue("faulty_s3").bucket)
    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            writes = [pool.submit(folder.write_new, str(turn), b"%d" % n) for n in range(8)]
            won = [n for n, write in enumerate(writes) if write.result()]
            assert len(won) == 1 and folder.read(str(turn)) == b"%d" % won[0]


def test_parts_of_a_file(root: str) -> None:
    uri = write(root, "file", bytes(range(200)))
    assert files.size(uri) == 200
    assert files.read_range(uri, 10, 5) == bytes(range(10, 15))
    assert files.read_range(uri, 0, 200) == bytes(range(200))
    assert files.read_range(uri, 500, 0) == b""
    for offset, length in ((190, 11), (200, 1), (300, 5)):
        with pytest.raises(OSError, match=re.escape(uri)):
            files.read_range(uri, offset, length)
    assert files.read_bytes(uri, max_bytes=200) == bytes(range(200))
    with pytest.raises(OSError, match=f"^{re.escape(uri)}: 200 bytes, more than the 199 that are allowed$"):
        files.read_bytes(uri, max_bytes=199)
    with files.open_file(uri) as stream:
        stream.seek(-10, io.SEEK_END)
        assert stream.read() == bytes(range(190, 200))
        stream.seek(0)
        assert stream.read(3) == b"\0\1\2"
    for read in (files.size, files.open_file):
        with pytest.raises(FileNotFoundError):
            read(uri + "-not")


def test_deleted_files_are_gone(root: str) -> None:
    uris = [write(root, name) for name in [*NAMES, "sub/a"]]
    kept = write(root, "kept")
    files.delete_files([*uris, files.join(root, "never there")])
    assert not any(exists(uri) for uri in uris) and exists(kept)


# --- addresses


def test_joins_with_one_slash() -> None:
    assert files.join("s3://bucket", "a", "b.c") == "s3://bucket/a/b.c"
    assert files.join("s3://bucket/x/", "a") == "s3://bucket/x/a"
    assert files.join("/some/dir/", "a") == "/some/dir/a"
    assert files.join("run", "a") == "run/a"
    assert files.join("/", "a") == "/a"


def test_local_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    for uri, path in {
        "runs/a": f"{tmp_path}/runs/a",
        "/abs/a": "/abs/a",
        "~/a": "/home/somebody/a",
        "~$a.docx": f"{tmp_path}/~$a.docx",
        "~nobody-of-this-name/a": f"{tmp_path}/~nobody-of-this-name/a",
        "file:///abs/a": "/abs/a",
        "odd:name": f"{tmp_path}/odd:name",
    }.items():
        filesystem, found = files.resolve(uri)
        assert isinstance(filesystem, fs.LocalFileSystem) and found == path


def test_a_file_uri_of_another_host_is_refused() -> None:
    with pytest.raises(UserError, match="file://host/a is not of this machine"):
        files.check_address("file://host/a")


def test_s3_addresses(bucket: str) -> None:
    for uri, path in {"/a/b": "/a/b", "/a/b/": "/a/b", "": "", "/": "", "/a b%20c": "/a b%20c"}.items():
        filesystem, found = files.resolve(bucket + uri)
        assert isinstance(filesystem, fs.S3FileSystem) and found == bucket.removeprefix("s3://") + path


@pytest.mark.parametrize(
    "uri", ["gs://bucket/a", "https://host/a", "s3a://bucket/a", "S3://bucket/a", "s3://", "s3:///a"]
)
def test_invalid_addresses_are_refused(uri: str) -> None:
    with pytest.raises(UserError, match=rf"^{uri}: [^\n]*s3://bucket/prefix$"):
        files.resolve(uri)
