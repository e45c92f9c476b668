"""CPU time of all processes of a run."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from imagewizard.benchmarks import process_cpu
from imagewizard.benchmarks.process_cpu import CpuMeter, cpu_seconds

BURN = "import subprocess, sys, time\nwhile time.process_time() < 0.3: pass\n"


def test_this_process_its_children_and_theirs_count_and_no_others() -> None:
    child = f"{BURN}subprocess.run([sys.executable, '-c', sys.argv[1]])"
    grandchild = f"{BURN}print('burnt', flush=True)\nsys.stdin.read()"
    words = [sys.executable, "-c", child, grandchild]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"burnt\n"
        found = cpu_seconds()
        process.stdin.close()
    assert found[os.getpid()] <= time.process_time() + 0.02
    others = found.keys() - {os.getpid()}
    assert process.pid in others and found[process.pid] >= 0.28
    assert len([pid for pid in others if found[pid] >= 0.28]) >= 2, "the grandchild"
    assert os.getppid() not in found


def test_the_meter_divides_cpu_time_by_time_between_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([{1: 5.0, 2: 1.0}, {1: 8.0, 3: 4.0}])  # process 2 has ended
    ticks = iter([100.0, 104.0])
    waiting = iter([*["listing"] * 3, "first", "", "second", "", "compacted", ""])
    monkeypatch.setattr(process_cpu, "cpu_seconds", lambda: next(taken))
    monkeypatch.setattr(process_cpu, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    results = tmp_path / "results"

    def wait(seconds: float) -> bool:
        """The run goes on while the meter waits."""
        match step := next(waiting, None):
            case "listing":
                results.mkdir(exist_ok=True)
            case "first" | "second":
                (results / step).touch()
            case "compacted":
                (results / "first").unlink()
        return step is None

    meter = CpuMeter(str(tmp_path))
    meter._stop = SimpleNamespace(wait=wait, set=lambda: None)  # type: ignore[assignment]
    with meter:
        pass
    assert meter.cores == (13.0 - 6.0) / 4.0
    assert next(taken, None) is next(ticks, None) is None


def test_a_single_commit_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with CpuMeter(str(tmp_path)) as meter:
        (tmp_path / "results" / "first").touch()
        time.sleep(3 * process_cpu.POLL_SECONDS)
    assert meter.cores is None
