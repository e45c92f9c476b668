"""The commands as a shell sees them: exit codes, one line for a mistake, and nothing written by it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.models import tiny_model
from tests.support.sample_files import write_broken_files, write_photos

COMMAND = (sys.executable, "-m", "jobs")


def imagewizard(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=200)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "in", 3, 32)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nosie=3"], "nosie: unknown key; did you mean noise?"),
        (["noise.sigma=-1"], "noise.sigma.0: must be greater than or equal to 0 (got -1)"),
        (["noise.sigma=99999"], "noise.sigma.0: "),
        (["model=/nowhere"], "model: /nowhere is no folder"),
        (["input=/nowhere"], "input: /nowhere does not exist"),
        (["output=/proc/run"], "output: /proc is not writable"),
        (["denoise.sigma=5"], "denoise.sigma is for images that are noisy already"),
        (["a.yaml", "b.yaml"], "second config"),
        (["a.yaml"], "config a.yaml: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2_and_writes_nothing(
    photos: Path, tmp_path: Path, words: list[str], complaint: str
) -> None:
    done = imagewizard("denoise", f"input={photos}", f"output={tmp_path}/run", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_broken_weights_are_named(photos: Path, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    words = ("denoise", f"input={photos}", f"output={tmp_path}/run", f"model={folder}")
    assert f"{weights} is" in imagewizard(*words).stderr
    weights.rename(folder / "diffusion_pytorch_model.bin")
    done = imagewizard(*words)
    assert done.returncode == 2
    assert f"{folder}/diffusion_pytorch_model.bin is no whole file of torch.save" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    done = imagewizard("denoise", f"input={photos}", f"output={tmp_path}/run", "noise.sigma=[15,50]", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "sigma    15, 50" in done.stdout
    assert not (tmp_path / "run").exists()


def test_wrong_and_missing_commands() -> None:
    assert imagewizard().returncode == 2
    done = imagewizard("denois")
    assert done.returncode == 2 and "one of demo, manifest, denoise" in done.stderr
    assert imagewizard("--version").stdout.startswith("imagewizard ")


def test_a_job_with_failures_exits_3_and_status_query_and_report_tell(tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 3, 32)
    write_broken_files(tmp_path / "in" / "broken", 2)
    model, run = tiny_model(tmp_path / "model"), tmp_path / "run"
    done = imagewizard("denoise", f"input={tmp_path}/in", f"output={run}", f"model={model}")
    assert done.returncode == 3, done.stderr
    assert "3 ok, 2 failed" in done.stdout
    assert done.stderr == ""  # none of Ray's noise
    status = imagewizard("status", str(run))
    assert "finished" in status.stdout and "3 ok, 2 failed, 0 pending" in status.stdout
    query = imagewizard("query", str(run), "SELECT count(*) AS n FROM results WHERE status = 'ok'", "--format", "csv")
    assert query.stdout.split() == ["n", "3"] or query.stdout.split() == ['"n"', "3"]
    assert imagewizard("report", str(run)).returncode == 0
    assert (run / "report.html").stat().st_size > 1000


def rows(results: Path) -> dict[str, dict[str, Any]]:
    """By image id, what the Parquet files of a folder hold."""
    return {row["image_id"]: row for path in results.iterdir() for row in pq.read_table(path).to_pylist()}


@pytest.mark.long
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 24, 160)
    words = ["denoise", f"input={tmp_path}/in", f"output={tmp_path}/run", "resources.block_rows=1", "denoise.mode=ddim",
             "denoise.steps=40"]  # fmt: skip
    job = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    results = tmp_path / "run" / "results"
    deadline = time.monotonic() + 150
    while not (results.is_dir() and len(list(results.iterdir())) >= 2):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.2)
    os.kill(job.pid, signal.SIGINT)
    _, stderr = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "goes on from there" in stderr and "Traceback" not in stderr
    committed = rows(results)
    assert 2 <= len(committed) < 24
    status = imagewizard("status", str(tmp_path / "run")).stdout
    assert "stopped" in status and "pending" in status
    done = imagewizard(*words)
    assert done.returncode == 0, done.stderr
    assert "24 ok, 0 failed" in done.stdout
    # With their times, by which a row that was computed again would differ.
    assert committed.items() <= rows(results).items()
