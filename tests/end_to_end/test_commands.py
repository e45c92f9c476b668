"""Commands run from a shell: exit codes, and one line for a user's mistake, which writes nothing."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray

from jobs import query, report, shell, status
from tests.support.models import tiny_model
from tests.support.s3_faults import FaultyS3
from tests.support.sample_files import write_broken_files, write_photos

COMMAND = (sys.executable, "-m", "jobs")


def imagewizard(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=200)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "in", 3, 32)
    return tmp_path / "in"


def test_user_mistake_prints_one_line_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    done = imagewizard("denoise", f"input={photos}", f"output={tmp_path}/run", "nosie=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: nosie: unknown key; did you mean noise?\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("ray_cluster")
def test_a_cluster_that_cannot_be_joined_is_named_in_one_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["denoise", f"input={photos}", f"output={tmp_path}/run"]
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-another-cluster")
    there = ray.get_runtime_context().gcs_address
    done = imagewizard(*words, f"resources.address={there}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: resources.address: the cluster at {there} asks for a token, ")
    assert done.stderr.count("\n") == 1 and "RAY_AUTH_TOKEN_PATH" in done.stderr
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", f"{tmp_path}/none")
    done = imagewizard(*words, f"resources.address={there}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: RAY_AUTH_MODE: RAY_AUTH_TOKEN_PATH is set but file cannot be opened ")
    assert done.stderr.count("\n") == 1
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    done = imagewizard(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: RAY_ADDRESS: http://127.0.0.1:8265 is the address of a dashboard, for ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [status, query, report])
def test_storage_that_does_not_answer(
    command: ModuleType, faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        started = time.monotonic()
        words = ["s3://bucket/run", *(["summary"] if command is query else [])]
        assert shell.run(command.main, words) == shell.WRONG_INPUT
    assert time.monotonic() - started < 30
    assert capsys.readouterr() == (
        "",
        f'error: s3://bucket/run: Could not connect to the endpoint URL: "{address}/bucket"; '
        f"check AWS_ENDPOINT_URL ({address}) and the network\n",
    )


def test_job_with_failed_images_exits_3_and_can_be_inspected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos(tmp_path / "in", 3, 32)
    write_broken_files(tmp_path / "in" / "broken", 2)
    model, run = tiny_model(tmp_path / "model"), tmp_path / "run"
    done = imagewizard("denoise", f"input={tmp_path}/in", f"output={run}", f"model={model}")
    assert done.returncode == 3, done.stderr
    assert "3 ok, 2 failed" in done.stdout
    assert done.stderr == ""  # none of Ray's noise
    assert shell.run(status.main, [str(run)]) == shell.DONE
    shown = capsys.readouterr().out
    assert "finished" in shown and "3 ok, 2 failed, 0 pending" in shown
    sql = "SELECT count(*) AS n FROM results WHERE status = 'ok'"
    assert shell.run(query.main, [str(run), sql, "--format", "csv"]) == shell.DONE
    assert capsys.readouterr().out.split() == ['"n"', "3"]
    assert shell.run(report.main, [str(run)]) == shell.DONE
    assert (run / "report.html").stat().st_size > 1000


def rows(results: Path) -> dict[str, dict[str, Any]]:
    """By image id, what the Parquet files of a folder hold."""
    return {row["image_id"]: row for path in results.iterdir() for row in pq.read_table(path).to_pylist()}


@pytest.mark.long
def test_same_command_resumes_after_sigterm(tmp_path: Path) -> None:
    """Ctrl-C takes the same way; test_train_kills sends it to a training."""
    write_photos(tmp_path / "in", 18, 160)
    words = ["denoise", f"input={tmp_path}/in", f"output={tmp_path}/run", "resources.block_rows=1", "denoise.mode=ddim",
             "denoise.steps=24"]  # fmt: skip
    results = tmp_path / "run" / "results"
    job = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(list(results.glob("*"))) < 2:
        assert job.poll() is None
        time.sleep(0.2)
    os.kill(job.pid, signal.SIGTERM)
    _, stderr = job.communicate(timeout=25)  # Kubernetes kills after 30 s
    assert job.returncode == 143
    assert stderr == "stopped; what is committed stays, and the same command goes on from there\n"
    committed = rows(results)
    assert 2 <= len(committed) < 18
    shown = imagewizard("status", str(tmp_path / "run")).stdout
    assert "stopped" in shown and "pending" in shown
    done = imagewizard(*words)
    assert done.returncode == 0, done.stderr
    assert "18 ok, 0 failed" in done.stdout
    # With their times, by which a row that was computed again would differ.
    assert committed.items() <= rows(results).items()
