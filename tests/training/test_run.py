"""`python -m imagewizard.training`: a whole training in one process, without Ray and other packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from imagewizard.storage.lease import Lease
from imagewizard.training import __main__ as command
from tests.support.training_jobs import train_config, write_photographs

# Packages that a machine that only trains may lack.
MISSING = (
    "ray",
    "boto3",
    "botocore",
    "duckdb",
    "imagecodecs",
    "matplotlib",
    "numba",
    "tensorboardX",
    "markupsafe",
    "torchvision",
)
WITHOUT = f"""
import runpy, sys
sys.modules |= dict.fromkeys({MISSING!r})
sys.argv[0] = "imagewizard.training"
runpy.run_module("imagewizard.training", run_name="__main__")
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def test_training_needs_only_the_documented_packages(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "train.yaml"
    recipe.write_text(json.dumps(train_config(photographs, tmp_path / "run").model_dump(mode="json")))  # JSON is YAML
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    words = [sys.executable, "-c", WITHOUT, str(recipe)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"finished after 7 steps; the model is in {tmp_path}/run/model" in done.stdout
    assert f"-m imagewizard.training … model={tmp_path}/run/model network=null output=ANOTHER" in done.stdout
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"job.yaml", "manifest", "metrics.jsonl", "checkpoints", "panels", "model", "summary.json"}
    assert yaml.safe_load((tmp_path / "run/job.yaml").read_text())["kind"] == "train"

    assert command.main([str(recipe)]) == 0
    assert "nothing was done" in capsys.readouterr().out
    with Lease(str(tmp_path / "held")):
        assert command.main([str(recipe), f"output={tmp_path}/held"]) == 4
    assert capsys.readouterr().err.count("\n") == 1
    assert command.main([str(recipe), "optimizer.epochs=0"]) == 2
    assert capsys.readouterr().err.startswith("error: optimizer.epochs: ")
    assert command.main(["--help"]) == 0
    assert "CONFIG [key=value" in capsys.readouterr().out
