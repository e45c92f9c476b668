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

    def as_json(self) -> dict[str, dict[str, float]]:
        """The arguments that make these times again."""
        return {"wall": self.wall, "cpu": self.cpu}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds what the context takes to a stage; of CPU, what this thread takes."""
        self._on_stage(stage)
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        self.add(StageTimes({stage: time.perf_counter() - wall}, {stage: time.thread_time() - cpu}))

    def add(self, other: "StageTimes") -> None:
        """Adds the times of `other`."""
        with self._lock:
            for sums, added in ((self.wall, other.wall), (self.cpu, other.cpu)):
                for stage, seconds in added.items():
                    sums[stage] = sums.get(stage, 0.0) + seconds
