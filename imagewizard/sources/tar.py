"""Tar shards of images, as WebDataset has them: listed by their headers, read by offset, and written.

Names in a tar are ids and nothing else: no member is ever unpacked to a path, and a link leads to a member of the same
tar or nowhere.
"""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple, cast

from imagewizard import storage
from imagewizard.errors import one_line
from imagewizard.images.formats import is_image_name
from imagewizard.sources import tar_links
from imagewizard.sources.tar_links import Link

SUFFIX = ".tar"
COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")

# Members no further apart than this are read together: a request costs more than these bytes …
GAP_BYTES = 64 << 10
# … up to this many at once, which is what a block of images may hold.
READ_BYTES = 64 << 20

# Headers hold names and attributes.
HEADER_BYTES = 16 << 20
# tar pads with zeros to 10 kB, some programs to a megabyte; a sparse file may hold terabytes of them.
END_BYTES = 64 << 20

# What the module tarfile raises for a damaged header: besides its own errors, those for text in the place of a number
# and for lengths beyond any memory.
_DAMAGE = (tarfile.TarError, ValueError, IndexError, OverflowError, MemoryError, RecursionError)


NO_FILE = "in a tar, and neither a file nor a link to one"
NO_TARGET = "a link in a tar that leads to no file of the tar"
_NO_PLACE = (
    "its place in the shard is unknown: the shard is damaged, as image_id says, or this is a sparse file, "
    "or the manifest lacks its offset or bytes"
)
_CUT = "the shard ends before its contents do: it was cut off, or changed since it was listed"


class Member(NamedTuple):
    """An image in a shard."""

    name: str
    offset: int | None
    """Where its contents begin, in bytes; None if they are not in one piece (stored as a sparse file)."""
    size: int


class Damage(NamedTuple):
    """Where the shard can be listed no further; what comes after is unknown."""

    at: int
    """In bytes; 0: it is no tar."""
    reason: str


def members(uri: str, skip: Callable[[str, str | None], None]) -> Iterator[Member | Damage]:
    """The images in a shard, from its headers alone: regular files in order, links to such; then Damage, if any.

    `skip` is called with the name of everything else but folders, and with the reason if it is not that the name is
    none of an image. Raises OSError if the shard cannot be opened.
    """
    with storage.open_file(uri) as stream:
        links: list[tuple[str, Link]] = []
        damage = None
        for found in _headers(stream):
            if isinstance(found, Damage):
                damage = found
            elif found.islnk() or found.issym():
                links.append((found.name, Link.of(found)))
            elif found.isreg():
                if is_image_name(found.name):
                    yield Member(found.name, _place(found), found.size)
                else:
                    skip(found.name, None)
            elif not found.isdir():
                skip(found.name, NO_FILE)
        if links:
            yield from _linked(stream, links, skip)
        if damage is not None:
            yield damage


def _linked(
    stream: BinaryIO, links: list[tuple[str, Link]], skip: Callable[[str, str | None], None]
) -> Iterator[Member]:
    """The links to regular files, as members with the name of the link; a second reading of the headers finds them."""
    stream.seek(0)
    headers = (header for header in _headers(stream) if not isinstance(header, Damage))
    targets = tar_links.targets([link for _, link in links], headers)
    for (name, _), target in zip(links, targets, strict=True):
        if not is_image_name(name):
            skip(name, None)
        elif target is None:
            skip(name, NO_TARGET)
        else:
            yield Member(name, _place(target), target.size)


def _place(info: tarfile.TarInfo) -> int | None:
    return None if info.sparse else info.offset_data


def _headers(stream: BinaryIO) -> Iterator[tarfile.TarInfo | Damage]:
    """The headers of a tar in order; Damage, if any, comes last."""
    end = 0
    try:
        with tarfile.open(fileobj=cast(BinaryIO, _Bounded(stream)), mode="r:") as tar:
            while (info := tar.next()) is not None:
                if tar.offset <= end or info.size < 0:
                    raise tarfile.ReadError("a header with a negative size")
                end = tar.offset
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                # Bytes that are no UTF-8 tarfile gives as surrogates, which Parquet cannot hold.
                info.name, info.linkname = (_text(name) for name in (info.name, info.linkname))
                yield info
            # tarfile ends silently at a broken header, unless it is the first one.
            if (reason := _missing_end(stream, tar.offset)) is not None:
                yield Damage(tar.offset, reason)
    except _DAMAGE as error:
        yield Damage(min(end, _size(stream)), one_line(error) or type(error).__name__)
    except OSError as error:
        yield Damage(end, one_line(error))


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


class _Bounded:
    """A stream for tarfile, which reads as much as a header says that it is long."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if size > HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)


def _missing_end(stream: BinaryIO, offset: int) -> str | None:
    """None if the tar ends at `offset` as it should: in zeros, a block at least, as far as END_BYTES are looked at."""
    stream.seek(offset)
    piece = stream.read(tarfile.BLOCKSIZE)
    if not piece:
        return "it was cut off: its end mark is missing"
    left = END_BYTES
    while piece:
        if any(piece):
            return "no header where one should be"
        piece = stream.read(min(1 << 20, left))
        left -= len(piece)
    return None


def _size(stream: BinaryIO) -> int:
    return stream.seek(0, io.SEEK_END)


def read(uri: str, wanted: list[tuple[int | None, int | None]]) -> list[bytes | OSError]:
    """The contents of members at (offset, size), in order; in the place of one that cannot be read, why not.

    Neighbours are read together. A place that is unknown (None) is that of a member that could not be listed.
    """
    found: list[bytes | OSError] = [OSError(_NO_PLACE)] * len(wanted)
    known = enumerate(wanted)
    places = [_Place(offset, size, i) for i, (offset, size) in known if offset is not None and size is not None]
    for group in _neighbours(sorted(places)):
        for place, content in zip(group, _read_group(uri, group), strict=True):
            found[place.slot] = content
    return found


class _Place(NamedTuple):
    offset: int
    size: int
    slot: int
    """Its number among the wanted."""

    @property
    def end(self) -> int:
        return self.offset + self.size


def _neighbours(places: list[_Place]) -> Iterator[list[_Place]]:
    group: list[_Place] = []
    for place in places:
        if group and (place.offset - group[-1].end > GAP_BYTES or place.end - group[0].offset > READ_BYTES):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _read_group(uri: str, group: list[_Place]) -> list[bytes | OSError]:
    first, end = group[0].offset, max(place.end for place in group)
    try:
        data = memoryview(storage.read_range(uri, first, end - first))
        return [bytes(data[place.offset - first : place.end - first]) for place in group]
    except OSError as error:
        reason = error
    try:
        there = storage.size(uri)
    except OSError as error:
        return [error] * len(group)
    if end <= there:
        return [reason] * len(group)
    # The file ends too early: only the members beyond its end fail.
    whole = [place for place in group if place.end <= there]
    contents = iter(_read_group(uri, whole) if whole else ())
    return [next(contents) if place.end <= there else OSError(_CUT) for place in group]


def numbered(name: str, offset: int | None) -> str:
    """What tells a member from others of its name in the same shard."""
    return f"{name}#{offset}"


def read_member(uri: str, name: str, max_bytes: int | None = None) -> bytes:
    """The contents of the first member of that name, or that is `numbered` so; the headers before it are read.

    Raises OSError, also if it has more than `max_bytes`.
    """
    for found in members(uri, lambda name, reason: None):
        if isinstance(found, Member) and name in (found.name, numbered(found.name, found.offset)):
            if max_bytes is not None and found.size > max_bytes:
                raise storage.RefusedError(f"{name}: {found.size} bytes, more than the {max_bytes} that are allowed")
            [content] = read(uri, [(found.offset, found.size)])
            if isinstance(content, OSError):
                raise content
            return content
    raise FileNotFoundError(f"{uri} has no member {name}")


def pack(members: Iterable[tuple[str, bytes]]) -> bytes:
    """An uncompressed tar of (name, contents). The same members make the same bytes on every host, at any time."""
    sink = io.BytesIO()
    # PAX differs from plain ustar, which all programs read, only for names that ustar cannot hold.
    with tarfile.open(fileobj=sink, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()
