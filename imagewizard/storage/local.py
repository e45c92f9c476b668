"""Files on this machine's disks."""

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from imagewizard.errors import UserError
from imagewizard.storage.lock_file import LocalLockFile, LockFile

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import fs

# Names of a page of a listing: a folder of a million files is never held as a whole.
PAGE_NAMES = 10_000


class LocalStore:
    """A `stores.Store` of paths, absolute or relative to the working folder, and file:// URIs."""

    def check_address(self, uri: str) -> None:
        pass

    def check_answers(self, uri: str) -> None:
        pass

    def check_writable(self, uri: str) -> None:
        folder = _path(uri)
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir():
            raise UserError(f"{existing} is a file", "give a folder")
        # Tried, because permissions do not bind root, and a disk may be read-only.
        probe = existing / f".imagewizard-{uuid.uuid4().hex}"
        try:
            probe.touch()
            probe.unlink()
        except OSError:
            raise UserError(f"{existing} is not writable", "give another folder or change its permissions") from None

    def local_path(self, uri: str) -> Path:
        return _path(uri)

    def resolve(self, uri: str) -> "tuple[fs.FileSystem, str]":
        from pyarrow import fs

        return fs.LocalFileSystem(), str(_path(uri))

    def kind(self, uri: str) -> str | None:
        path = _path(uri)
        # A dangling link is a file, which reading it will complain of.
        return "folder" if path.is_dir() else "file" if os.path.lexists(path) else None

    def read(self, uri: str, max_bytes: int | None = None, version: str | None = None) -> bytes:
        with _path(uri).open("rb") as stream:
            status = os.fstat(stream.fileno())
            if max_bytes is not None and status.st_size > max_bytes:
                raise OSError(f"{uri}: {status.st_size} bytes, more than the {max_bytes} that are allowed")
            if version not in (None, _version(status)):
                raise OSError(f"{uri}: changed while it was read")
            return stream.read()

    def read_range(self, uri: str, offset: int, length: int) -> bytes:
        with _path(uri).open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
        if len(data) != length:
            raise OSError(f"{uri}: {len(data)} bytes where {length} from byte {offset} on were asked for")
        return data

    def open(self, uri: str) -> BinaryIO:
        return _path(uri).open("rb")

    def names(self, uri: str) -> Iterator[str]:
        with os.scandir(_path(uri)) as entries:
            yield from sorted(entry.name + ("/" if entry.is_dir() else "") for entry in entries)

    def versions(self, uri: str) -> dict[str, str]:
        with os.scandir(_path(uri)) as entries:
            return {entry.name: _version(entry.stat()) for entry in entries if entry.is_file()}

    def pages(self, uri: str) -> Iterator[list[tuple[str, int | None]]]:
        """Sorted by name within a folder, as long as that does not hold more than PAGE_NAMES."""
        root, pending = str(_path(uri)).rstrip("/"), [""]
        while pending:
            below = pending.pop()
            folder = f"{root}/{below}"
            try:
                with os.scandir(folder) as entries:
                    while page := sorted(itertools.islice(entries, PAGE_NAMES), key=lambda entry: entry.name):
                        # Links to folders are neither listed nor followed: they may lead back here.
                        pending += [f"{below}{entry.name}/" for entry in page if entry.is_dir(follow_symlinks=False)]
                        yield [(_text(below + entry.name), _size(entry)) for entry in page if not entry.is_dir()]
            except PermissionError:
                raise UserError(
                    f"{folder} may not be listed", "change its permissions, or give the folders beside it"
                ) from None

    def write(self, uri: str, data: "bytes | pa.Buffer", scratch: str, *, new: bool = False) -> bool:
        path, folder = _path(uri), _path(scratch)
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with _whole(path, folder, os.link if new else os.replace) as stream:
                stream.write(data)
        except FileExistsError:
            return False
        return True

    def writer(self, uri: str) -> AbstractContextManager[BinaryIO]:
        path = _path(uri)
        return _whole(path, path.parent, os.replace)

    def delete(self, uris: list[str]) -> None:
        for uri in uris:
            _path(uri).unlink(missing_ok=True)

    def lock_file(self, uri: str) -> LockFile:
        return LocalLockFile(_path(uri))


def _path(uri: str) -> Path:
    return Path(uri.removeprefix("file://")).expanduser().absolute()


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}"


def _text(path: str) -> str:
    """The path, or what says that it is not in UTF-8, so that the file cannot be named in a manifest."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"{path!a} (not UTF-8)"
    return path


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_size
    except OSError:  # a dangling link: a file, which reading it will complain of
        return None


@contextmanager
def _whole(path: Path, folder: Path, put: Callable[[Path, Path], None]) -> Iterator[BinaryIO]:
    """A stream into a file in `folder` (on the same disk) that `put` gives its name in the end."""
    partial = folder / f"{path.name}.{uuid.uuid4().hex}"
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)
