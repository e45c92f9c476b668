"""What a listing leaves out: files that are no images to read, by their names, and the account of them by reason."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from imagewizard.images import formats
from imagewizard.manifest import csv_manifest
from imagewizard.sources import tar

# Of each reason so many names are kept, cut to so many characters: to show what kind of files these were.
EXAMPLES = 3
EXAMPLE_LENGTH = 100

OTHER = "no image by its suffix"
ARCHIVE = "archives are not unpacked; store images as plain .tar"
NO_IMAGES = "Parquet without a column of images"
CSV = "CSV in a folder; to use one as a manifest give it as the input itself"
NO_MANIFEST = "CSV without the columns image_id and uri"

_ARCHIVES = (*tar.COMPRESSED_SUFFIXES, ".zip", ".7z", ".rar")
# What programs leave among a user's files, as a part of the path. The names below end in a user's own suffixes.
_CLUTTER = {
    r"\._[^/]*|__MACOSX|\.AppleDouble": "AppleDouble: what macOS keeps beside a file",
    r"@eaDir|\.@__thumb|\.thumbnails": "a thumbnail that a NAS or a desktop has made",
    r"#recycle|@Recycle|\$RECYCLE\.BIN|\.Trashes|\.Trash-[0-9]+": "in a recycle bin",
}
_CLUTTER_PATTERN = re.compile(rf"(?:^|/)(?:{'|'.join(f'({names})' for names in _CLUTTER)})(?=/|$)")
_CLUTTER_REASONS = tuple(_CLUTTER.values())
# One of these is in each of the names above.
_SIGNS = ("._", "@", "$", "#", "__MACOSX", ".AppleDouble", ".thumbnails", ".Trash")


def may_be_among(paths: Iterable[str]) -> bool:
    """Whether `why` may know a reason for any of the paths: most pages of a listing hold none, and need no search."""
    text = "\n".join(paths)
    return any(sign in text for sign in _SIGNS)


def why(path: str) -> str | None:
    """Why nothing of this name is listed, whatever its suffix, as a user reads it; None for all other names."""
    found = _CLUTTER_PATTERN.search(path)
    return None if found is None else _CLUTTER_REASONS[(found.lastindex or 1) - 1]


def why_no_image(path: str) -> str:
    """Why a file whose name is not that of an image is left out."""
    if path.lower().endswith(_ARCHIVES):
        return ARCHIVE
    if path.lower().endswith(csv_manifest.SUFFIXES):
        return CSV
    return formats.why_not_read(path) or OTHER


@dataclass
class LeftOut:
    """Files that were left out for one reason."""

    files: int = 0
    examples: list[str] = field(default_factory=list)
    """Names of the first few, fit to be printed."""

    def add(self, name: str) -> None:
        self.files += 1
        if len(self.examples) < EXAMPLES:
            shown = name if name.isprintable() else ascii(name)
            self.examples.append(shown if len(shown) <= EXAMPLE_LENGTH else f"{shown[: EXAMPLE_LENGTH - 1]}…")


def lines(left_out: dict[str, Any], files: int = 0) -> list[str]:
    """A line for each reason, the most frequent first: `left out 1,200: no image by its suffix (a.txt, b.txt, …)`.

    `left_out`: {reason: {files, examples}}, as an index and a summary keep it. Those of older versions say only how
    many `files` there were.
    """
    if not left_out and files:
        return [f"left out {files:,}: no images by their suffix"]
    ranked = sorted(left_out.items(), key=lambda item: -item[1]["files"])
    return [
        f"left out {each['files']:,}: {reason} ({', '.join(each['examples'])}"
        f"{', …' if each['files'] > len(each['examples']) else ''})"
        for reason, each in ranked
    ]
