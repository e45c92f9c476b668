"""Where files can lie: one store for each scheme of an address, all behind the same protocol."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from imagewizard.errors import UserError
from imagewizard.storage.local import Listed, LocalStore
from imagewizard.storage.lock_file import LockFile

if TYPE_CHECKING:  # half of the commands never ask for a filesystem
    import pyarrow as pa
    from pyarrow import fs


class Store(Protocol):
    """Files under one scheme. Methods raise OSError (FileNotFoundError, PermissionError among them), unless they say
    UserError; `uri` is a file's or a folder's full address."""

    def check_address(self, uri: str) -> None:
        """Raises UserError if no file can have this address."""

    def check_answers(self, uri: str) -> None:
        """Raises UserError, within seconds, unless what holds the files answers; all else waits out an outage."""

    def check_writable(self, uri: str) -> None:
        """Raises UserError, within seconds, unless this is, or can become, a folder that we may write."""

    def local_path(self, uri: str) -> Path | None:
        """Where this machine's programs find the file or folder; None if they cannot."""

    def resolve(self, uri: str) -> "tuple[fs.FileSystem, str]":
        """(pyarrow's filesystem, path in it). Raises UserError if the store cannot be found."""

    def kind(self, uri: str) -> str | None:
        """file, folder, or None if there is neither. Raises UserError if that cannot be told."""

    def read(self, uri: str, max_bytes: int | None = None, version: str | None = None) -> bytes:
        """The whole file. OSError, before anything is read, if it has more than `max_bytes` or is not of `version`."""

    def read_range(self, uri: str, offset: int, length: int) -> bytes:
        """`length` bytes (not 0) from `offset` on. OSError if the file ends before."""

    def open(self, uri: str) -> BinaryIO:
        """The file, to be read from anywhere."""

    def names(self, uri: str) -> Iterator[str]:
        """What lies directly in a folder; the names of folders end in a slash."""

    def versions(self, uri: str) -> dict[str, str]:
        """{name: a text that changes when the file does} of the files directly in a folder."""

    def pages(self, uri: str, *, in_order: bool = False) -> Iterator[list[Listed]]:
        """All files below a folder at any depth, some thousands at a time. UserError if one may not be listed.

        `in_order`: in an order that is the same the next time, even where another is faster.
        """

    def write(self, uri: str, data: "bytes | pa.Buffer", scratch: str, *, new: bool = False) -> bool:
        """Writes a file that is there as a whole or not at all, if need be through the folder `scratch`.

        `new`: only if there is no such file, and False if there is. Of several callers one wins.
        """

    def writer(self, uri: str) -> AbstractContextManager[BinaryIO]:
        """A stream into a file that is there once the context ends without an error, and not before.

        Raises OSError or UserError on entry if it cannot be written.
        """

    def delete(self, uris: list[str]) -> None:
        """Deletes files, of which some may not be there. After an OSError some of the rest may be left."""

    def lock_file(self, uri: str) -> LockFile:
        """A small file with compare-and-swap."""


@functools.cache
def _local() -> Store:
    return LocalStore()


@functools.cache
def _s3() -> Store:
    # boto3 takes half a second, which work on local files need not pay.
    from imagewizard.storage.s3_store import S3Store

    return S3Store()


STORES: dict[str, Callable[[], Store]] = {"": _local, "file": _local, "s3": _s3}
"""{scheme: what gives its store}; a plain path has the scheme ""."""


def of(uri: str) -> Store:
    """The store of an address. Raises UserError for a scheme that has none."""
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if scheme not in STORES:
        raise UserError(f"{uri}: {scheme}:// is not supported", "give a local path or s3://bucket/prefix")
    return STORES[scheme]()
