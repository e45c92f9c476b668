"""How far a job is: one line every few seconds in a log, one that stays in place on a terminal."""

import sys
import threading
import time
from types import TracebackType

LOG_SECONDS = 5.0
TERMINAL_SECONDS = 0.5


class Progress:
    """Counts rows as blocks commit, and prints `done/total, failed, rate, ETA` while it is entered as a context.

    The rate is this session's, start-up included; the steady one begins at the first commit.
    """

    def __init__(self, total: int, done: int, failed: int) -> None:
        self.rows = 0
        self._total, self._done_before, self._failed = total, done, failed
        self._started = self._first = self._last = time.monotonic()
        self._first_rows = 0
        self._terminal = sys.stdout.isatty()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._print_often, name="progress", daemon=True)

    def __enter__(self) -> "Progress":
        self._started = self._first = self._last = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        print(("\r" if self._terminal else "") + self.line(), flush=True)

    @property
    def seconds(self) -> float:
        """From the start of the context to its end, or 0."""
        return self._last - self._started

    @property
    def rate(self) -> float:
        """Rows a second of this session, start-up included; 0 if it did nothing."""
        return self.rows / self.seconds if self.rows else 0.0

    @property
    def steady_rate(self) -> float | None:
        """Rows a second from the first commit to the last; None if there was only one."""
        return (self.rows - self._first_rows) / (self._last - self._first) if self.rows > self._first_rows else None

    def add(self, rows: int, failed: int) -> None:
        """Counts a committed block."""
        self._last = time.monotonic()
        if not self.rows:
            self._first, self._first_rows = self._last, rows
        self.rows += rows
        self._failed += failed

    def line(self) -> str:
        """`12/250 images  3 failed  2.4 images/s  ETA 1:39`."""
        done = self._done_before + self.rows
        if not self.rows:
            seconds = time.monotonic() - self._started
            return f"{done}/{self._total} images  {self._failed} failed  workers are starting, {clock(seconds)}"
        left = max(0, self._total - done) / self.rate
        eta = f"ETA {clock(left)}" if left else f"took {clock(self.seconds)}"
        return f"{done}/{self._total} images  {self._failed} failed  {self.rate:.1f} images/s  {eta}"

    def _print_often(self) -> None:
        while not self._stop.wait(TERMINAL_SECONDS if self._terminal else LOG_SECONDS):
            if self._terminal:
                print(f"\r\x1b[K{self.line()}", end="", flush=True)
            else:
                print(self.line(), flush=True)


def clock(seconds: float) -> str:
    """1:39, or 2:03:04 from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
