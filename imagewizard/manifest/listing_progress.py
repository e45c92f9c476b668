"""How far a listing is: one line every few seconds in a log, one that stays in place on a terminal."""

import sys
import threading
import time
from types import TracebackType

from imagewizard.manifest.tally import Tally
from imagewizard.progress import LOG_SECONDS, TERMINAL_SECONDS


class ListingProgress:
    """Prints a tally while it is entered as a context; a listing that is done before the first line prints none."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._started = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._print_often, name="listing-progress", daemon=True)

    def __enter__(self) -> "ListingProgress":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if self._terminal:
            print("\r\x1b[K", end="", flush=True)

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

    def _print_often(self) -> None:
        while not self._stop.wait(TERMINAL_SECONDS if self._terminal else LOG_SECONDS):
            if self._terminal:
                print(f"\r\x1b[K{self.line()}", end="", flush=True)
            else:
                print(self.line(), flush=True)
