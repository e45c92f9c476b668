"""A training job before and after its training: plans, the images of a resumed run, the summary."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagewizard.config.train import TrainConfig
from imagewizard.errors import UserError
from imagewizard.progress import silent
from imagewizard.schema import IMAGE_ID
from imagewizard.tracking import history
from imagewizard.tracking.checkpoints import NOT_VALIDATED
from imagewizard.training import job
from tests.support.training_jobs import train_config, write_pairs, write_photographs
from tests.support.training_runs import train_row, validation_row, write_checkpoint


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    return write_photographs(tmp_path / "photographs")


def begin(config: TrainConfig) -> Any:
    return job.begin(job.prepare(config), lambda: None, silent)


def test_plan_describes_the_job(photographs: Path, tmp_path: Path) -> None:
    text = str(job.prepare(train_config(photographs, tmp_path / "run")))
    assert "4 epochs, batches of 4" in text and "random weights, seed 0" in text and "MSE of eps" in text
    pairs = write_pairs(tmp_path / "pairs")
    data = {"camera": 0.25, "pairs": pairs}
    train = str(job.prepare(train_config(photographs, tmp_path / "run", data=data))).splitlines()[0]
    assert train == (
        f"train    {photographs}/train (0.25 of the crops with a camera's noise) and pairs of {pairs['noisy']} and "
        f"{pairs['clean']}, crops of 16 x 16"
    )
    timed = str(job.prepare(train_config(photographs, tmp_path / "run", optimizer={"minutes": 8})))
    assert "8 minutes, batches of 4" in timed


def test_resume_may_change_the_time_limit_but_not_the_rate(photographs: Path, tmp_path: Path) -> None:
    begin(train_config(photographs, tmp_path / "run"))
    begin(train_config(photographs, tmp_path / "run", optimizer={"minutes": 3}))
    with pytest.raises(UserError, match=r"^output: .*optimizer\.learning_rate was 0\.003, is 0\.1"):
        begin(train_config(photographs, tmp_path / "run", optimizer={"learning_rate": 0.1}))


def test_key_missing_in_an_older_run_counts_as_its_default(photographs: Path, tmp_path: Path) -> None:
    begin(train_config(photographs, tmp_path / "run"))
    path = tmp_path / "run" / "job.yaml"
    stored = yaml.safe_load(path.read_text())
    del stored["config"]["data"]["grey"]
    path.write_text(yaml.safe_dump(stored))
    begin(train_config(photographs, tmp_path / "run"))
    with pytest.raises(UserError, match=r"data\.grey was 0\.0, is 0\.5"):
        begin(train_config(photographs, tmp_path / "run", data={"grey": 0.5}))


def test_task_holds_small_sets_in_memory_and_streams_large_ones(photographs: Path, tmp_path: Path) -> None:
    config = train_config(photographs, tmp_path / "run")
    images = begin(config)
    task = job.task(job.prepare(config), images, workers=2, threads=3)
    assert (task.images, task.micro_batch_size, task.threads, task.steps) == (7, 2, 3, 7)
    assert [image.image_id for image in task.in_memory] == images[IMAGE_ID].to_pylist()
    assert [image.image_id for image in task.validation] == ["0.png", "1.png", "2.png"]
    streamed = config.model_copy(update={"resources": config.resources.model_copy(update={"image_memory": 1000})})
    assert job.task(job.prepare(streamed), images, 2, 3).in_memory == ()
    timed = train_config(photographs, tmp_path / "run", optimizer={"minutes": 1})
    assert job.task(job.prepare(timed), images, 2, 3).steps is None


def test_a_time_limit_counts_from_the_start_of_the_job(photographs: Path, tmp_path: Path) -> None:
    timed = train_config(photographs, tmp_path / "run", optimizer={"minutes": 2})
    images = begin(timed)
    assert job.task(job.prepare(timed, started=1000.0), images, 2, 3).deadline == 1120.0
    before = time.time()
    deadline = job.task(job.prepare(timed), images, 2, 3).deadline
    assert deadline is not None and before + 120.0 <= deadline <= time.time() + 120.0


def test_summary_covers_the_best_and_the_newest_checkpoint(photographs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = train_config(photographs, run)
    task = job.task(job.prepare(config), begin(config), 1, 1)
    assert not job.is_done(task)
    facts = {"workers": 1, "device": "cpu", "seconds": 5.0, "images_per_second": 2.0, "overhead": 0.1,
             "skipped": [f"{i}.png: broken" for i in range(12)]}  # fmt: skip
    for step, psnr in ((4, 31.0), (7, 30.0)):
        write_checkpoint(run, step, psnr, facts)
    history.write(str(run), [validation_row(step) for step in (0, 4, 7)])
    assert job.is_done(task)
    unvalidated = write_checkpoint(run, 8, NOT_VALIDATED, facts)
    assert not job.is_done(task)  # its summary needs the last validation
    shutil.rmtree(unvalidated)
    summary = job.write_summary(task)
    assert summary == json.loads((run / "summary.json").read_text())
    assert (summary["steps"], summary["images"], summary["broken_images"]) == (7, 7, 12)
    assert len(summary["broken_examples"]) == 10 and summary["model"] == f"{run}/model"
    assert [summary["validation"][name]["step"] for name in ("first", "best", "last")] == [0, 4, 7]
    assert job.prepare(config).summary == summary
    (run / "metrics.jsonl").unlink()  # the scores of the checkpoints are left
    (run / "summary.json").unlink()
    summary = job.write_summary(task)
    assert [(row["step"], row["psnr"]) for row in summary["validation"].values()] == [(4, 31.0), (4, 31.0), (7, 30.0)]


def test_a_resumed_run_tells_from_where_it_goes_on(photographs: Path, tmp_path: Path) -> None:
    config = train_config(photographs, tmp_path / "run")
    lines: list[str] = []

    def told() -> list[str]:
        lines.clear()
        job.begin(job.prepare(config), lambda: None, lines.append)
        return [line for line in lines if not line.startswith("listing")]

    assert told() == []
    history.write(config.output, [validation_row(0), train_row(5)])
    for step in (3, 6):
        write_checkpoint(tmp_path / "run", step)
    assert told() == ["resumes  from step 6"]
    os.truncate(tmp_path / "run" / "checkpoints" / "step-00000006" / "state.safetensors", 10)
    damaged, resumes = told()
    assert damaged.startswith("damaged  checkpoints/step-00000006") and resumes == "resumes  from step 3"
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert told() == ["restarts from step 0: the run had come to step 5, and has no whole checkpoint"]
