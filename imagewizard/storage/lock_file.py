"""A small file with compare-and-swap."""

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol


class LockFile(Protocol):
    """Its methods raise OSError. A version is a text that changes with every replacement."""

    def weakness(self, probe: str) -> str | None:
        """What the storage does not keep of what `replace` promises; None if all. `probe`: an address to try it with.

        After it has looked, `replace` does what it can instead.
        """

    def read(self, brisk: bool = False) -> tuple[bytes, str] | None:
        """(content, version); None if the file is free. `brisk`: as in `replace`."""

    def age(self) -> float:
        """Seconds since it was written, by the storage's clock, which all hosts share."""

    def replace(self, version: str | None, content: bytes, brisk: bool = False) -> str | None:
        """Writes the file if it has this version (None: if it is free). Its new version; None if it was not written.

        `brisk`: fails soon, instead of waiting for storage that does not answer.
        """

    def free(self, version: str) -> None:
        """Frees the file if it still has this version."""


class LocalLockFile:
    """Replaced in place, under flock. An empty file is free. It is never deleted: otherwise two processes could hold
    the flock of two files of the same name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def weakness(self, probe: str) -> None:
        """Nothing: where there is no flock, `replace` raises."""

    def read(self, brisk: bool = False) -> tuple[bytes, str] | None:
        try:
            with self._path.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH)
                content = stream.read()
        except FileNotFoundError:
            return None
        return (content, _version(content)) if content else None

    def age(self) -> float:
        probe = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}")
        try:
            probe.touch()
            now = probe.stat().st_mtime
            probe.unlink()
        except OSError:  # a folder that may only be read, for example by `status`: this machine's clock must do
            now = time.time()
        return now - self._path.stat().st_mtime

    def replace(self, version: str | None, content: bytes, brisk: bool = False) -> str | None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as (stream, current):
            if (_version(current) if current else None) != version:
                return None
            # Overwritten in place, so that a heartbeat needs no room on a full disk.
            os.pwrite(stream.fileno(), content, 0)
            stream.truncate(len(content))
        return _version(content)

    def free(self, version: str) -> None:
        with self._locked() as (stream, current):
            if _version(current) == version:
                stream.truncate(0)

    @contextmanager
    def _locked(self) -> Iterator[tuple[BinaryIO, bytes]]:
        """The file and its content, while nobody else can replace it."""
        with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # until it is closed, at the latest by the death of the process
            yield stream, stream.read()


def _version(content: bytes) -> str:
    return content.decode(errors="replace")
