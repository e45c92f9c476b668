"""Writes to a disk are atomic, even if it is full or the process is killed; what is no regular file is not read."""

import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from imagewizard import storage
from imagewizard.storage import Folder, local
from imagewizard.storage.local import LocalStore


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("kept", b"as it was")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        for name in ("kept", "new"):
            with pytest.raises(OSError, match="File too large"):
                folder.write(name, bytes(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert folder.read("kept") == b"as it was"
    assert folder.list() == ["kept"]
    assert folder.list("_tmp") == []


WRITER = """
import itertools, sys
from imagewizard.storage import Folder
for turn in itertools.count():
    Folder(sys.argv[1]).write("file", bytes([turn % 256]) * 2_000_000)
    print(turn, flush=True)
"""


def test_reader_sees_only_complete_files_during_writes_and_after_a_kill(tmp_path: Path) -> None:
    def whole() -> int:
        data = Folder(str(tmp_path)).read("file")
        assert len(data) == 2_000_000 and data.count(data[:1]) == len(data)
        return data[0]

    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()  # it has written once
        seen = {whole() for _ in range(100)}
        while len(seen) < 5:  # the writer may be slower
            seen.add(whole())
        writer.kill()
    whole()
    assert Folder(str(tmp_path)).list() == ["file"]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with one of each kind of what is no regular file, and links to regular ones."""
    folder = tmp_path / "odd"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "target").write_bytes(b"data")
    os.mkfifo(folder / "fifo")
    for name, target in (
        ("self", "self"),
        ("ping", "pong"),
        ("pong", "ping"),
        ("through", "self/x"),
        ("zero", "/dev/zero"),
        ("to_fifo", "fifo"),
        ("to_sub", "sub"),
        ("dangling", "nowhere"),
        ("file", "../target"),
        ("twice", "file"),
    ):
        (folder / name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(folder, os.O_RDONLY)  # a socket's path has at most 108 bytes
        server.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    return folder


IRREGULAR = {
    "fifo": "no regular file but a FIFO",
    "to_fifo": "no regular file but a FIFO",
    "socket": "no regular file but a socket",
    "zero": "no regular file but a device",
    "self": local.LOOP,
    "ping": local.LOOP,
    "pong": local.LOOP,
    "through": local.LOOP,
}


def test_a_listing_says_what_is_no_regular_file(odd: Path) -> None:
    listed = {name: (size, why) for page in LocalStore().pages(str(odd)) for name, size, why in page}
    assert listed == {name: (None, why) for name, why in IRREGULAR.items()} | {
        "to_sub": (None, local.FOLDER_LINK),
        "dangling": (None, None),  # a file that is gone
        "file": (4, None),
        "twice": (4, None),
    }
    # Links that lead nowhere are in no one's way.
    assert set(LocalStore().names(str(odd))) == {*listed, "sub/"} - {"to_sub"} | {"to_sub/"}
    assert set(LocalStore().versions(str(odd))) == {"file", "twice"}


@pytest.mark.parametrize("name", IRREGULAR)
def test_what_is_no_regular_file_is_never_read(odd: Path, name: str) -> None:
    for read in (
        lambda uri: storage.read_bytes(uri),
        lambda uri: storage.read_bytes(uri, 1000),
        lambda uri: storage.read_range(uri, 0, 10),
        storage.open_file,
        storage.size,
    ):
        with pytest.raises(storage.RefusedError, match=f"{odd}/{name}: {IRREGULAR[name]}"):
            read(str(odd / name))


def test_no_read_goes_beyond_its_limit_whatever_the_size_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "PIECE_BYTES", 100)
    whole = Path("/proc/self/environ").read_bytes()
    assert Path("/proc/self/environ").stat().st_size == 0 and len(whole) > 300
    assert storage.read_bytes("/proc/self/environ", len(whole)) == whole
    with pytest.raises(storage.RefusedError, match="more than the 250 bytes that are allowed"):
        storage.read_bytes("/proc/self/environ", 250)
    # A file of unlimited length that says 0 is read up to the limit and a byte.
    held = []

    class Growing:
        def read(self, size: int) -> bytes:
            held.append(size)
            return bytes(size)

    with pytest.raises(storage.RefusedError):
        local._read_within(Growing(), "uri", 0, 250)
    assert sum(held) == 251


def test_a_folder_that_vanishes_while_it_is_listed_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/x", "b/y"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    pages = LocalStore().pages(str(tmp_path))
    assert next(pages) == []
    (tmp_path / "b" / "y").unlink()
    (tmp_path / "b").rmdir()
    assert [name for page in pages for name, _, _ in page] == ["a/x"]
    with pytest.raises(FileNotFoundError):
        list(LocalStore().pages(str(tmp_path / "nowhere")))


@pytest.mark.parametrize("name", ["a b", "100%", "%41", "#1", "?x", "é", "x.tar#1"])
def test_file_uris_stand_for_the_paths_that_pathlib_wrote(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"data")
    for start in ("file://", "file://localhost", "file:"):
        uri = start + path.as_uri().removeprefix("file://")
        assert storage.read_bytes(uri) == b"data"
        assert storage.absolute(uri) == str(path)
    folder = Folder((tmp_path / f"{name} folder").as_uri())
    folder.write("50%25.png", b"output")
    assert (tmp_path / f"{name} folder" / "50%25.png").read_bytes() == b"output"
    assert storage.read_bytes(folder.uri_of("50%25.png")) == b"output"
    assert storage.read_bytes(storage.join(folder.uri, "50%25.png")) == b"output"
