"""A training with a time limit survives an exploding loss."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imagewizard.tracking import history
from imagewizard.training import checkpoint
from imagewizard.training.rollback import GoodState
from imagewizard.training.trainer import CHECK_STEPS, ExplodedError, Trainer
from tests.support.training_jobs import write_photographs
from tests.support.training_parts import config, train, trainer
from tests.training.test_loop import task
from tests.training.test_loop import train as run_loop

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
    run.watch.smoothed = torch.tensor(0.11)
    good.keep()
    assert good.step == CHECK_STEPS


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


def test_a_leg_ends_in_time_with_a_model_though_its_loss_explodes(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    optimizer = {"minutes": 1.0, "learning_rate": 30.0, "warmup_steps": 5}
    leg = task(write_photographs(tmp_path), tmp_path / "run", optimizer=optimizer)
    run_loop(replace(leg, deadline=time.time() + 6.0), rows.append)
    events = [row for row in history.read(str(tmp_path / "run")) if row["kind"] == "event"]
    assert events and "the loss has risen from" in events[0]["text"]
    assert events[0]["text"].endswith("; back to step 0, at 0.5 of the rate")
    assert rows[-1]["kind"] == "validation" and rows[-1]["psnr"] > 0
    assert (tmp_path / "run" / "model" / "diffusion_pytorch_model.safetensors").exists()
