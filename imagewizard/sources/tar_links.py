"""Where the links of a tar lead, within the tar: an unpacked link would lead there too. No file system is asked."""

import posixpath
from collections.abc import Iterable
from tarfile import TarInfo
from typing import NamedTuple

# As many as Linux follows before it takes a chain of links for a loop.
MOST_HOPS = 40


class Link(NamedTuple):
    """A link in a tar; paths are normal ones, from the top of the tar."""

    name: str
    target: str
    at: int
    """Where its header begins, in bytes."""
    is_symbolic: bool

    @classmethod
    def of(cls, header: TarInfo) -> "Link":
        """The link of a header that is one."""
        above = posixpath.dirname(header.name) if header.issym() else ""
        target = posixpath.normpath(posixpath.join(above, header.linkname))
        return cls(posixpath.normpath(header.name), target, header.offset, header.issym())


def targets(links: list[Link], headers: Iterable[TarInfo]) -> list[TarInfo | None]:
    """The regular file that each link leads to, or None. `headers`: of the whole tar, in order.

    A hard link is another name for an earlier member, a symbolic one leads to what has its target's name in the end;
    both through any number of links, and through links to folders. Memory holds the links and what they lead to.
    """
    symbolic = {link.name: link.target for link in links if link.is_symbolic}
    ends = [_end(link.target, symbolic) for link in links]
    wanted = set(ends)
    files: dict[str | None, TarInfo] = {}
    earlier: dict[int, TarInfo] = {}  # {where a hard link's header begins: its file}
    for header in headers:
        if header.isreg() and (name := posixpath.normpath(header.name)) in wanted:
            files[name] = header
        elif header.islnk():
            link = Link.of(header)
            file = files.get(_end(link.target, symbolic))
            if file is not None:
                earlier[link.at] = file
                if link.name in wanted:
                    files[link.name] = file
    return [earlier.get(link.at) or files.get(end) for link, end in zip(links, ends, strict=True)]


def _end(path: str, symbolic: dict[str, str]) -> str | None:
    """Where the symbolic links in a path lead; None for a loop."""
    for _ in range(MOST_HOPS):
        parts = path.split("/")
        starts = ("/".join(parts[: count + 1]) for count in range(len(parts)))
        start = next((start for start in starts if start in symbolic), None)
        if start is None:
            return path
        path = posixpath.normpath(symbolic[start] + path[len(start) :])
    return None
