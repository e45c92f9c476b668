"""Takes wanted files out of a tar or zip archive, whoever made it."""

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from imagewizard.errors import one_line

# An uncompressed image of 481 x 321 has 463 kB: what declares far more would fill the disk, and is none of them.
MAX_MEMBER_BYTES = 16 << 20
# Of all wanted files together: BSDS500's have 40 MB.
MAX_BYTES = 1 << 30

Place = Callable[[PurePosixPath], str | None]


class ArchiveError(Exception):
    """An archive that cannot be used; the message says why, not which."""


def unpack(archive: Path, folder: Path, place: Place) -> None:
    """Writes each member for which `place` gives a name to `folder`/name; everything else stays in the archive.

    Raises ArchiveError if a member's path or a link leads elsewhere, if two want one name, if the files are too large,
    or if the archive cannot be unpacked.
    """
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                # Python 3.11.0 to 3.11.3 have no filters; there the names and kinds that _Wanted lets through suffice.
                tar.extraction_filter = getattr(tarfile, "data_filter", None)
                tar.extractall(folder, members=_tar_members(tar, _Wanted(place)))  # noqa: S202 (see there)
                # A tar ends before the file does, and only at the file's end does gzip compare its checksum.
                while tar.fileobj is not None and tar.fileobj.read(1 << 20):
                    pass
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                wanted = _Wanted(place)
                for info in zipped.infolist():
                    is_link = stat.S_ISLNK(info.external_attr >> 16)
                    if not info.is_dir() and (name := wanted.name(info.filename, info.file_size, not is_link)):
                        info.filename = name
                        zipped.extract(info, folder)
        else:
            raise ArchiveError("it is no tar or zip archive")
    # OSError: gzip's wrong checksum, and a full disk; ValueError: impossible names; RuntimeError: encrypted, or a
    # compression that zipfile does not know.
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise ArchiveError(f"it cannot be unpacked ({one_line(error)})") from None


def _tar_members(tar: tarfile.TarFile, wanted: "_Wanted") -> Iterator[tarfile.TarInfo]:
    for member in tar:
        if not member.isdir() and (name := wanted.name(member.name, member.size, member.isreg())):
            member.name = name
            yield member


class _Wanted:
    """Decides on the members of one archive."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sizes: dict[str, int] = {}

    def name(self, member: str, size: int, is_file: bool) -> str | None:
        """The name to write a member to; None if it is not wanted. Raises ArchiveError if the archive is hostile."""
        path = PurePosixPath(member.replace("\\", "/"))  # as some zip programs write them
        if path.is_absolute() or ".." in path.parts:
            raise ArchiveError(f"its member {member!r} points outside")
        name = self._place(path)
        if name is None:
            return None
        if not is_file:
            raise ArchiveError(f"its member {member!r} is a link and no file")
        if name in self._sizes:
            raise ArchiveError(f"its member {member!r} is there twice")
        self._sizes[name] = size
        if size > MAX_MEMBER_BYTES or sum(self._sizes.values()) > MAX_BYTES:
            raise ArchiveError(f"its member {member!r} has {size} bytes, more than is left for images")
        return name
