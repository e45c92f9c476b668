"""The rows of a listing, the account that it keeps, and the line that reports it."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from imagewizard.manifest.left_out import LeftOut
from imagewizard.progress import Repeater, Reporter
from imagewizard.schema import MANIFEST_SCHEMA

BATCH_ROWS = 10_000

# The values of a manifest row, by MANIFEST_SCHEMA.
Row = tuple[str, str, int | None, str | None, int | None, int | None]


@dataclass
class Tally:
    """Counts of what a listing has met so far."""

    images: int = 0
    bytes: int = 0
    filtered: int = 0
    """Images that filters left out."""
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    """{reason: files and members that are no images to read}; folders are not counted, links to folders are."""
    ids_are_given: bool = False
    """Whether ids come from the user's files, which may have an id twice."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def skipped(self) -> int:
        """All that is left out."""
        return sum(each.files for each in list(self.left_out.values()))

    def skip(self, name: str, reason: str) -> None:
        """Counts a file that is no image to read."""
        with self._lock:
            self.left_out.setdefault(reason, LeftOut()).add(name)

    def left_out_as_json(self) -> dict[str, Any]:
        """`left_out` as an index keeps it."""
        return {reason: asdict(each) for reason, each in self.left_out.items()}


class ListingProgress(Repeater):
    """A context that reports a tally every few seconds; a short listing reports nothing."""

    def __init__(self, tally: Tally, report: Reporter) -> None:
        super().__init__(report, self.line, self.line)
        self._tally = tally
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the listing began."""
        return time.monotonic() - self._started

    @property
    def rate(self) -> float:
        """Files and members per second, images or not."""
        return (self._tally.images + self._tally.skipped) / max(self.seconds, 1e-9)

    def line(self) -> str:
        """`listing  1,234,000 images, 12 other files, 45,000/s`."""
        return f"listing  {self._tally.images:,} images, {self._tally.skipped:,} other files, {self.rate:,.0f}/s"


def tables(rows: Iterator[Row]) -> Iterator[pa.Table]:
    """The rows by MANIFEST_SCHEMA, BATCH_ROWS at a time."""
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        columns = zip(zip(*batch, strict=True), MANIFEST_SCHEMA, strict=True)
        yield pa.table([pa.array(values, field.type) for values, field in columns], schema=MANIFEST_SCHEMA)
