"""A training whose worker or driver is killed in mid-epoch resumes from its last checkpoint and ends the same."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from imagewizard.tracking import checkpoints, history
from tests.support import submitting
from tests.support.kill_points.sitecustomize import command, descendants
from tests.support.models import tiny_network
from tests.support.training_jobs import write_photographs

pytestmark = pytest.mark.long
STEPS = 500  # of some 20 ms each, with a checkpoint at every 25th
EPOCHS = STEPS * 4 / 7


def start(folder: Path, run: str) -> subprocess.Popen[str]:
    config = {
        "output": f"{folder}/{run}",
        "data": {"train": f"{folder}/train", "validation": f"{folder}/validation", "crop": 16},
        "sigma": [20, 60],
        "network": tiny_network(),
        "optimizer": {"epochs": EPOCHS, "batch_size": 4, "learning_rate": 1e-3},
        "precision": "fp32",
        "validation": {"every_epochs": 100},
        "checkpoints": {"every_steps": 25},
        "resources": {"workers": 2},
    }
    path = folder / f"{run}.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", "train", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_checkpoint(run: Path, job: subprocess.Popen[str], after: int = 0) -> int:
    """The step of the first checkpoint beyond a step, as soon as it is there."""
    deadline = time.monotonic() + 300
    while (step := checkpoints.latest_step(str(run))) <= after:
        assert time.monotonic() < deadline and job.poll() is None, "the job ended before it could be killed"
        time.sleep(0.1)
    return step


def worker_pids(job: subprocess.Popen[str]) -> list[int]:
    """The processes of a job's training workers, by the title that Ray gives them."""
    return [pid for pid in descendants(job.pid) if "ray::RayTrainWorker" in command(pid)]


def end(job: subprocess.Popen[str]) -> str:
    output, _ = job.communicate(timeout=500)
    assert job.returncode == 0, output
    return output


def final_state(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "checkpoints" / f"step-{STEPS:08d}" / "state.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A training that is left alone while the first test kills others."""
    job = start(folder, "undisturbed")
    yield job
    job.kill()


def assert_equal_end(run: Path, undisturbed: subprocess.Popen[str]) -> None:
    """Weights, averages and moments to the bit: all that a step depends on was as it had been."""
    if undisturbed.returncode is None:
        end(undisturbed)
    expected, found = final_state(run.parent / "undisturbed"), final_state(run)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    steps = [row["step"] for row in history.of_kind(history.read(str(run)), "validation")]
    assert steps == [0, 175, 350, STEPS]


def test_training_survives_a_killed_worker(folder: Path, undisturbed: subprocess.Popen[str]) -> None:
    run = folder / "worker"
    job = start(folder, "worker")
    step = wait_for_checkpoint(run, job)
    os.kill(worker_pids(job)[-1], signal.SIGKILL)
    output = end(job)
    told = [line for line in output.splitlines() if line.startswith("worker ") and "died" in line]
    assert len(told) == 1 and "Worker info" not in told[0], output
    gone_on_from = int(told[0].rsplit(" ", 1)[1])
    assert step <= gone_on_from < STEPS and gone_on_from % 25 == 0
    assert told[0].split("died")[0] in history.of_kind(history.read(str(run)), "event")[0]["text"]
    assert_equal_end(run, undisturbed)


def test_training_resumes_however_its_driver_ends(folder: Path, undisturbed: subprocess.Popen[str]) -> None:
    run = folder / "driver"
    for signal_sent, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        job = start(folder, "driver")
        submitting.wait_for_lease(str(run), job)  # by then nothing of the job before is written
        wait_for_checkpoint(run, job, after=checkpoints.latest_step(str(run)))
        job.send_signal(signal_sent)
        output, _ = job.communicate(timeout=25)  # Kubernetes kills after 30 s
        assert job.returncode == code, output
        assert "Traceback" not in output
        if code > 0:
            assert output.endswith("\nstopped; what is committed stays, and the same command goes on from there\n")
        assert not (run / "summary.json").exists()
    assert "(resumes)" in end(start(folder, "driver"))
    assert_equal_end(run, undisturbed)
