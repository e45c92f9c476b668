"""The fault matrix: a real bulk job in which each process is killed at each stage, and which is then run again.

`python -m tests.support.kill_matrix [FOLDER]` prints the whole table; test_kills.py runs a part of it.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from imagewizard.query.sql import records_of
from imagewizard.runs.results import ShardFile
from imagewizard.storage import Folder
from tests.support.kill_points.sitecustomize import STAGES
from tests.support.models import tiny_model
from tests.support.sample_files import write_photos

IMAGES = 40
BLOCK_ROWS = 2
ABOUT_THE_WORK = ("seconds", "finished_at", "uri", "output_uri")
TARGETS = ("worker", "actor", "raylet", "driver")
DRIVERS_STAGES = ("before-summary",)
# Impossible: the driver is not a worker, and no actor is alive once everything is written.
IMPOSSIBLE = {(stage, target) for stage in DRIVERS_STAGES for target in ("worker", "actor", "raylet")}
IMPOSSIBLE |= {(stage, "actor") for stage in ("compaction", "after-compaction")}


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job in which a process was killed; it was run again if that ended it."""

    stage: str
    target: str
    exit_code: int
    """Of the first command: 0 if Ray recovered by itself."""
    lost: int
    duplicated: int
    recomputed: int
    """Images that were denoised more than once."""
    changed: int
    """Rows that were committed when the job died and differ afterwards."""
    seconds: float


def prepare(folder: Path) -> None:
    """Writes images, a model and an undisturbed run into a folder."""
    write_photos(folder / "in", IMAGES, 48)
    tiny_model(folder / "model", k=2)
    job = start(folder, "undisturbed")
    output, _ = job.communicate(timeout=400)
    assert job.returncode == 0, output
    assert len(rows(folder / "undisturbed")) == IMAGES


def start(folder: Path, run: str, kill: str | None = None, **environment: str) -> subprocess.Popen[str]:
    """Starts the job as a user does; `kill`: STAGE TARGET NTH."""
    words = [
        f"input={folder}/in",
        f"output={folder}/{run}",
        f"model={folder}/model",
        f"resources.block_rows={BLOCK_ROWS}",
    ]
    state = folder / f"{run}-kill"
    state.mkdir(exist_ok=True)
    points = Path(__file__).parent / "kill_points"
    environment |= {"PYTHONPATH": str(points), "IMAGEWIZARD_KILL": f"{kill or 'listing none 1000000'} {state}"}
    job = subprocess.Popen(
        [sys.executable, "-m", "jobs", "denoise", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    )
    (state / "driver.pid").write_text(str(job.pid))
    return job


def rows(run: Path) -> list[dict]:
    """All rows of a run without the columns that describe the work (times, paths)."""
    found = records_of(str(run), "SELECT * FROM attempts ORDER BY image_id, sigma, attempt")
    return [{name: value for name, value in row.items() if name not in ABOUT_THE_WORK} for row in found]


def committed(run: Path) -> set[str]:
    """All rows of a run with all columns, as texts; empty if there is no run yet."""
    if not (run / "job.yaml").exists():
        return set()
    return {str(row) for row in records_of(str(run), "SELECT * FROM attempts")}


def kill(folder: Path, stage: str, target: str, nth: int) -> Outcome:
    """Kills the target when the stage is reached for the nth time, and runs the job again if that ended it."""
    run = f"{stage}-{target}"
    started = time.monotonic()
    job = start(folder, run, f"{stage} {target} {nth}")
    output, _ = job.communicate(timeout=600)
    first = job.returncode
    assert (folder / f"{run}-kill" / "killed").exists(), f"the stage was not reached: {output}"
    time.sleep(2)  # Ray's workers of a dead driver may still be committing
    before = committed(folder / run)
    if stage == "after-compaction":
        assert any(ShardFile.parse(name) for name in Folder(str(folder / run)).list("results"))
    if first:
        again = start(folder, run)
        output, _ = again.communicate(timeout=600)
        assert again.returncode == 0, output
    expected = {row["image_id"]: row for row in rows(folder / "undisturbed")}
    found = rows(folder / run)
    count = Counter(row["image_id"] for row in found)
    equal = sum(expected.get(row["image_id"]) == row for row in found)
    assert equal == len(found), "rows differ from those of the undisturbed run"
    denoised = (folder / f"{run}-kill" / "denoised").read_text().split()
    return Outcome(
        stage=stage,
        target=target,
        exit_code=first,
        lost=len(expected.keys() - count.keys()),
        duplicated=sum(each - 1 for each in count.values()),
        recomputed=len(denoised) - IMAGES,
        changed=len(before - committed(folder / run)),
        seconds=time.monotonic() - started,
    )


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    prepare(folder)
    print("".join(f"{field.name:>17}" for field in fields(Outcome)), flush=True)
    for stage in STAGES:
        for target in TARGETS:
            if (stage, target) not in IMPOSSIBLE:
                # A driver deletes twice before it begins: what was left half-written, and what is superseded.
                nth = {"compaction": 1, "after-compaction": 3, "before-summary": 1}.get(stage, 7)
                outcome = kill(folder, stage, target, nth)
                cells = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in astuple(outcome))
                print("".join(f"{cell:>17}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
