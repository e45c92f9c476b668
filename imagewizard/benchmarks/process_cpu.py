"""The CPU time that a whole run takes, in all of its processes: the driver's, Ray's and the workers'."""

import os
import threading
import time
from pathlib import Path

POLL_SECONDS = 0.1


class CpuMeter:
    """A context in which a run is watched: how many cores are busy with it from its first commit to its last.

    Counts this process and those that it has started, and they in turn. A Ray that ran before is none of them.
    """

    def __init__(self, run: str) -> None:
        self._results = Path(run) / "results"
        self._seen: dict[int, float] = {}
        self._samples: list[tuple[float, float]] = []  # (time, CPU seconds of all processes so far), after commits
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cpu meter", daemon=True)

    def __enter__(self) -> "CpuMeter":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def cores(self) -> float | None:
        """CPU seconds a second; None where no two commits were seen apart, and beyond Linux."""
        if len(self._samples) < 2 or not Path("/proc/self/stat").exists():
            return None
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        return (after - before) / (ended - began)

    def _watch(self) -> None:
        committed = 0
        while not self._stop.wait(POLL_SECONDS):
            files = sum(1 for _ in self._results.iterdir()) if self._results.is_dir() else 0
            if files > committed:
                committed = files
                self._seen |= cpu_seconds()  # a process that has ended stays with what it took
                self._samples.append((time.perf_counter(), sum(self._seen.values())))


def cpu_seconds() -> dict[int, float]:
    """{process: its CPU seconds so far} of this process and its descendants. Linux only; else empty."""
    ticks = os.sysconf("SC_CLK_TCK")
    return {pid: (int(fields[11]) + int(fields[12])) / ticks for pid, fields in family().items()}


def family() -> dict[int, list[str]]:
    """{process: its fields in /proc/PID/stat behind the name} of this process, its children, and theirs.

    Linux only; else empty.
    """
    every = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            every[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
    found: dict[int, list[str]] = {}
    generation = {os.getpid()} & every.keys()
    while generation:
        found |= {pid: every[pid] for pid in generation}
        generation = {pid for pid, fields in every.items() if int(fields[1]) in generation}
    return found
