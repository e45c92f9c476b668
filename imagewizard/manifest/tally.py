"""The rows that a listing makes, and the account it keeps."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from imagewizard.schema import MANIFEST_SCHEMA

BATCH_ROWS = 10_000
# Names of skipped files that are kept, to tell what kind of files these were.
EXAMPLES = 5

# The values of a manifest row, by MANIFEST_SCHEMA.
Row = tuple[str, str, int | None, str | None, int | None, int | None]


@dataclass
class Tally:
    """What a listing has met so far."""

    images: int = 0
    bytes: int = 0
    skipped: int = 0
    """Files and members that are no images by their suffix, folders and links to folders aside."""
    examples: list[str] = field(default_factory=list)
    """Names of a few of them."""
    ids_are_given: bool = False
    """Whether ids come from files of the user, who may have given one twice."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def skip(self, name: str) -> None:
        """Counts a file that is no image."""
        with self._lock:
            self.skipped += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(name)


def tables(rows: Iterator[Row]) -> Iterator[pa.Table]:
    """The rows by MANIFEST_SCHEMA, BATCH_ROWS at a time."""
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        columns = zip(zip(*batch, strict=True), MANIFEST_SCHEMA, strict=True)
        yield pa.table([pa.array(values, field.type) for values, field in columns], schema=MANIFEST_SCHEMA)
