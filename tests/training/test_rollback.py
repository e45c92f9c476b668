"""A training with a time limit survives an exploding loss."""

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from imagewizard.config.train import TrainTask
from imagewizard.tracking import history
from imagewizard.training import checkpoint, loop
from imagewizard.training.budget import Deadline
from imagewizard.training.rollback import GoodState
from imagewizard.training.trainer import CHECK_STEPS, ExplodedError, Trainer
from imagewizard.training.worker import Worker
from tests.support.training_jobs import write_photographs
from tests.support.training_parts import CPU, batch, config, run_loop, task, train, trainer

ERROR = ExplodedError("at step 7 the loss is nan", "lower the rate", "optimizer.learning_rate")


def tensors(run: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in checkpoint.tensors_of(run).items()}


def test_weights_averages_and_moments_go_back_and_the_rate_is_halved() -> None:
    run = trainer(config())
    train(run, 3)
    good, before = GoodState(run), tensors(run)
    train(run, 2)
    assert good.go_back(ERROR) == "at step 7 the loss is nan; back to step 3, at 0.5 of the rate"
    assert (run.step, run.rate_factor) == (5, 0.5)
    after = tensors(run)
    assert before.keys() == after.keys() and any(name.startswith("exp_avg.") for name in after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert run.watch.least == run.watch.smoothed < float("inf")
    train(run, 1)


def test_a_state_is_kept_now_and_then_and_not_while_the_loss_rises() -> None:
    run = trainer(config())
    good = GoodState(run)
    run.step = CHECK_STEPS - 1
    good.keep()
    assert good.step == 0
    run.step, run.watch.smoothed, run.watch.least = CHECK_STEPS, torch.tensor(0.2), torch.tensor(0.1)
    good.keep()
    assert good.step == 0
    for smoothed, least in ((float("nan"), 0.1), (float("nan"), float("nan"))):
        run.watch.smoothed, run.watch.least = torch.tensor(smoothed), torch.tensor(least)
        good.keep()
        assert good.step == 0
    run.watch.smoothed, run.watch.least = torch.tensor(0.11), torch.tensor(0.1)
    good.keep()
    assert good.step == CHECK_STEPS


def test_a_resumed_run_has_a_state_to_go_back_to_though_its_loss_was_rising() -> None:
    run = trainer(config())
    run.step, run.watch.smoothed, run.watch.least = 250, torch.tensor(0.2), torch.tensor(0.1)
    before = tensors(run)
    good = GoodState(run)
    train(run, 1)
    assert "back to step 250" in good.go_back(ERROR)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(run).items())


def test_a_minimum_survives_a_step_that_is_not_finite() -> None:
    run = trainer(config())
    train(run, 3)
    good, least = GoodState(run), float(run.watch.least)
    run.watch.add(torch.tensor(float("nan")), torch.tensor(1.0), 3)
    good.go_back(ERROR)
    assert float(run.watch.least) == least


def test_only_calls_that_all_workers_make_together_tell_of_a_failed_step() -> None:
    """A worker that went back alone would train other weights than the rest."""
    run = trainer(config())
    run.watch.add(torch.tensor(float("nan")), torch.tensor(1.0), 0)
    run.read_clock()
    with pytest.raises(ExplodedError):
        run.settle()


def test_before_the_first_step_there_are_no_moments_to_go_back_to() -> None:
    run = trainer(config())
    good = GoodState(run)
    train(run, 2)
    good.go_back(ERROR)
    assert not run.optimizer.state
    train(run, 1)


def test_a_run_that_explodes_at_any_rate_is_given_up() -> None:
    good = GoodState(trainer(config()))
    for _ in range(10):
        good.go_back(ERROR)
    with pytest.raises(ExplodedError):
        good.go_back(ERROR)


def exploding_leg(folder: Path) -> TrainTask:
    optimizer = {"minutes": 60.0, "learning_rate": 30.0, "warmup_steps": 5}
    leg = task(write_photographs(folder), folder / "run", optimizer=optimizer)
    return replace(leg, deadline=time.time() + 3600.0)


def is_spent_after_60_steps(budget: Deadline, step: int) -> bool:
    return step >= 60


def test_a_leg_ends_with_a_model_though_its_loss_explodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadline, "is_spent", is_spent_after_60_steps)
    rows: list[dict[str, Any]] = []
    run_loop(exploding_leg(tmp_path), rows.append)
    events = [row for row in history.read(str(tmp_path / "run")) if row["kind"] == "event"]
    assert events and "the loss has risen from" in events[0]["text"]
    assert events[0]["text"].endswith("; back to step 0, at 0.5 of the rate")
    assert rows[-1]["kind"] == "validation" and rows[-1]["step"] >= 60 and rows[-1]["psnr"] > 0
    assert (tmp_path / "run" / "model" / "diffusion_pytorch_model.safetensors").exists()


def _worker(rank: int, leg: TrainTask, folder: Path) -> None:
    """Runs a leg as one of two workers, and writes what its trainer held at the end."""
    made: list[Trainer] = []

    def kept(trainer: Trainer) -> GoodState:
        made.append(trainer)
        return GoodState(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deadline, "is_spent", is_spent_after_60_steps)
        patch.setattr(loop, "GoodState", kept)
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
        run_loop(leg, worker=Worker(rank, 2, CPU))
        dist.destroy_process_group()
    torch.save((made[0].step, made[0].rate_factor, tensors(made[0])), folder / f"{rank}.pt")


def test_two_workers_go_back_together(tmp_path: Path) -> None:
    """On CPUs, where a failed step is noticed at once."""
    multiprocessing.set_forkserver_preload([__name__])
    start_processes(_worker, (exploding_leg(tmp_path), tmp_path), nprocs=2, start_method="forkserver")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first[:2] == second[:2] and first[0] >= 60 and first[1] < 1
    assert all(torch.equal(tensor, second[2][name]) for name, tensor in first[2].items())


def test_a_checkpoint_keeps_how_far_the_rate_has_fallen(tmp_path: Path) -> None:
    run = trainer(config())
    train(run, 1)
    run.rate_factor = 0.25
    checkpoint.write(run, tmp_path, 30.0, {})
    again = trainer(config())
    checkpoint.load(again, tmp_path, "x")
    assert again.rate_factor == 0.25
    assert again.train_step([batch(again.config, 1)]).learning_rate == 0.25 * run.config.optimizer.learning_rate
