"""What the stages of the chain spend on a block: seconds by the clock, and seconds of CPU."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StageTimes:
    """Sums by stage. Several threads may add to them."""

    def __init__(
        self,
        wall: dict[str, float] | None = None,
        cpu: dict[str, float] | None = None,
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        """`on_stage` is told each stage before it begins."""
        self.wall = wall or {}
        """Seconds by the clock, summed over threads."""
        self.cpu = cpu or {}
        """Seconds of CPU."""
        self._on_stage = on_stage
        self._lock = threading.Lock()
        self._inner = threading.local()  # seconds of the stages within this thread's stage

    def as_json(self) -> dict[str, dict[str, float]]:
        """The arguments that make these times again."""
        return {"wall": self.wall, "cpu": self.cpu}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds what the context takes to a stage; of CPU, what this thread takes.

        A stage within another one counts for itself alone.
        """
        self._on_stage(stage)
        self._add(stage, 0.0, 0.0)  # so that stages have the order in which they begin
        wall, cpu = time.perf_counter(), time.thread_time()
        before = getattr(self._inner, "seconds", (0.0, 0.0))
        self._inner.seconds = (0.0, 0.0)
        yield
        wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
        inner_wall, inner_cpu = self._inner.seconds
        self._inner.seconds = before[0] + wall, before[1] + cpu
        self._add(stage, wall - inner_wall, cpu - inner_cpu)

    def add(self, other: "StageTimes") -> None:
        """Adds the times of `other`."""
        for stage, wall in other.wall.items():
            self._add(stage, wall, other.cpu.get(stage, 0.0))

    def _add(self, stage: str, wall: float, cpu: float) -> None:
        with self._lock:
            self.wall[stage] = self.wall.get(stage, 0.0) + wall
            self.cpu[stage] = self.cpu.get(stage, 0.0) + cpu
