"""How far a listing is: one line every few seconds in a log, one that stays in place on a terminal."""

import time

from imagewizard.manifest.tally import Tally
from imagewizard.progress import Repeater, Reporter


class ListingProgress(Repeater):
    """Reports a tally while it is entered as a context; a listing that is done before the first line reports none."""

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
        """Files and members a second, be they images or not."""
        return (self._tally.images + self._tally.skipped) / max(self.seconds, 1e-9)

    def line(self) -> str:
        """`listing  1,234,000 images, 12 other files, 45,000/s`."""
        return f"listing  {self._tally.images:,} images, {self._tally.skipped:,} other files, {self.rate:,.0f}/s"
