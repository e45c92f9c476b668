"""How long a training goes on: for so many steps, or until a time."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Budget(Protocol):
    """What a run may spend, and how much of it is spent."""

    def progress(self, step: int, start: int = 0) -> float:
        """The part that is spent when `step` steps are done, in [0, 1], counted from step `start` on."""
        ...

    def is_spent(self, step: int) -> bool:
        """Whether a run ends that has done so many steps."""
        ...

    def steps(self, step: int) -> int:
        """Steps in the whole run; an estimate where that depends on its speed."""
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
    """Steps until a time of `time.time`. What comes after them (validation, weights) is to be left out of it."""

    def __init__(self, deadline: float, clock: Callable[[], float] = time.time) -> None:
        self.deadline, self._clock = deadline, clock
        self._began: dict[int, float] = {}

    def progress(self, step: int, start: int = 0) -> float:
        now = self._clock()
        began = self._began.setdefault(start, now)
        return min(1.0, (now - began) / max(1e-9, self.deadline - began))

    def is_spent(self, step: int) -> bool:
        return self._clock() >= self.deadline

    def steps(self, step: int) -> int:
        return max(step, round(step / max(self.progress(step), 1e-9)))


def process_started() -> float:
    """When this process began, by `time.time`: imports and compilation count too."""
    try:
        # Field 22, in clock ticks since the machine started; the second field, a name in brackets, may hold spaces.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError):  # not Linux
        return _IMPORTED
    return time.time() - uptime + ticks / 100.0  # the kernel's unit for user space is always 1/100 s on Linux


_IMPORTED = time.time()
