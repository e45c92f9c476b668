"""Runs commands as a user does: in a process and a folder of their own, here or against a cluster."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagewizard.storage import lease

# What would lead a command to another cluster, or past a token.
_OTHERS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
ROOT = Path(__file__).resolve().parents[2]


def start(
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    stderr: int = subprocess.STDOUT,
    module: str = "jobs",
) -> "subprocess.Popen[str]":
    """Starts `imagewizard WORDS` in a folder, with an environment that names no cluster but that of `environment`.

    module: what runs in the place of imagewizard.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _OTHERS}
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def wait_for_lease(run: str, job: "subprocess.Popen[str]") -> None:
    """Waits until the process of a job holds the run's lease; by then it handles signals."""
    while (found := lease.holder(run)) is None or found["pid"] != job.pid:
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)


def run(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """(exit code, what it printed on both streams) of `imagewizard WORDS`."""
    process = start(words, folder, environment)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output
