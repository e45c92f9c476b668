"""The loop from first to last step: what it logs, saves and refuses; one process and two give the same result."""

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from safetensors.numpy import load_file
from torch.multiprocessing.spawn import start_processes

from imagewizard.config.train import TrainTask
from imagewizard.errors import UserError
from imagewizard.tracking import checkpoints, history
from imagewizard.tracking.log import TrainingLog
from imagewizard.training import checkpoint, export, job, loop
from imagewizard.training.trainer import StepResult, Trainer
from imagewizard.training.worker import Worker
from tests.support.bsds500_files import FINGERPRINTS
from tests.support.bsds500_files import picture as benchmark_picture
from tests.support.training_jobs import train_config, write_pairs, write_photographs
from tests.support.training_parts import CPU, listed, run_loop, task

STEPS = 7  # 4 epochs of 7 files, one of them broken, in batches of 4


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def state(output: Path, step: int = STEPS) -> dict[str, np.ndarray]:
    return load_file(output / "checkpoints" / f"step-{step:08d}" / "state.safetensors")


@pytest.fixture(scope="module")
def finished(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A finished run and its reported rows."""
    output = tmp_path_factory.mktemp("runs") / "one"
    rows: list[dict[str, Any]] = []
    run_loop(task(photographs, output), rows.append)
    return output, rows


def test_rows_cover_steps_and_validations(finished: tuple[Path, list[dict[str, Any]]]) -> None:
    validations = [row for row in finished[1] if row["kind"] == "validation"]
    assert [row["step"] for row in validations] == [0, 4, STEPS]  # two epochs are 3.5 steps
    trained = [row for row in finished[1] if row["kind"] == "train"]
    assert [row["step"] for row in trained] == [3, 4, 6, STEPS]  # each window is logged before a checkpoint cuts it
    last = trained[-1]
    assert (last["step"], last["steps"], last["epoch"]) == (STEPS, STEPS, 4.0)
    assert last["loss"] == last["mse"] > 0 and 0 <= last["overhead"] < 1 and last["images_per_second"] > 0


def test_best_and_newest_checkpoint_are_kept_and_the_best_is_exported(
    finished: tuple[Path, list[dict[str, Any]]],
) -> None:
    output, rows = finished
    best = max((row for row in rows if row["kind"] == "validation" and row["step"]), key=lambda row: row["psnr"])
    kept = checkpoints.kept(str(output))
    assert {found.step for found in kept} == {best["step"], STEPS}
    exported = load_file(output / "model" / "diffusion_pytorch_model.safetensors")
    weights = state(output, best["step"])
    for name, tensor in exported.items():
        np.testing.assert_array_equal(tensor, weights[f"ema.{name}"].astype(np.float16))
    facts = kept[-1].facts
    assert (facts["workers"], facts["device"]) == (1, "cpu") and facts["seconds"] > 0
    assert [text.split(":")[0] for text in facts["skipped"]] == ["broken.png"]


class StopError(Exception):
    """Raised by a reporter to end a run."""


def test_resumed_run_ends_like_an_uninterrupted_one(
    photographs: Path, tmp_path: Path, finished: tuple[Path, list[dict[str, Any]]]
) -> None:
    def stop(row: dict[str, Any]) -> None:
        if row["kind"] == "validation" and row["step"] == 4:
            raise StopError

    with pytest.raises(StopError):
        run_loop(task(photographs, tmp_path), stop)
    assert checkpoints.latest_step(str(tmp_path)) == 3  # every third step saves one
    run_loop(task(photographs, tmp_path))
    expected = state(finished[0])
    for name, tensor in state(tmp_path).items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


def test_a_run_whose_steps_are_done_trains_no_more(photographs: Path, tmp_path: Path) -> None:
    """As after the death of a worker that had only to end."""
    run_loop(task(photographs, tmp_path))
    rows: list[dict[str, Any]] = []
    run_loop(task(photographs, tmp_path), rows.append)
    assert rows == [] and checkpoints.latest_step(str(tmp_path)) == STEPS


def test_a_run_that_was_killed_while_it_exported_exports_again(
    photographs: Path, tmp_path: Path, finished: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export.export

    def killed(job: TrainTask, weights: dict[str, torch.Tensor], scores: dict[str, Any]) -> None:
        if scores["step"] == STEPS:
            raise StopError
        exported(job, weights, scores)

    monkeypatch.setattr(export, "export", killed)
    with pytest.raises(StopError):
        run_loop(task(photographs, tmp_path))
    monkeypatch.undo()
    run_loop(task(photographs, tmp_path))
    weights = Path("model", "diffusion_pytorch_model.safetensors")
    assert (tmp_path / weights).read_bytes() == (finished[0] / weights).read_bytes()


def test_a_run_whose_time_is_up_makes_one_step(photographs: Path, tmp_path: Path) -> None:
    started = time.time()
    leg = task(photographs, tmp_path, optimizer={"minutes": 1.0})
    run_loop(replace(leg, deadline=started - 1.0))
    assert time.time() < started + 20.0
    (only,) = checkpoints.kept(str(tmp_path))
    assert only.step == 1 and only.psnr > 0
    assert 61.0 < only.facts["seconds"] < 81.0  # of its time limit
    assert (tmp_path / "model" / "diffusion_pytorch_model.safetensors").is_file()


def test_a_run_with_a_time_limit_ends_in_time(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which a step takes five seconds and a checkpoint ten."""
    seconds, made = [0.0], []
    monkeypatch.setattr(Worker, "clock", lambda worker: seconds[0])
    train_step = Trainer.train_step

    def slow_step(*args: Any) -> StepResult:
        seconds[0] += 5.0
        return train_step(*args)

    monkeypatch.setattr(Trainer, "train_step", slow_step)
    save, flush, exported = checkpoint.save, TrainingLog.flush, export.export

    def slow_save(*args: Any) -> str:
        seconds[0] += 10.0
        made.append("checkpoint")
        return save(*args)

    def noted_flush(log: TrainingLog) -> None:
        made.append("log")
        flush(log)

    def noted_export(*args: Any) -> None:
        made.append("model")
        exported(*args)

    monkeypatch.setattr(checkpoint, "save", slow_save)
    monkeypatch.setattr(TrainingLog, "flush", noted_flush)
    monkeypatch.setattr(export, "export", noted_export)
    monkeypatch.setattr(loop, "STATUS_SECONDS", 0.0)
    rows: list[dict[str, Any]] = []
    leg = task(photographs, tmp_path, optimizer={"minutes": 10.0}, validation={"every_epochs": 20})
    run_loop(replace(leg, deadline=600.0), rows.append)
    assert 590.0 <= seconds[0] <= 600.0
    saved = made.count("checkpoint")
    assert 3 <= saved <= 4  # a twentieth of the time, and the last one
    # In this order, because a resume repeats only what comes after the newest checkpoint.
    assert [made[at - 1] for at, name in enumerate(made) if name == "checkpoint"] == ["log"] * saved
    assert "model" not in [made[at - 1] for at, name in enumerate(made) if name == "model"]
    assert [row["step"] for row in rows if row["kind"] == "validation"][-1] == checkpoints.latest_step(str(tmp_path))
    rates = [row["learning_rate"] for row in rows if row["kind"] == "train"]
    assert max(rates) > 2.9e-3 and rates[-1] < 1e-4  # the cosine follows the clock
    assert (tmp_path / "model" / "diffusion_pytorch_model.safetensors").is_file()


def test_user_error_names_the_last_checkpoint(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^optimizer\.learning_rate: at step \d+ .*the last good checkpoint is none yet$"
    ):
        run_loop(task(photographs, tmp_path, optimizer={"learning_rate": 1e6, "warmup_steps": 0, "clip_norm": 1e6}))


def test_validation_on_the_benchmark_is_refused(photographs: Path, tmp_path: Path) -> None:
    name, digits = next(iter(FINGERPRINTS.items()))
    (tmp_path / "validation").mkdir()
    Image.fromarray(benchmark_picture(digits)).save(tmp_path / "validation" / "a.png")
    job = task(photographs, tmp_path / "run")
    job = TrainTask(job.config, job.images, listed(tmp_path / "validation"), 2, 1, job.in_memory)
    with pytest.raises(UserError, match=rf"^data\.validation: a\.png is CBSD68's {name}"):
        run_loop(job)


# --- two processes


def _worker(rank: int, job: TrainTask, meeting: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    run_loop(job, worker=Worker(rank, 2, CPU))
    dist.destroy_process_group()


def test_two_processes_give_the_same_result_as_one(
    photographs: Path, tmp_path: Path, finished: tuple[Path, list[dict[str, Any]]]
) -> None:
    multiprocessing.set_forkserver_preload([__name__])
    job = task(photographs, tmp_path / "two")
    start_processes(_worker, (job, str(tmp_path / "meeting")), nprocs=2, start_method="forkserver")
    expected, found = state(finished[0]), state(tmp_path / "two")
    for name in expected:
        if name.startswith(("unet.", "ema.")):
            torch.testing.assert_close(
                torch.from_numpy(found[name]), torch.from_numpy(expected[name]), atol=1e-5, rtol=0
            )
    facts = checkpoints.kept(str(tmp_path / "two"))[-1].facts
    assert facts["workers"] == 2 and [text.split(":")[0] for text in facts["skipped"]] == ["broken.png"]


def test_pairs_pick_the_best_checkpoint_where_there_are_no_clean_images(photographs: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "images")
    told = {}
    for name, source in (("both", f"{photographs}/validation"), ("pairs", None)):
        config = train_config(
            photographs, tmp_path / name, data={"validation": source}, validation={"pairs": pairs, "every_epochs": 20}
        )
        plan = job.prepare(config)
        run_loop(job.task(plan, job.begin(plan, lambda: None, lambda text: None), 1, 1))
        row = history.of_kind(history.read(str(tmp_path / name)), history.VALIDATION)[-1]
        told[name] = row
        assert row["psnr_noisy_pairs"] == pytest.approx(26.5, abs=0.5)  # noise of 12; pair 1 is left out
        assert any("pairs/1: its noisy" in text for text in checkpoints.kept(str(tmp_path / name))[-1].facts["skipped"])
    assert told["pairs"]["psnr"] == told["pairs"]["psnr_pairs"] == told["both"]["psnr_pairs"]
    assert told["both"]["psnr"] == pytest.approx(np.mean([told["both"][f"psnr_{s}"] for s in (15, 25, 50)]), abs=1e-3)
    assert "psnr_15" not in told["pairs"]


def test_pairs_of_which_none_can_be_used(photographs: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "images")
    for path in Path(pairs["noisy"]).iterdir():
        path.write_bytes(b"no image")
    config = train_config(photographs, tmp_path / "run", validation={"pairs": pairs})
    plan = job.prepare(config)
    with pytest.raises(UserError, match=r"^validation\.pairs: none of its images can be used; give a folder with"):
        run_loop(job.task(plan, job.begin(plan, lambda: None, lambda text: None), 1, 1))
