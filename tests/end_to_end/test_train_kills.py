"""A training whose worker or driver is killed in mid-epoch resumes from its last checkpoint and ends the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from imagewizard.tracking import checkpoints, history
from tests.support import submitting
from tests.support.models import tiny_network
from tests.support.training_jobs import write_photographs

pytestmark = pytest.mark.long
STEPS = 700  # of some 20 ms each, with a checkpoint at every 25th
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


def worker_pids() -> list[int]:
    """The processes of the training workers, by the title that Ray gives them."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "ray::RayTrainWorker" in line]


def end(job: subprocess.Popen[str]) -> str:
    output, _ = job.communicate(timeout=500)
    assert job.returncode == 0, output
    return output


def final_state(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "checkpoints" / f"step-{STEPS:08d}" / "state.safetensors")


def assert_equal_end(undisturbed: Path, run: Path) -> None:
    """Weights, averages and moments to the bit: all that a step depends on was as it had been."""
    expected, found = final_state(undisturbed / "undisturbed"), final_state(run)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    steps = [row["step"] for row in history.of_kind(history.read(str(run)), "validation")]
    assert steps == [0, 175, 350, 525, STEPS]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_photographs(tmp_path_factory.mktemp("kills"))
    end(start(folder, "undisturbed"))
    return folder


def test_training_survives_a_killed_worker(undisturbed: Path) -> None:
    run = undisturbed / "worker"
    job = start(undisturbed, "worker")
    step = wait_for_checkpoint(run, job)
    os.kill(worker_pids()[-1], signal.SIGKILL)
    output = end(job)
    told = [line for line in output.splitlines() if line.startswith("worker ") and "died" in line]
    assert len(told) == 1 and "Worker info" not in told[0], output
    gone_on_from = int(told[0].rsplit(" ", 1)[1])
    assert step <= gone_on_from < STEPS and gone_on_from % 25 == 0
    assert told[0].split("died")[0] in history.of_kind(history.read(str(run)), "event")[0]["text"]
    assert_equal_end(undisturbed, run)


def test_training_resumes_however_its_driver_ends(undisturbed: Path) -> None:
    run = undisturbed / "driver"
    for signal_sent, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        job = start(undisturbed, "driver")
        submitting.wait_for_lease(str(run), job)  # by then nothing of the job before is written
        wait_for_checkpoint(run, job, after=checkpoints.latest_step(str(run)))
        job.send_signal(signal_sent)
        output, _ = job.communicate(timeout=25)  # Kubernetes kills after 30 s
        assert job.returncode == code, output
        assert "Traceback" not in output
        if code > 0:
            assert output.endswith("\nstopped; what is committed stays, and the same command goes on from there\n")
        assert not (run / "summary.json").exists()
    assert "(resumes)" in end(start(undisturbed, "driver"))
    assert_equal_end(undisturbed, run)
