"""A soak test: bulk jobs one after another; every 20 to 60 seconds one of their processes is killed.

`python -m tests.support.soak MINUTES [IMAGES] [FOLDER]` prints what it kills, the outcome of each run, and the totals.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.support import kill_matrix
from tests.support.kill_points.sitecustomize import command, descendants
from tests.support.models import tiny_model
from tests.support.sample_files import write_photos

PAUSE_SECONDS = (20, 60)
# Names in the command lines of Ray's processes, and how often each is chosen.
TARGETS = {"driver": 1, "raylet/raylet": 1, "DenoiseActor": 3, "ray::": 2}


class Killer:
    """Repeatedly kills one process of the running job until it is stopped."""

    def __init__(self, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._job: subprocess.Popen[str] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._kill_often, daemon=True)
        self._thread.start()

    def watch(self, job: subprocess.Popen[str]) -> None:
        self._job = job

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _kill_often(self) -> None:
        while not self._stop.wait(self._random.uniform(*PAUSE_SECONDS)):
            job = self._job
            if job is None or job.poll() is not None:
                continue
            name = self._random.choices(list(TARGETS), list(TARGETS.values()))[0]
            found = [job.pid] if name == "driver" else [p for p in descendants(job.pid) if name in command(p)]
            if found:
                os.kill(self._random.choice(found), signal.SIGKILL)
                self.kills[name] += 1
                print(f"{time.strftime('%H:%M:%S')}  killed {name}", flush=True)


def run_to_the_end(folder: Path, run: str, killer: Killer) -> int:
    """Starts the job until it succeeds; returns the number of starts."""
    for starts in range(1, 1000):
        job = kill_matrix.start(folder, run)
        killer.watch(job)
        output, _ = job.communicate()
        if job.returncode == 0:
            return starts
        last = output.strip().splitlines()[-1] if output.strip() else ""
        print(f"{time.strftime('%H:%M:%S')}  exit {job.returncode}: {last[:160]}", flush=True)
    raise AssertionError("never ended")


def main() -> None:
    minutes, images = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    folder = Path(sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp())
    write_photos(folder / "in", images, 48)
    tiny_model(folder / "model", k=2)
    job = kill_matrix.start(folder, "undisturbed")
    output, _ = job.communicate()
    assert job.returncode == 0, output
    expected = {row["image_id"]: row for row in kill_matrix.rows(folder / "undisturbed")}
    assert len(expected) == images
    started = time.monotonic()
    killer = Killer(seed=0)
    totals: Counter[str] = Counter()
    while time.monotonic() - started < 60 * minutes:
        run = f"run{totals['runs']}"
        totals["starts"] += run_to_the_end(folder, run, killer)
        found = kill_matrix.rows(folder / run)
        counts = Counter(row["image_id"] for row in found)
        totals["runs"] += 1
        totals["rows"] += len(found)
        totals["lost"] += len(expected.keys() - counts.keys())
        totals["duplicated"] += sum(count - 1 for count in counts.values())
        totals["different"] += sum(expected.get(row["image_id"]) != row for row in found)
        print(f"{time.strftime('%H:%M:%S')}  {run} done: {dict(totals)}, kills {dict(killer.kills)}", flush=True)
    killer.stop()
    print(f"{(time.monotonic() - started) / 60:.1f} minutes: {dict(totals)}, kills {dict(killer.kills)}")


if __name__ == "__main__":
    main()
