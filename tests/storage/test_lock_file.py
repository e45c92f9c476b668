"""Compare-and-swap of a lock file: one of several callers wins, on disk and on a real S3 server."""

import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagewizard import storage
from imagewizard.storage import stores
from imagewizard.storage.lock_file import LockFile
from tests.support.s3_faults import FaultyS3


def at(uri: str) -> LockFile:
    return stores.of(uri).lock_file(uri)


@pytest.fixture(params=["local", "s3"])
def uri(request: pytest.FixtureRequest) -> str:
    folder = request.getfixturevalue("tmp_path") if request.param == "local" else None
    return f"{folder}/run/lock" if folder else f"{request.getfixturevalue('faulty_s3').bucket}/run/lock"


def test_replaced_only_if_unchanged_since_it_was_read(uri: str) -> None:
    file, other = at(uri), at(uri)
    assert file.read() is None
    assert file.replace("some version", b"content") is None and file.read() is None
    first = file.replace(None, b"first, the longer one")
    assert first is not None and other.read() == (b"first, the longer one", first)
    assert other.replace(None, b"content") is None
    second = other.replace(first, b"second")
    assert second is not None and file.read() == (b"second", second)
    assert file.replace(first, b"third") is None
    file.free(first)
    assert file.read() == (b"second", second)
    file.free(second)
    assert file.read() is None and other.read() is None
    assert other.replace(second, b"fourth") is None
    assert other.replace(None, b"fourth") is not None


def test_one_of_many_callers_replaces_it(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_write(stream: int, content: bytes, offset: int) -> int:
        time.sleep(0.02)  # all have read it by then
        return write(stream, content, offset)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", slow_write)

    def attempt(number: int) -> bool:
        return at(uri).replace(version, b"%d %d" % (turn, number)) is not None

    version: str | None = None
    with ThreadPoolExecutor(8) as pool:
        for turn in range(10):
            won = [number for number, has in enumerate(pool.map(attempt, range(8))) if has]
            found = at(uri).read()
            assert len(won) == 1 and found is not None and found[0] == b"%d %d" % (turn, won[0])
            version = found[1]


def test_age_by_the_clock_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = at(f"{tmp_path}/lock")
    file.replace(None, b"content")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert file.age() < 100
    os.utime(tmp_path / "lock", (0, (tmp_path / "lock").stat().st_mtime - 1000))
    assert 1000 <= file.age() < 1300
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_age_on_a_read_only_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError

    file = at(f"{tmp_path}/lock")
    file.replace(None, b"content")
    monkeypatch.setattr(Path, "touch", refuse)  # permissions do not bind root
    os.utime(tmp_path / "lock", (0, time.time() - 1000))
    assert 1000 <= file.age() < 1300


def test_age_by_the_clock_of_the_server(faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    file = at(f"{faulty_s3.bucket}/lock")
    assert file.age() == float("inf")
    file.replace(None, b"content")
    faulty_s3.clock_ahead = 1000.0
    assert 998 <= file.age() < 1300


def test_a_local_file_is_overwritten_in_place(tmp_path: Path) -> None:
    """A rename would leave a waiting process with the flock of a deleted file; a full disk has no free block."""
    file = at(f"{tmp_path}/lock")
    version = file.replace(None, b"content")
    before = (tmp_path / "lock").stat()
    assert version is not None and file.replace(version, b"other") is not None
    assert (tmp_path / "lock").stat().st_ino == before.st_ino
    assert stat.S_IMODE(before.st_mode) & 0o444 == 0o444


def test_errors_are_os_errors(faulty_s3: FaultyS3, tmp_path: Path) -> None:
    calls: list[Callable[[LockFile], object]] = [
        lambda file: file.read(),
        lambda file: file.age(),
        lambda file: file.replace(None, b"content"),
        lambda file: file.free("version"),
    ]
    faulty_s3.denied = "lock"
    (tmp_path / "file").touch()
    for call in calls:
        with pytest.raises(PermissionError):
            call(at(f"{faulty_s3.bucket}/lock"))
        with pytest.raises(OSError):
            call(at(f"{tmp_path}/file/lock"))


def test_brisk_writes_fail_fast(faulty_s3: FaultyS3) -> None:
    faulty_s3.slow_down = 1.0
    with pytest.raises(OSError, match="SlowDown"):
        at(f"{faulty_s3.bucket}/lock").replace(None, b"content", brisk=True)
    with pytest.raises(OSError, match="SlowDown"):
        at(f"{faulty_s3.bucket}/lock").read(brisk=True)
    assert faulty_s3.requests == {"PUT": 3, "GET": 3}
    faulty_s3.slow_down, faulty_s3.ignored = 0.0, {"If-Match"}
    looking = at(f"{faulty_s3.bucket}/lock")
    assert looking.weakness(f"{faulty_s3.bucket}/probe") is not None
    faulty_s3.requests.clear()
    faulty_s3.slow_down = 1.0
    with pytest.raises(OSError, match="lock: 503"):
        looking.replace(None, b"content", brisk=True)
    assert faulty_s3.requests == {"HEAD": 3}
    faulty_s3.slow_down = 0.0
    assert not storage.Folder(faulty_s3.bucket).exists("lock")
