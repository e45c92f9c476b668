"""Single files and folders, local or s3://, by their addresses. What a program writes goes through `Folder`."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from imagewizard.errors import UserError
from imagewizard.storage import stores
from imagewizard.storage.local import NOT_UTF8, expanded, plain_path

if TYPE_CHECKING:
    from pyarrow import fs


def absolute(uri: str) -> str:
    """A URI without a slash at its end; a local path, also of a file:// URI, made absolute."""
    path = plain_path(uri)
    return path.rstrip("/") if "://" in path else str(expanded(path).absolute())


def join(uri: str, *parts: str) -> str:
    """`uri` with path segments below it; for a file:// URI the path that it stands for."""
    return "/".join([plain_path(uri).rstrip("/"), *parts])


def check_address(uri: str) -> None:
    """Raises UserError if there can be no file of that name: another scheme, a bucket alone, a NUL in it."""
    if "\0" in uri:
        raise UserError(f"{uri!r}: a name has no NUL", "correct the name")
    stores.of(uri).check_address(uri)


def check_utf8(uri: str) -> None:
    """Raises UserError if the address is not UTF-8: no file of ours can hold it then."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise UserError(f"{uri!a}: {NOT_UTF8}", "rename it") from None


def resolve(uri: str) -> "tuple[fs.FileSystem, str]":
    """(pyarrow's filesystem, path in it), for datasets and Ray Train.

    S3 goes by the standard AWS chain and `AWS_ENDPOINT_URL`. Raises UserError for schemes that are not supported, and
    if the bucket's region cannot be found out.
    """
    return stores.of(uri).resolve(uri)


def local_path(uri: str) -> Path | None:
    """Where this machine's programs find the file or folder; None if it is not on this machine's disks."""
    return stores.of(uri).local_path(uri)


def size(uri: str) -> int:
    """Bytes of a file. Raises OSError (FileNotFoundError among them)."""
    with open_file(uri) as stream:
        return stream.seek(0, io.SEEK_END)


def read_bytes(uri: str, max_bytes: int | None = None, version: str | None = None) -> bytes:
    """The whole file, from S3 in one request. Raises OSError (FileNotFoundError, PermissionError among them).

    Also, before anything is read, if it has more than `max_bytes` or is not of this version (see `Store.versions`).
    """
    return stores.of(uri).read(uri, max_bytes, version)


def read_range(uri: str, offset: int, length: int) -> bytes:
    """`length` bytes of a file from `offset` on. Raises OSError, also if the file ends before."""
    return stores.of(uri).read_range(uri, offset, length) if length else b""


def open_file(uri: str) -> BinaryIO:
    """The file, to be read from anywhere. Raises OSError, now or on reading."""
    return stores.of(uri).open(uri)


def delete_files(uris: list[str]) -> None:
    """Deletes files, of which some may not be there. Raises OSError; of the rest some may be left then."""
    by_store: dict[stores.Store, list[str]] = {}
    for uri in uris:
        by_store.setdefault(stores.of(uri), []).append(uri)
    for store, theirs in by_store.items():
        store.delete(theirs)
