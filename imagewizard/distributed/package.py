"""The folder that a submitted job takes along: which of its files are sent, and their archive."""

import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from imagewizard.errors import UserError, one_line

# As in a .gitignore. A `!/data/` in the folder's own .rayignore or .gitignore keeps what this would leave out.
LEFT_OUT = """\
.git/
.hg/
.svn/
.venv/
venv/
node_modules/
__pycache__/
.*_cache/
.ipynb_checkpoints/
/data/
/runs/
.env
.env.*
.netrc
.aws/
.ssh/
.kube/
*.pem
*.key
"""
# Each folder's own patterns, in the order in which they decide: the last one that says something does.
IGNORE_FILES = (".gitignore", ".rayignore")

# Code and configs take a thousandth of it. Ray holds the archive in the memory of the head, and each node unpacks it.
MAX_BYTES = 100_000_000
MAX_FILES = 10_000


@dataclass(frozen=True)
class Package:
    """What of a folder is sent."""

    folder: Path
    files: tuple[str, ...]
    """Paths below the folder, with slashes."""
    size: int
    """Bytes of all files, before compression."""

    def __str__(self) -> str:
        number = f"{len(self.files)} file{'s' if len(self.files) != 1 else ''}"
        return f"{self.folder}: {number}, {_size(self.size)}, without data, runs and what .gitignore names"


def collect(folder: Path) -> Package:
    """The files of a folder, without LEFT_OUT, without runs, and without what its ignore files name.

    A link is followed if it leads to something in the folder; else it is left out. Raises UserError if there is no such
    folder, or if it holds more than MAX_BYTES or MAX_FILES.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise UserError(f"{folder} is no folder", "give the folder of your configs and code")
    files, size = [], 0
    parts: Counter[str] = Counter()
    for path in _walk(root, root, [(root, GitIgnoreSpec.from_lines(LEFT_OUT.splitlines()))]):
        name = path.relative_to(root).as_posix()
        files.append(name)
        size += (length := path.stat().st_size)
        parts[name.partition("/")[0]] += length
        if size > MAX_BYTES or len(files) > MAX_FILES:
            largest = ", ".join(f"{part} {_size(total)}" for part, total in parts.most_common(3))
            raise UserError(
                f"{root} holds more than {MAX_FILES:,} files or {MAX_BYTES / 1e6:.0f} MB, too much to send ({largest} "
                "among it)",
                "submit from a folder that holds your configs and code alone, or name the rest in its .rayignore",
            )
    return Package(root, tuple(files), size)


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.1f} kB"


Ignores = list[tuple[Path, GitIgnoreSpec]]
"""(folder, patterns that hold below it), from the root down."""


def _walk(folder: Path, root: Path, ignores: Ignores) -> Iterator[Path]:
    """The files below `folder`, in order of their names."""
    for name in IGNORE_FILES:
        if (own := folder / name).is_file():
            lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
            ignores = [*ignores, (folder, GitIgnoreSpec.from_lines(lines))]
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{one_line(error)}", "make it readable, or name it in .rayignore") from None
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink() and not _leads_inside(path, root):
            continue
        if entry.is_dir() and not _ignored(path, ignores, "/") and not _is_run(path):
            yield from _walk(path, root, ignores)
        elif entry.is_file() and not _ignored(path, ignores):
            yield path


def _is_run(folder: Path) -> bool:
    return (folder / "job.yaml").is_file() and (folder / "manifest").is_dir()


def _leads_inside(link: Path, root: Path) -> bool:
    """Whether a link's target lies below the root, and is not a folder around the link, where a walk has no end."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # it leads nowhere, or in a circle
        return False
    return target.is_relative_to(root) and not link.parent.resolve().is_relative_to(target)


def _ignored(path: Path, ignores: Ignores, slash: str = "") -> bool:
    """Whether a path is left out; `slash`: "/" if it is a folder."""
    ignored = False
    for folder, patterns in ignores:
        verdict = patterns.check_file(path.relative_to(folder).as_posix() + slash).include
        ignored = ignored if verdict is None else verdict
    return ignored


def write(package: Package, archive: Path, extra: dict[str, bytes]) -> None:
    """Writes the zip archive of a package, with `extra` files on top: {path in it: content}.

    The same files give the same bytes, so that a cluster that has the archive need not get it again. Raises UserError
    if a file cannot be read.
    """
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in package.files:
            if name in extra:
                continue
            path = package.folder / name
            try:
                data, mode = path.read_bytes(), path.stat().st_mode
            except OSError as error:
                raise UserError(one_line(error), "make it readable, or name it in .rayignore") from None
            _add(packed, name, data, mode)
        for name, data in extra.items():
            _add(packed, name, data, 0o100644)


def _add(packed: zipfile.ZipFile, name: str, data: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(name)  # dated 1980
    entry.external_attr = (mode & 0xFFFF) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    packed.writestr(entry, data)
