"""Kill a driver or a worker with -9 in mid-job: the same command ends in the rows of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagewizard import summary
from tests.sample_files import write_photos

pytestmark = pytest.mark.long
IMAGES = 40
ABOUT_THE_WORK = ("seconds", "finished_at", "uri", "output_uri")


def command(folder: Path, run: str) -> list[str]:
    words = [f"input={folder}/in", f"output={folder}/{run}", "resources.block_rows=2", "denoise.mode=ddim"]
    return [sys.executable, "-m", "jobs", "denoise", *words]


def start(folder: Path, run: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command(folder, run), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_blocks(run: Path, count: int, job: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not (run / "results").is_dir() or len(list((run / "results").iterdir())) < count:
        assert time.monotonic() < deadline and job.poll() is None, "the job ended before it could be killed"
        time.sleep(0.05)


def rows(run: Path) -> list[dict]:
    found = summary.records(str(run), "SELECT * FROM attempts ORDER BY image_id, sigma")
    return [{name: value for name, value in row.items() if name not in ABOUT_THE_WORK} for row in found]


def actor_pids() -> list[int]:
    """The processes of the model actors, by the title that Ray gives them."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "ray::MapWorker(MapBatches(DenoiseActor))" in line]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    write_photos(folder / "in", IMAGES, 96)
    job = start(folder, "undisturbed")
    output, _ = job.communicate(timeout=400)
    assert job.returncode == 0, output
    assert len(rows(folder / "undisturbed")) == IMAGES
    return folder


def test_a_killed_driver(undisturbed: Path) -> None:
    run = undisturbed / "driver"
    job = start(undisturbed, "driver")
    wait_for_blocks(run, 3, job)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert not (run / "summary.json").exists()
    time.sleep(3)  # Ray's workers of a dead driver may still be committing
    committed = {path: path.read_bytes() for path in (run / "results").iterdir()}
    again = start(undisturbed, "driver")
    output, _ = again.communicate(timeout=400)
    assert again.returncode == 0, output
    assert {path: path.read_bytes() for path in committed} == committed
    assert rows(run) == rows(undisturbed / "undisturbed")


def test_a_killed_actor(undisturbed: Path) -> None:
    """Ray starts another one and gives it the block again: the job itself goes on."""
    run = undisturbed / "actor"
    job = start(undisturbed, "actor")
    wait_for_blocks(run, 3, job)
    pids = actor_pids()
    assert pids
    os.kill(pids[0], signal.SIGKILL)
    output, _ = job.communicate(timeout=400)
    assert job.returncode == 0, output
    assert rows(run) == rows(undisturbed / "undisturbed")
