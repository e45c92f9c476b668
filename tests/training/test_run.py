"""`python -m imagewizard.training`: a whole training in one process, without Ray and other packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from imagewizard.storage.lease import Lease
from tests.support.training_jobs import train_config, write_photographs

# Packages that a machine that only trains may lack.
MISSING = ("ray", "boto3", "botocore", "duckdb", "imagecodecs", "matplotlib", "tensorboardX", "markupsafe")
WITHOUT = f"""
import runpy, sys
sys.modules |= dict.fromkeys({MISSING!r})
sys.argv[0] = "imagewizard.training"
runpy.run_module("imagewizard.training", run_name="__main__")
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def command(recipe: Path, *words: str, program: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, *program, str(recipe), *words], capture_output=True, text=True, timeout=100, env=environment
    )


def test_training_needs_only_the_documented_packages(photographs: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "train.yaml"
    recipe.write_text(json.dumps(train_config(photographs, tmp_path / "run").model_dump(mode="json")))  # JSON is YAML
    done = command(recipe, program=("-c", WITHOUT))
    assert done.returncode == 0, done.stderr
    assert f"finished after 7 steps; the model is in {tmp_path}/run/model" in done.stdout
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"job.yaml", "manifest", "metrics.jsonl", "checkpoints", "panels", "model", "summary.json"}
    assert yaml.safe_load((tmp_path / "run/job.yaml").read_text())["kind"] == "train"

    again = command(recipe, program=("-m", "imagewizard.training"))
    assert again.returncode == 0 and "nothing was done" in again.stdout
    with Lease(str(tmp_path / "held")):
        held = command(recipe, f"output={tmp_path}/held", program=("-m", "imagewizard.training"))
    assert held.returncode == 4 and held.stderr.count("\n") == 1
    usage = command(Path("--help"), program=("-m", "imagewizard.training"))
    assert usage.returncode == 0 and "CONFIG [key=value" in usage.stdout
    wrong = command(recipe, "optimizer.epochs=0", program=("-m", "imagewizard.training"))
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: optimizer.epochs: ")
