"""A training job from config to exported model, with real Ray Train workers; kills are in test_train_kills.py."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import jobs.train
from imagewizard.config.loading import load
from imagewizard.config.train import TrainConfig
from imagewizard.distributed import train_job
from imagewizard.errors import RunLockedError, UserError
from imagewizard.models import files as model_files
from imagewizard.progress import silent
from imagewizard.runs.job import read_job
from imagewizard.storage.lease import Lease
from imagewizard.tracking import checkpoints, history
from imagewizard.training import job, run
from tests.support import metrics_endpoint
from tests.support.models import tiny_model, tiny_network
from tests.support.training_jobs import train_config, write_photographs

STEPS = 7  # 4 epochs of 7 files in batches of 4


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def train(config: TrainConfig) -> dict[str, Any]:
    return train_job.execute(train_job.prepare(config), silent)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that finds no noise."""
    return tiny_model(tmp_path_factory.mktemp("start"), zero=True)


def recipe(photographs: Path, output: Path, start: Path) -> TrainConfig:
    """Two workers, fed by the stream, go on from a model; some crops have a camera's noise."""
    return train_config(
        photographs,
        output,
        data={"camera": 0.3},
        network=None,
        model=str(start),
        resources={"workers": 2, "image_memory": 0},
        # AdamW makes steps of this size of gradients that are next to nothing, be they rounding or not.
        optimizer={"learning_rate": 3e-4},
    )


@pytest.fixture(scope="module")
def finished(
    photographs: Path, start: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None
) -> tuple[Path, dict]:
    """A run of two workers, to look at but not to change. Ray Train's own note of its first start is cut off."""
    output = tmp_path_factory.mktemp("runs") / "two"
    config = recipe(photographs, output, start)
    job.begin(job.prepare(config), lambda: None, silent)
    (output / "ray" / "checkpoint_2026-01-01").mkdir(parents=True)
    (output / "ray" / "checkpoint_manager_snapshot.json").write_text('{"ray_version": "2.60.0", "checkpoint_resu')
    return output, train(config)


def test_its_metrics_are_served(finished: tuple[Path, dict]) -> None:
    output, _ = finished
    expected = {
        "ray_imagewizard_step": float(STEPS),
        "ray_imagewizard_pending_steps": 0.0,
        "ray_imagewizard_images_per_second": 0.0,  # it has ended
        "ray_imagewizard_loss": history.of_kind(history.read(str(output)), history.TRAIN)[-1]["loss"],
    }
    assert metrics_endpoint.wait_for(str(output), expected) == pytest.approx(expected)


def test_the_summary_tells_what_was_done(finished: tuple[Path, dict]) -> None:
    output, summary = finished
    assert summary == json.loads((output / "summary.json").read_text())
    assert (summary["steps"], summary["images"], summary["workers"], summary["device"]) == (STEPS, 7, 2, "cpu")
    assert summary["broken_images"] == 1 and summary["broken_examples"][0].startswith("broken.png: ")
    assert summary["validation"]["first"]["step"] == 0 and summary["validation"]["last"]["step"] == STEPS
    best = max((row for row in validations(output) if row["step"]), key=lambda row: row["psnr"])
    assert summary["validation"]["best"]["step"] == best["step"]
    assert summary["images_per_second"] > 0 and 0 <= summary["overhead"] < 1


def validations(output: Path) -> list[dict]:
    return history.of_kind(history.read(str(output)), "validation")


def test_validation_runs_at_its_epochs_and_at_the_end(finished: tuple[Path, dict]) -> None:
    # Two epochs are 3.5 steps: the first step beyond is the fourth.
    assert [row["step"] for row in validations(finished[0])] == [0, 4, STEPS]
    assert sorted(path.name for path in (finished[0] / "panels").iterdir()) == [
        f"step-{step:08d}.png" for step in (0, 4, STEPS)
    ]


def test_the_last_row_tells_of_the_last_step(finished: tuple[Path, dict]) -> None:
    row = history.of_kind(history.read(str(finished[0])), "train")[-1]
    assert (row["step"], row["steps"], row["epoch"]) == (STEPS, STEPS, 4.0)
    assert row["loss"] == row["mse"] > 0 and "perceptual" not in row


def test_the_best_and_the_newest_checkpoints_are_kept(finished: tuple[Path, dict]) -> None:
    output, summary = finished
    wanted = {f"step-{step:08d}" for step in (summary["validation"]["best"]["step"], STEPS)}
    assert {path.name for path in (output / "checkpoints").glob("step-*")} == wanted
    assert checkpoints.latest_step(str(output)) == STEPS


def test_the_model_is_the_best_checkpoints_average(finished: tuple[Path, dict]) -> None:
    output, summary = finished
    model_files.find(str(output / "model")).check(max_sigma=60)
    exported = load_file(output / "model" / "diffusion_pytorch_model.safetensors")
    step = summary["validation"]["best"]["step"]
    state = load_file(output / "checkpoints" / f"step-{step:08d}" / "state.safetensors")
    for name, weights in exported.items():
        np.testing.assert_array_equal(weights, state[f"ema.{name}"].astype(np.float16))
    assert (output / "model" / "README.md").is_file()


def test_a_finished_run_does_nothing(finished: tuple[Path, dict], photographs: Path, start: Path) -> None:
    output, summary = finished
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    plan = train_job.prepare(recipe(photographs, output, start))
    assert plan.summary == summary and "(finished)" in str(plan)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_the_command_tells_of_it(
    finished: tuple[Path, dict],
    photographs: Path,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(json.dumps(recipe(photographs, finished[0], start).model_dump(mode="json")))  # JSON is YAML
    assert jobs.train.main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "not used: broken.png: " in printed and "nothing was done" in printed
    assert f"finished after {STEPS} steps; the model is in {finished[0]}/model" in printed
    assert f"imagewizard train … model={finished[0]}/model output=ANOTHER" in printed


def test_another_recipe_is_refused(finished: tuple[Path, dict], photographs: Path, start: Path, tmp_path: Path) -> None:
    same = recipe(photographs, finished[0], start)
    with pytest.raises(UserError, match=r"output: the run there was made with other settings \(seed was 0, is 1\)"):
        train_job.prepare(same.model_copy(update={"seed": 1}))
    other = tiny_model(tmp_path / "other", seed=7)
    with pytest.raises(UserError, match="model was"):
        train_job.prepare(same.model_copy(update={"model": str(other)}))


def test_workers_of_ray_end_where_one_process_does(
    finished: tuple[Path, dict], photographs: Path, start: Path, tmp_path: Path
) -> None:
    """Two workers and the stream, against this process and images in memory."""
    alone = recipe(photographs, tmp_path / "alone", start)
    alone = alone.model_copy(update={"resources": alone.resources.model_copy(update={"image_memory": 1 << 30})})
    run.execute(job.prepare(alone), silent)
    found, expected = (
        load_file(output / "checkpoints" / f"step-{STEPS:08d}" / "state.safetensors")
        for output in (finished[0], tmp_path / "alone")
    )
    for name in expected:
        if name.startswith(("unet.", "ema.")):
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5, rtol=0, err_msg=name)
    psnrs = [[row["psnr"] for row in validations(output)] for output in (finished[0], tmp_path / "alone")]
    assert psnrs[0] == pytest.approx(psnrs[1], abs=0.01)


def test_first_validation_is_the_models_own(finished: tuple[Path, dict], start: Path) -> None:
    output, summary = finished
    first = summary["validation"]["first"]
    assert first["psnr_15"] == pytest.approx(first["psnr_noisy_15"], abs=0.2)  # eps = 0: the noisy image, rounded
    assert read_job(str(output))["model_fingerprint"] == model_files.find(str(start)).fingerprint


@pytest.mark.long
def test_workers_that_may_grow_with_images_in_memory(photographs: Path, tmp_path: Path, ray_cluster: None) -> None:
    summary = train(train_config(photographs, tmp_path / "run", resources={"workers": [1, 2]}))
    assert summary["workers"] in (1, 2)  # as many as the cluster had room for when it began
    alone = train_config(photographs, tmp_path / "alone")
    run.execute(job.prepare(alone), silent)
    for output in ("run", "alone"):
        assert [row["step"] for row in validations(tmp_path / output)] == [0, 4, STEPS]
    psnrs = [[row["psnr"] for row in validations(tmp_path / output)] for output in ("run", "alone")]
    assert psnrs[0] == pytest.approx(psnrs[1], abs=0.01)


@pytest.mark.long
def test_errors_of_a_worker_reach_the_user(photographs: Path, tmp_path: Path, ray_cluster: None) -> None:
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation" / "a.png").write_bytes(b"no image")
    config = train_config(photographs, tmp_path / "run", data={"validation": str(tmp_path / "validation")})
    with pytest.raises(UserError, match=r"data.validation: none of its images can be used.*checkpoint is none yet"):
        train(config)
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"train": "nowhere"}}, "data.train: nowhere does not exist"),
        ({"data": {"validation": "nowhere"}}, "data.validation: nowhere does not exist"),
        ({"network": None, "model": "nowhere"}, "model: "),
        ({"sigma": [5, 1e6]}, "sigma: 1000000 is beyond the model's schedule"),
        ({"network": tiny_network(k=8), "data": {"crop": 24}}, "data.crop: the network takes multiples of 16"),
        ({"loss": {"perceptual": {"weights": "nowhere.safetensors"}}}, "nowhere.safetensors does not exist"),
        ({"loss": {"perceptual": {"weights": "a.pth", "layers": ["relu9_9"]}}}, "relu9_9"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    photographs: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train_job.prepare(train_config(photographs, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_too_many_workers_are_refused(photographs: Path, tmp_path: Path, ray_cluster: None) -> None:
    config = train_config(photographs, tmp_path / "run", resources={"workers": 64}, optimizer={"batch_size": 64})
    with pytest.raises(UserError, match=r"resources.workers: 64 asked for, but the cluster's"):
        train(config)


def test_a_second_driver_is_turned_away(photographs: Path, tmp_path: Path) -> None:
    config = train_config(photographs, tmp_path / "run")
    plan = train_job.prepare(config)
    with Lease(config.output), pytest.raises(RunLockedError):
        train_job.execute(plan, silent)


@pytest.mark.long
def test_a_leg_of_the_embedded_model_by_two_workers(photographs: Path, tmp_path: Path, ray_cluster: None) -> None:
    words = [
        f"data.train={photographs}/train",
        f"data.validation={photographs}/validation",
        f"output={tmp_path}/run",
        "model=embedded",
        "network=null",
        "optimizer.minutes=0.05",  # less than is reserved for the end: one step, the least that a run makes
        "resources.workers=2",
    ]
    summary = train(load(TrainConfig, "configs/embedded.yaml", words))
    assert (summary["steps"], summary["workers"]) == (1, 2)
    files = model_files.find(str(tmp_path / "run" / "model"))
    files.check(max_sigma=60)
    shipped = model_files.find("embedded")
    assert model_files.read_json(files.scheduler) == model_files.read_json(shipped.scheduler)
    made, known = load_file(files.weights), load_file(shipped.weights)
    assert {name: tensor.shape for name, tensor in made.items()} == {name: t.shape for name, t in known.items()}


def test_the_shipped_recipes_have_plans(tmp_path: Path, shared_data: Path) -> None:
    words = [f"data.train={shared_data}/photos", f"data.validation={shared_data}/photos/gb82", f"output={tmp_path}/run"]
    plan = str(train_job.prepare(load(TrainConfig, "configs/embedded.yaml", words)))
    assert "uniform in sigma" in plan and "MSE of eps" in plan
