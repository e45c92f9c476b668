"""The length of a training: a number of steps, or a time limit."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

# In a run with a time limit, validations may take a twentieth of the time, and checkpoints another twentieth.
PAUSE_SHARE = 0.05


class Budget(Protocol):
    """How much a run may spend, and how much it has spent."""

    def progress(self, step: int, start: int = 0) -> float:
        """Share of the budget spent after `step` steps, in [0, 1], counted from step `start`."""
        ...

    def is_spent(self, step: int) -> bool:
        """Whether the run ends after `step` steps."""
        ...

    def steps(self, step: int) -> int:
        """Steps in the whole run; an estimate if they depend on its speed. `step`: steps done so far.

        The first worker alone may ask, for its log.
        """
        ...


class Steps:
    """A number of steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def progress(self, step: int, start: int = 0) -> float:
        return min(1.0, (step - start) / max(1, self._steps - start))

    def is_spent(self, step: int) -> bool:
        return step >= self._steps

    def steps(self, step: int) -> int:
        return self._steps


class Deadline:
    """A time, as `time.time` counts, at which the steps end. Validation and export come after it."""

    def __init__(
        self, deadline: float, seconds: float, clock: Callable[[], float] = time.time, pause: float = 0.0
    ) -> None:
        """`seconds`: the whole time limit; of a resumed run some of it has been spent before.

        `clock` may be a collective call, as `Worker.clock` is; so are `progress` and `is_spent` then, but not `steps`.
        `pause`: seconds between two readings of the clock, about; 0: it is read at each step.
        """
        self.deadline, self._clock, self._pause = deadline, clock, pause
        self._opened = self._now = deadline - seconds
        self._read_at = self._read_next = 0
        self._began: dict[int, float] = {}

    def progress(self, step: int, start: int = 0) -> float:
        self._look(step)
        # A resumed run has passed `start` long ago, and its decay goes on where it was.
        began = self._began.setdefault(start, self._now if step <= start else self._opened)
        return self._share(began)

    def is_spent(self, step: int) -> bool:
        self._look(step)
        return self._now >= self.deadline

    def steps(self, step: int) -> int:
        share = self._share(self._began.get(0, self._opened))
        return max(step, round(step / max(share, 1e-9)))

    def _look(self, step: int) -> None:
        """Reads the clock if it is time to, at the same steps on all workers: they share its values."""
        if step < self._read_next:
            return
        before, self._now = self._now, self._clock()
        a_step = max(1e-6, self._now - before) / max(1, step - self._read_at)
        # At most twice as many steps as before, because the first ones may be of another speed.
        most = 2 * (self._read_next - self._read_at)
        self._read_at, self._read_next = step, step + max(1, min(most, int(self._pause / a_step)))

    def _share(self, began: float) -> float:
        """Share of the time since `began` that had passed when the clock was last read."""
        return min(1.0, (self._now - began) / max(1e-9, self.deadline - began))


class Pauses:
    """Tracks the pauses of one kind, and decides whether another may start. Times are in seconds, of one clock."""

    def __init__(self) -> None:
        self.seconds, self._ended = 0.0, -math.inf

    def note(self, ended: float, seconds: float) -> None:
        """Remembers a pause that took `seconds` and has just ended."""
        self.seconds, self._ended = seconds, ended

    def may(self, now: float) -> bool:
        """Whether pauses would still take no more than PAUSE_SHARE of the time."""
        return now - self._ended >= self.seconds / PAUSE_SHARE


def process_started() -> float:
    """Start time of this process, as `time.time` counts. A time limit from then on includes imports and compilation."""
    try:
        # Field 22: clock ticks since the machine started. The second field is a name in brackets and may hold spaces.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError):  # not Linux
        return _IMPORTED
    # The kernel's unit for user space is always 1/100 s on Linux. A container may have an uptime of its own.
    return min(_IMPORTED, time.time() - uptime + ticks / 100.0)


_IMPORTED = time.time()
