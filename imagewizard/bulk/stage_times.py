"""What the stages of the chain spend on a block: seconds by the clock, and seconds of CPU."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StageTimes:
    """Sums by stage. Several threads may add to them."""

    def __init__(self, wall: dict[str, float] | None = None, cpu: dict[str, float] | None = None) -> None:
        self.wall = wall or {}
        """Seconds by the clock, summed over threads."""
        self.cpu = cpu or {}
        """Seconds of CPU."""
        self._lock = threading.Lock()

    def as_json(self) -> dict[str, dict[str, float]]:
        """The arguments that make these times again."""
        return {"wall": self.wall, "cpu": self.cpu}

    @contextmanager
    def timed(self, stage: str, cpu_clock: Callable[[], float] = time.thread_time) -> Iterator[None]:
        """Adds what the context takes to a stage.

        `cpu_clock`: by default that of this thread. A stage with threads of its own takes the process's clock, if
        nothing else works in the process.
        """
        wall, cpu = time.perf_counter(), cpu_clock()
        yield
        wall, cpu = time.perf_counter() - wall, cpu_clock() - cpu
        with self._lock:
            self.wall[stage] = self.wall.get(stage, 0.0) + wall
            self.cpu[stage] = self.cpu.get(stage, 0.0) + cpu
