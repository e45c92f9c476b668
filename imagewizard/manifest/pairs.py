"""Matches noisy images with their clean partners by name.

A pair's images lie in two folders under one path, or in one folder; their names are alike but for the suffix and for
an ending that says which of the two it is: `toy_10_real.JPG` and `toy_10_mean.png`.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field

import pyarrow as pa

from imagewizard import storage
from imagewizard.errors import UserError, keyed
from imagewizard.manifest import listing, shards
from imagewizard.manifest.tally import Tally
from imagewizard.schema import BYTES, IMAGE_ID, MEMBER, ROW, URI

NOISY_ENDINGS = ("_real", "_noisy")
CLEAN_ENDINGS = ("_mean", "_clean", "_gt")

_ENDING = re.compile(rf"({'|'.join(NOISY_ENDINGS + CLEAN_ENDINGS)})$", re.IGNORECASE)
_SUFFIX = re.compile(r"\.[^./]*$")
# Of files that an error names.
_EXAMPLES = 3


@dataclass(frozen=True)
class Pair:
    """A noisy image and the clean one that it is measured against, or trained towards."""

    name: str
    """The path below the folder, without suffix and ending."""
    noisy: str
    """URI, absolute."""
    clean: str
    """URI, absolute."""
    bytes: int = field(default=0, compare=False)
    """Size of both files; 0 for one whose listing does not say."""


@dataclass(frozen=True)
class _File:
    """An image file of one side."""

    path: str
    """Below its folder."""
    uri: str
    bytes: int

    @property
    def name(self) -> str:
        return _ENDING.sub("", self._stem)

    @property
    def ending(self) -> str:
        """As in the lists above; empty without one."""
        found = _ENDING.search(self._stem)
        return found[0].lower() if found else ""

    @property
    def _stem(self) -> str:
        return _SUFFIX.sub("", self.path)


def match(noisy: str, clean: str, keys: tuple[str, str]) -> list[Pair]:
    """The pairs of two folders, local or s3://, searched recursively; sorted by name. `keys`: what the user calls them.

    Both may be the same folder: then endings tell the sides apart. In two folders a file that ends like the other
    side's is left to that side if its own folder holds its partner; else its partner must be named alike. Raises
    UserError if an image has no partner, if two have the same name, if names say that the folders are swapped, or if
    there is no pair.
    """
    noisy, clean = storage.absolute(noisy), storage.absolute(clean)
    together = noisy == clean
    files = _files(noisy, keys[0])
    noisy_files = _by_name(files, CLEAN_ENDINGS, together, noisy, keys[0])
    if together:
        _check_told_apart(files, keys[0])
    else:
        files = _files(clean, keys[1])
    clean_files = _by_name(files, NOISY_ENDINGS, together, clean, keys[1])
    alone = sorted(noisy_files.keys() - clean_files.keys()), sorted(clean_files.keys() - noisy_files.keys())
    if any(alone):
        raise _unpaired([noisy_files[name] for name in alone[0]], [clean_files[name] for name in alone[1]], keys)
    partners = [(name, noisy_files[name], clean_files[name]) for name in sorted(noisy_files)]
    _check_sides(partners, keys)
    return [Pair(name, noisy.uri, clean.uri, noisy.bytes + clean.bytes) for name, noisy, clean in partners]


def _files(folder: str, key: str) -> list[_File]:
    with keyed(key):
        shards.check_source(folder)
        images = pa.concat_tables(listing.batches(folder, Tally()))
        for row in images.select([IMAGE_ID, MEMBER, ROW]).to_pylist():
            if row[MEMBER] is not None or row[ROW] is not None:
                raise UserError(f"{row[IMAGE_ID]} is in a tar shard or Parquet", "give the images of pairs as files")
    columns = (images[name].to_pylist() for name in (IMAGE_ID, URI, BYTES))
    return [_File(path, storage.absolute(uri), size or 0) for path, uri, size in zip(*columns, strict=True)]


def _by_name(files: list[_File], others: tuple[str, ...], together: bool, folder: str, key: str) -> dict[str, _File]:
    """One side's files. Raises UserError if two have one name."""
    own = {file.name for file in files if file.ending not in others}
    found: dict[str, list[_File]] = defaultdict(list)
    for file in files:
        if file.ending not in others or (not together and file.name not in own):
            found[file.name].append(file)
    for name, same in sorted(found.items()):
        if len(same) > 1:
            what = f"{_named(same)} in {folder} are all {name!r} without suffix and ending"
            raise UserError(what, "keep one of them", key)
    return {name: file for name, [file] in found.items()}


def _check_told_apart(files: list[_File], key: str) -> None:
    """Raises UserError unless the names of a folder that holds both sides say which is which."""
    if unknown := [file for file in files if not file.ending]:
        what = f"noisy and clean images are in one folder, and the names of {_named(unknown)} do not say which they are"
        raise UserError(
            what, f"end noisy ones in {_either(NOISY_ENDINGS)}, clean ones in {_either(CLEAN_ENDINGS)}", key
        )


def _check_sides(partners: list[tuple[str, _File, _File]], keys: tuple[str, str]) -> None:
    """Raises UserError if the names of partners say that their folders are swapped."""
    for _, noisy, clean in partners:
        is_wrong = noisy.ending in CLEAN_ENDINGS or clean.ending in NOISY_ENDINGS
        if is_wrong and noisy.ending != clean.ending:
            what = f"the noisy image {noisy.path} and the clean one {clean.path} are named the other way around"
            raise UserError(what, f"swap {' and '.join(keys)}, or rename the files", keys[0])


def _unpaired(noisy: list[_File], clean: list[_File], keys: tuple[str, str]) -> UserError:
    endings = _either(NOISY_ENDINGS + CLEAN_ENDINGS)
    parts = [f"no clean image for {_named(noisy)}"] * bool(noisy) + [f"no noisy image for {_named(clean)}"] * bool(
        clean
    )
    what = " and ".join(parts)
    fix = f"name partners alike, but for the suffix and an ending ({endings}), or take these out"
    return UserError(what, fix, keys[0] if noisy or not clean else keys[1])


def _named(files: list[_File]) -> str:
    """`a.png, b.png, c.png and 4 more`."""
    paths = sorted(file.path for file in files)
    more = len(paths) - _EXAMPLES
    return ", ".join(paths[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")


def _either(endings: tuple[str, ...]) -> str:
    return f"{', '.join(endings[:-1])} or {endings[-1]}"
