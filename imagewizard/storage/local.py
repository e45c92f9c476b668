"""Files on this machine's disks."""

import errno
import itertools
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote_to_bytes

from imagewizard.errors import UserError
from imagewizard.storage.lock_file import LocalLockFile, LockFile
from imagewizard.storage.refusal import RefusedError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import fs

# Names of a page of a listing: a folder of a million files is never held as a whole.
PAGE_NAMES = 10_000
# What is read at a time of a file that holds more than its size says, as those in /proc do.
PIECE_BYTES = 1 << 20

NOT_UTF8 = "the name is not UTF-8"
FOLDER_LINK = "a link to a folder, which is not followed"
LOOP = "a link that leads back to itself"
_KINDS = {S_IFIFO: "FIFO", S_IFSOCK: "socket", S_IFCHR: "device", S_IFBLK: "device"}

# A file of a listing: (path below the folder, bytes where they are known, why it is no file to read or None).
Listed = tuple[str, int | None, str | None]


class LocalStore:
    """A `stores.Store` of paths, absolute or relative to the working folder, and file:// URIs."""

    def check_address(self, uri: str) -> None:
        if uri.startswith("file:") and not plain_path(uri).startswith("/"):
            raise UserError(f"{uri} is not of this machine", "write file:///PATH, or the path alone")

    def check_answers(self, uri: str) -> None:
        pass

    def check_writable(self, uri: str) -> None:
        folder = _path(uri)
        existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if existing.is_symlink() and not existing.exists():
            raise UserError(f"{existing} is a link that leads nowhere", "give a folder, or take the link away")
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
        with _open(uri) as stream:
            status = os.fstat(stream.fileno())
            if max_bytes is not None and status.st_size > max_bytes:
                raise RefusedError(f"{uri}: {status.st_size} bytes, more than the {max_bytes} that are allowed")
            if version not in (None, _version(status)):
                raise OSError(f"{uri}: changed while it was read")
            return stream.read() if max_bytes is None else _read_within(stream, uri, status.st_size, max_bytes)

    def read_range(self, uri: str, offset: int, length: int) -> bytes:
        with _open(uri) as stream:
            stream.seek(offset)
            data = stream.read(length)
        if len(data) != length:
            raise OSError(f"{uri}: {len(data)} bytes where {length} from byte {offset} on were asked for")
        return data

    def open(self, uri: str) -> BinaryIO:
        return _open(uri)

    def names(self, uri: str) -> Iterator[str]:
        with os.scandir(_path(uri)) as entries:
            yield from sorted(entry.name + ("/" if _is_kind(entry, S_IFDIR) else "") for entry in entries)

    def versions(self, uri: str) -> dict[str, str]:
        with os.scandir(_path(uri)) as entries:
            return {entry.name: _version(entry.stat()) for entry in entries if _is_kind(entry, S_IFREG)}

    def pages(self, uri: str, *, in_order: bool = False) -> Iterator[list[Listed]]:
        """Sorted by name within a folder, as long as that does not hold more than PAGE_NAMES."""
        root, pending = str(_path(uri)).rstrip("/"), [""]
        while pending:
            below = pending.pop()
            folder = f"{root}/{below}"
            try:
                with os.scandir(folder) as entries:
                    while page := sorted(itertools.islice(entries, PAGE_NAMES), key=lambda entry: entry.name):
                        # Links to folders are not followed: they may lead back here.
                        files = [entry for entry in page if not entry.is_dir(follow_symlinks=False)]
                        if len(files) < len(page):
                            folders = [f"{below}{each.name}/" for each in page if each.is_dir(follow_symlinks=False)]
                            pending += reversed(folders)
                        yield [_listed(below, entry) for entry in files]
            except FileNotFoundError:  # deleted since its parent was listed
                if not below:
                    raise
            except OSError as error:
                raise UserError(
                    f"{folder} may not be listed ({error.strerror})", "mend that, or give the folders beside it"
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


_FILE_URI = re.compile("file:(//(localhost(?=/))?|(?=/))")


def plain_path(uri: str) -> str:
    """The path that a file:// URI, as `Path.as_uri` writes it, stands for; any other address as it is."""
    match = _FILE_URI.match(uri)
    return uri if match is None else os.fsdecode(unquote_to_bytes(uri[match.end() :]))


def expanded(path: str) -> Path:
    """The path with the home folder in place of a `~` at its start; where no user is called x, `~x` is but a name."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises where there is no such user)


def _path(uri: str) -> Path:
    return expanded(plain_path(uri)).absolute()


def _open(uri: str) -> BinaryIO:
    """Raises RefusedError for what is no regular file: a FIFO waits for a writer, and a device may have no end."""
    path = _path(uri)
    try:
        kind = S_IFMT(path.stat().st_mode)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise RefusedError(f"{uri}: {LOOP}") from None
    if kind in _KINDS:
        raise RefusedError(f"{uri}: {_irregular(kind)}")
    # Should it become a FIFO now, opening it does not wait.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def _irregular(kind: int) -> str:
    return f"no regular file but a {_KINDS[kind]}"


def _read_within(stream: BinaryIO, uri: str, size: int, max_bytes: int) -> bytes:
    """The rest of the stream, which should have `size` bytes. Raises RefusedError once it has more than `max_bytes`."""
    data = stream.read(size + 1)
    if len(data) <= size:
        return data
    whole = bytearray(data)
    while len(whole) <= max_bytes and (piece := stream.read(min(PIECE_BYTES, max_bytes + 1 - len(whole)))):
        whole += piece
    if len(whole) > max_bytes:
        raise RefusedError(f"{uri}: more than the {max_bytes} bytes that are allowed")
    return bytes(whole)


def _is_kind(entry: os.DirEntry[str], kind: int) -> bool:
    """Whether the entry, or what it links to, is of this kind."""
    try:
        return S_IFMT(entry.stat().st_mode) == kind
    except OSError:  # a link that leads nowhere, or back to itself
        return False


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}"


def _listed(below: str, entry: os.DirEntry[str]) -> Listed:
    path = below + entry.name
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:  # no manifest can name it
            return ascii(path), None, NOT_UTF8
    try:
        status = entry.stat()
    except OSError as error:
        # A link that leads nowhere is a file, which reading it will complain of.
        return path, None, LOOP if error.errno == errno.ELOOP else None
    kind = S_IFMT(status.st_mode)
    if kind == S_IFREG:
        return path, status.st_size, None
    return path, None, FOLDER_LINK if kind == S_IFDIR else _irregular(kind)


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
