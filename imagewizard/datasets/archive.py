"""Takes wanted files out of a tar or zip archive, whoever made it."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

# An uncompressed image of 481 x 321 has 463 kB: what declares far more would fill the disk, and is none of them.
MAX_MEMBER_BYTES = 16 << 20

# Name, declared size, and what opens it; None where it is no file of its own (a link, a device).
_Member = tuple[str, int, Callable[[], IO[bytes] | None] | None]


class ArchiveError(Exception):
    """An archive that cannot be used; the message says why, not which."""


def unpack(archive: Path, folder: Path, place: Callable[[PurePosixPath], str | None]) -> None:
    """Writes each member for which `place` gives a name to `folder`/name; everything else stays in the archive.

    Members are copied as streams to names that `place` makes, so that no path and no link in the archive leads
    elsewhere. Raises ArchiveError if one tries, if two want one name, or if it cannot be unpacked.
    """
    try:
        for name, size, opener in _members(archive):
            path = PurePosixPath(name.replace("\\", "/"))  # as some zip programs write them
            if path.is_absolute() or ".." in path.parts:
                raise ArchiveError(f"its member {name!r} points outside")
            if wanted := place(path):
                if opener is None:
                    raise ArchiveError(f"its member {name!r} is a link and no file")
                if size > MAX_MEMBER_BYTES:
                    raise ArchiveError(f"its member {name!r} has {size} bytes")
                _copy(opener, folder / wanted, name)
    # OSError: gzip's wrong checksum, and a full disk; ValueError: impossible names; RuntimeError: encrypted, or a
    # compression that zipfile does not know.
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise ArchiveError(f"it cannot be unpacked ({' '.join(str(error).split())})") from None


def _members(archive: Path) -> Iterator[_Member]:
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isdir():
                    yield member.name, member.size, partial(tar.extractfile, member) if member.isreg() else None
            # A tar ends before the file does, and only at the file's end does gzip compare its checksum.
            while tar.fileobj is not None and tar.fileobj.read(1 << 20):
                pass
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    is_link = stat.S_ISLNK(info.external_attr >> 16)
                    yield info.filename, info.file_size, None if is_link else partial(zipped.open, info)
    else:
        raise ArchiveError("it is no tar or zip archive")


def _copy(opener: Callable[[], IO[bytes] | None], target: Path, name: str) -> None:
    if target.exists():
        raise ArchiveError(f"its member {name!r} is there twice")
    target.parent.mkdir(parents=True, exist_ok=True)
    source = opener()
    assert source is not None  # extractfile gives None for links and devices only
    with source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
