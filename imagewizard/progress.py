"""How far a job is: one line every few seconds in a log, a bar that stays in place on a terminal."""

import shutil
import sys
import threading
import time
from collections import deque
from types import TracebackType

LOG_SECONDS = 5.0
TERMINAL_SECONDS = 0.5
# The rate shown, and what the time to go is reckoned from, is that of the last minute.
WINDOW_SECONDS = 60.0
BAR_CELLS = 24


class Progress:
    """Counts rows as blocks commit, and prints `done/total, failed, rate, ETA` while it is entered as a context.

    The session's rate has its start-up included; the steady one begins at the first commit.
    """

    def __init__(self, total: int, done: int, failed: int) -> None:
        self.rows = 0
        self._total, self._done_before, self._failed = total, done, failed
        self._started = self._first = self._last = time.monotonic()
        self._first_rows = 0
        self._recent: deque[tuple[float, int]] = deque()  # when there were how many rows, over the window
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
        print(f"\r\x1b[K{self.bar()}" if self._terminal else self.line(), flush=True)

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
        self.rows += rows
        self._failed += failed
        if self.rows == rows:
            self._first, self._first_rows = self._last, rows
        self._recent.append((self._last, self.rows))
        while self._recent[0][0] < self._last - WINDOW_SECONDS:
            self._recent.popleft()

    def line(self) -> str:
        """`12/250 images  3 failed  2.4 images/s  ETA 1:39`."""
        done = self._done_before + self.rows
        if not self.rows:
            seconds = time.monotonic() - self._started
            return f"{done}/{self._total} images  {self._failed} failed  workers are starting, {clock(seconds)}"
        left = self._total - done
        rate = self._recent_rate() if left > 0 else self.rate
        eta = f"ETA {clock(left / rate)}" if left > 0 else f"took {clock(self.seconds)}"
        return f"{done}/{self._total} images  {self._failed} failed  {rate:.1f} images/s  {eta}"

    def bar(self) -> str:
        """The line with a bar before it, as long as the terminal has room for both."""
        share = min(1.0, (self._done_before + self.rows) / self._total) if self._total else 1.0
        bar = f"{'█' * int(share * BAR_CELLS):░<{BAR_CELLS}} {100 * share:3.0f} %  "
        line = self.line()
        return bar + line if len(bar + line) < shutil.get_terminal_size().columns else line

    def _recent_rate(self) -> float:
        """Over the window, or since the first commit; of the session while there is but one commit."""
        (since, before), (until, now) = self._recent[0], self._recent[-1]
        return (now - before) / (until - since) if now > before and until > since else self.rate

    def _print_often(self) -> None:
        while not self._stop.wait(TERMINAL_SECONDS if self._terminal else LOG_SECONDS):
            if self._terminal:
                print(f"\r\x1b[K{self.bar()}", end="", flush=True)
            else:
                print(self.line(), flush=True)


def clock(seconds: float) -> str:
    """1:39, or 2:03:04 from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
