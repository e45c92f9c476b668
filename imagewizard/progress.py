"""Progress of a job: one line every few seconds in a log, a bar that stays in place on a terminal."""

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from imagewizard.gpu_usage import GpuUsages

LOG_SECONDS = 5.0
TERMINAL_SECONDS = 0.5
# The rate that is shown, and the time to go, are those of the last minute.
WINDOW_SECONDS = 60.0
BAR_CELLS = 24

Reporter = Callable[[str], None]
"""Takes a line of text for the user, without a line break. The library itself prints nothing."""


def silent(text: str) -> None:
    """A reporter that drops its lines."""


class Printer:
    """The reporter of commands: prints to stdout. On a terminal `draw` shows a line that the next one replaces."""

    def __init__(self) -> None:
        self.in_place = sys.stdout.isatty()

    def __call__(self, text: str) -> None:
        print(f"\r\x1b[K{text}" if self.in_place else text, flush=True)

    def draw(self, text: str) -> None:
        """Replaces the line that was drawn before; "" removes it."""
        print(f"\r\x1b[K{text}", end="", flush=True)


class Repeater:
    """A context in which a thread reports `line()` every LOG_SECONDS.

    A terminal gets `bar()` instead, drawn every TERMINAL_SECONDS and removed in the end.
    """

    def __init__(self, report: Reporter, line: Callable[[], str], bar: Callable[[], str]) -> None:
        self._report, self._line, self._bar = report, line, bar
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if isinstance(self._report, Printer) and self._report.in_place:
            self._report.draw("")

    def _repeat(self) -> None:
        if isinstance(self._report, Printer) and self._report.in_place:
            while not self._stop.wait(TERMINAL_SECONDS):
                self._report.draw(self._bar())
        else:
            while not self._stop.wait(LOG_SECONDS):
                self._report(self._line())


class Progress:
    """Counts rows as blocks commit; a context in which `done/total, failed, rate, ETA` is reported.

    What is reported leaves out the start-up, which ends when work on the first block begins.
    """

    def __init__(self, total: int, done: int, failed: int, report: Reporter = silent) -> None:
        self.rows = 0
        self.gpus = GpuUsages()
        """What is known of the job's GPUs; the line shows one of them."""
        self._total, self._done_before, self._failed = total, done, failed
        self._started = self._began = self._first = self._last = time.monotonic()
        self._first_rows = 0
        self._window = WINDOW_SECONDS
        self._recent: deque[tuple[float, int]] = deque()  # (time, rows at that time), over the window
        self._report = report
        self._repeater = Repeater(report, self.line, self.bar)

    def __enter__(self) -> "Progress":
        self._started = self._began = self._first = self._last = time.monotonic()
        self._repeater.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._repeater.__exit__(kind, value, tb)
        in_place = isinstance(self._report, Printer) and self._report.in_place
        self._report(self.bar() if in_place else self.line())

    @property
    def seconds(self) -> float:
        """From the start of the context to the last commit."""
        return self._last - self._started

    @property
    def pending(self) -> int:
        """Rows that are still to come."""
        return max(0, self._total - self._done_before - self.rows)

    @property
    def rate(self) -> float:
        """Rows a second of this session, start-up included; 0 if it did nothing."""
        return self.rows / self.seconds if self.rows else 0.0

    @property
    def steady_rate(self) -> float | None:
        """Rows a second from the first commit to the last; None if there was only one."""
        return (self.rows - self._first_rows) / (self._last - self._first) if self.rows > self._first_rows else None

    @property
    def recent_rate(self) -> float:
        """Rows a second over the last minute, or over the last two blocks of one worker if they take longer.

        0 as long as it is not known.
        """
        if not self.rows:
            return 0.0
        since, before = self._recent[0]
        if len(self._recent) < 2 or self._last - self._began <= self._window:
            since, before = self._began, 0
        return (self.rows - before) / (self._last - since) if self._last > since else 0.0

    def add(self, rows: int, failed: int, seconds: float) -> None:
        """Counts a committed block, which took one of the workers so many seconds."""
        self._last = time.monotonic()
        began = max(self._started, self._last - seconds)
        self._began = min(self._began, began) if self.rows else began
        self.rows += rows
        self._failed += failed
        if self.rows == rows:
            self._first, self._first_rows = self._last, rows
        self._window = max(self._window, 2 * seconds)
        self._recent.append((self._last, self.rows))
        while self._recent[0][0] < self._last - self._window:
            self._recent.popleft()

    def line(self) -> str:
        """`12/250 images  3 failed  2.4 images/s  ETA 1:39`; at the end `took 2:01, 0:17 of it start-up`.

        While the job goes on one of its GPUs follows: `NVIDIA H100  61.2/85.5 GB  97 %`.
        """
        done = self._done_before + self.rows
        line = f"{done}/{self._total} images  {self._failed} failed"
        if not self.rows:
            return f"{line}  workers are starting, {clock(time.monotonic() - self._started)}"
        if self.pending > 0:
            rate = self.recent_rate
            shown = f"{line}  {rate:.1f} images/s  ETA {clock(self.pending / rate)}" if rate else line
            return f"{shown}  {self.gpus.latest}" if self.gpus.latest else shown
        start_up = self._began - self._started
        took = f"took {clock(self.seconds)}" + (f", {clock(start_up)} of it start-up" if start_up >= 1.0 else "")
        seconds = self._last - self._began
        return f"{line}  {self.rows / seconds:.1f} images/s  {took}" if seconds else f"{line}  {took}"

    def bar(self) -> str:
        """The line with a bar before it; without the bar if the terminal is too narrow."""
        share = min(1.0, (self._done_before + self.rows) / self._total) if self._total else 1.0
        bar = f"{'█' * int(share * BAR_CELLS):░<{BAR_CELLS}} {100 * share:3.0f} %  "
        line = self.line()
        return bar + line if len(bar + line) < shutil.get_terminal_size().columns else line


def clock(seconds: float) -> str:
    """Seconds as 1:39, or as 2:03:04 from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
