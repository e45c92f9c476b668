"""A training with images, run folder, checkpoints and model in S3 (a real server, moto's)."""

import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from imagewizard.query.sql import records_of
from imagewizard.storage import Folder
from imagewizard.tracking import checkpoints, history
from tests.support.training_jobs import train_config, write_pairs, write_photographs

pytestmark = pytest.mark.long


def run(*words: str) -> str:
    """The output of a command, which starts a Ray of its own: that of the tests does not know the server."""
    done = subprocess.run([sys.executable, "-m", "jobs", *words], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_train_in_s3_then_denoise_with_the_trained_model(bucket: str, tmp_path: Path) -> None:
    write_photographs(tmp_path / "photographs")
    write_pairs(tmp_path / "photographs" / "pairs")
    for path in (tmp_path / "photographs").rglob("*.png"):
        name = path.relative_to(tmp_path / "photographs").as_posix()
        boto3.client("s3").upload_file(str(path), bucket.removeprefix("s3://"), name)
    pairs = {side: f"{bucket}/pairs/{side}" for side in ("noisy", "clean")}
    config = train_config(Path("unused"), f"{bucket}/run", data={"train": f"{bucket}/train", "pairs": pairs})
    data = config.model_dump(mode="json")
    data["data"]["validation"] = f"{bucket}/validation"
    (tmp_path / "train.yaml").write_text(json.dumps(data))  # JSON is YAML

    assert f"the model is in {bucket}/run/model" in run("train", str(tmp_path / "train.yaml"))
    assert checkpoints.latest_step(f"{bucket}/run") == 10
    steps = [row["step"] for row in history.of_kind(history.read(f"{bucket}/run"), "validation")]
    assert steps == [0, 5, 10]
    assert len(Folder(f"{bucket}/run").list("panels", ".png")) == 3
    assert len(Folder(f"{bucket}/run").list("tensorboard")) == 1
    assert "nothing was done" in run("train", str(tmp_path / "train.yaml"))
    assert "finished" in run("status", f"{bucket}/run")

    run("denoise", f"input={bucket}/validation", f"output={bucket}/denoised", f"model={bucket}/run/model")
    rows = records_of(f"{bucket}/denoised", "SELECT status, psnr FROM results")
    assert [row["status"] for row in rows] == ["ok"] * 3 and all(row["psnr"] > 15 for row in rows)
