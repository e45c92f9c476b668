"""Steps of a tiny network: neither micro-batches nor a second process change the gradient."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imagewizard.config.train import OptimizerSection, TrainConfig
from imagewizard.diffusion import compile_cache
from imagewizard.diffusion.schedule import NoiseSchedule, Prediction
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.models import files as model_files
from imagewizard.models import network
from imagewizard.training import validation
from imagewizard.training.budget import Steps
from imagewizard.training.losses import Objective, VGG19Features
from imagewizard.training.trainer import Trainer, learning_rate
from tests.support.models import CELEBAHQ_NETWORK, CELEBAHQ_SCHEDULER, LINEAR, tiny_unet
from tests.support.sample_files import photo
from tests.support.training_parts import (
    CPU,
    LAYERS,
    batch,
    config,
    pieces,
    shared_training,
    state,
    train,
    trainer,
    vgg19_file,
)


def options(**changes: Any) -> OptimizerSection:
    return OptimizerSection.model_validate({"epochs": 1, "learning_rate": 0.5, "warmup_steps": 10} | changes)


def apart(a: dict[str, Tensor], b: dict[str, Tensor], kind: str) -> float:
    """Norm of the difference divided by the norm of `a`, over all tensors of a kind."""
    names = [name for name in a if name.startswith(f"{kind}.")]
    assert names and names == [name for name in b if name.startswith(f"{kind}.")]
    difference = sum((a[name] - b[name]).square().sum().item() for name in names)
    return math.sqrt(difference / sum(a[name].square().sum().item() for name in names))


def moved(run: Trainer, before: dict[str, Tensor]) -> bool:
    return any(not torch.equal(tensor, before[name]) for name, tensor in state(run).items() if name in before)


# --- what the network predicts


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_a_step_takes_the_networks_output_for_what_its_schedule_says(kind: Prediction) -> None:
    job = config()
    schedule = NoiseSchedule.from_config(LINEAR | {"prediction_type": kind})
    whole, unet = batch(job), tiny_unet()
    losses = Objective(tiny_unet(), job.loss, None, False, kind)(*whole)[0]
    run = Trainer(job, unet, schedule, Steps(5), CPU)
    assert run.train_step([whole]).terms["loss"] == pytest.approx(float(losses.mean()), rel=1e-4)


# --- learning rate


def test_learning_rate_rises_linearly_and_falls_as_a_cosine_to_zero() -> None:
    rates = [learning_rate(step, Steps(110), options()) for step in range(111)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) * 0.05)
    assert rates[10] == 0.5
    quarters = [0.25 + 0.25 * math.sqrt(0.5), 0.25, 0.25 - 0.25 * math.sqrt(0.5)]
    np.testing.assert_allclose([rates[35], rates[60], rates[85]], quarters)
    assert rates[110] == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(rates[10:]) < 0).all()


def test_learning_rate_may_be_constant() -> None:
    rates = [learning_rate(step, Steps(110), options(decay="constant")) for step in range(110)]
    assert rates[:2] == [0.05, 0.1] and set(rates[10:]) == {0.5}


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (5, 100), (5, 5)])
def test_learning_rate_of_very_short_runs(steps: int, warmup: int) -> None:
    assert all(0 < learning_rate(step, Steps(steps), options(warmup_steps=warmup)) <= 0.5 for step in range(steps))


# --- one step


def test_step_is_adamw_on_the_mean_over_the_batch() -> None:
    job = config(optimizer={"clip_norm": 0.05, "weight_decay": 0.3, "warmup_steps": 0})
    run, twin = trainer(job), trainer(job)
    by_hand = torch.optim.AdamW(twin.unet.parameters(), weight_decay=0.3)
    for step in range(3):
        losses = twin.objective(*batch(job, step))[0]
        by_hand.zero_grad()
        losses.mean().backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in twin.unet.parameters()))
        for parameter in twin.unet.parameters():
            parameter.grad *= min(1.0, 0.05 / norm)
        by_hand.param_groups[0]["lr"] = rate = learning_rate(step, Steps(50), job.optimizer)
        by_hand.step()
        result = run.train_step([batch(job, step)])
        assert norm > 0.05  # so that clipping had an effect
        assert result.terms == {"loss": pytest.approx(losses.mean().item()), "mse": pytest.approx(losses.mean().item())}
        assert (result.grad_norm, result.learning_rate) == (pytest.approx(norm, rel=1e-4), rate)
    run.settle()
    assert run.step == 3 and run.busy_seconds > 0
    assert apart(state(run), state(twin), "unet") < 1e-5


@pytest.mark.parametrize("micro", [1, 2])
def test_gradient_does_not_depend_on_the_micro_batch_size(micro: int) -> None:
    whole, cut = trainer(config()), trainer(config())
    for step in range(3):
        expected = whole.train_step([batch(whole.config, step)])
        found = cut.train_step(pieces(batch(cut.config, step), micro))
        assert found.terms == pytest.approx(expected.terms, rel=1e-5)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
        assert apart(state(whole), state(cut), "grad") < 1e-4
    assert apart(state(whole), state(cut), "unet") < 1e-4


def test_gradient_checkpointing_changes_nothing() -> None:
    usual, frugal = trainer(config()), trainer(config(gradient_checkpointing=True))
    assert frugal.unet.is_gradient_checkpointing
    assert train(usual, 2) == pytest.approx(train(frugal, 2), rel=1e-6)
    assert apart(state(usual), state(frugal), "grad") < 1e-5


def test_averaged_weights_follow_the_weights() -> None:
    run = trainer(config(optimizer={"ema_decay": 0.2}))
    expected = {name: parameter.detach().clone() for name, parameter in run.unet.named_parameters()}
    for step in range(1, 6):
        train(run, 1)
        decay = min(0.2, step / (step + 10))  # 1/11, 1/6, then 0.2
        for name, parameter in run.unet.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
    averaged = run.averaged_unet()
    assert not averaged.training and run.unet.training
    for name, parameter in averaged.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-5, atol=1e-6)
    assert apart(state(run) | {f"unet.{name}": tensor for name, tensor in expected.items()}, state(run), "unet") > 1e-4


def test_loss_falls() -> None:
    run = trainer(config(optimizer={"learning_rate": 1e-2}), steps=60)
    seen = train(run, 60)
    assert 0.5 < seen[0] < 2  # a random network predicts nothing of eps, and eps has variance 1
    assert np.mean(seen[-10:]) < 0.5 * np.mean(seen[:3])


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="on CPUs torch.compile needs g++")
def test_a_compiled_network_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compile_cache.VARIABLE, "")  # so that what the trainer sets is gone afterwards
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runs = [trainer(config(compile=compiled)) for compiled in (False, True)]
    before = state(runs[0])
    for run in runs:
        train(run, 3)
    plain, compiled = (state(run) for run in runs)
    assert apart(compiled, plain, "unet") < 0.01 * apart(before, plain, "unet")
    assert any((tmp_path / "imagewizard" / "compiled").iterdir()), "the next process finds it there"


@pytest.mark.long
def test_published_celebahq_model_is_trained_and_denoises(tmp_path: Path) -> None:
    """A folder in diffusers' layout with 113.7 million random weights stands in for the recipe's model."""
    unet = UNet2DModel(**model_files.arguments(CELEBAHQ_NETWORK))
    unet.save_pretrained(tmp_path)
    (tmp_path / "scheduler_config.json").write_text(json.dumps(CELEBAHQ_SCHEDULER))
    (tmp_path / "config.json").write_text(json.dumps(CELEBAHQ_NETWORK))
    before = {name: parameter.detach().clone() for name, parameter in unet.named_parameters()}
    job = config(model=str(tmp_path), data={"crop": 32}, optimizer={"batch_size": 1}, gradient_checkpointing=True)
    run = Trainer(job, *network.load(model_files.find(str(tmp_path))), Steps(10), CPU)
    result = run.train_step([batch(job)])
    assert math.isfinite(result.terms["loss"]) and math.isfinite(result.grad_norm)
    assert sum(parameter.numel() for parameter in run.unet.parameters()) == 113_673_219
    assert all(not torch.equal(parameter, before[name]) for name, parameter in run.unet.named_parameters())
    images = [validation.ValidationImage("a.png", photo(40, 50, 0))]
    scores = validation.score(run.averaged_unet(), run.schedule, job.validation, images, seed=0)
    assert np.isfinite(scores.sums).all()


# --- two processes


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, TrainConfig]]:
    """Two processes train three steps, with four or three micro-batches of one crop per batch."""
    folder = tmp_path_factory.mktemp("shared")
    perceptual = {"mse": "x0", "perceptual": {"weight": 0.1, "weights": vgg19_file(folder), "layers": LAYERS}}
    three = {"batch_size": 3}
    jobs = {"even": config(), "uneven": config(optimizer=three), "perceptual": config(loss=perceptual, optimizer=three)}
    shared_training(jobs, micro=1, steps=3, workers=2, folder=folder)
    return folder, jobs


@pytest.mark.parametrize("name", ["even", "uneven", "perceptual"])
def test_two_processes_learn_the_same_as_one(shared: tuple[Path, dict[str, TrainConfig]], name: str) -> None:
    folder, jobs = shared
    first, second = (torch.load(folder / f"{name}-{rank}.pt") for rank in range(2))
    assert first["results"] == second["results"]
    assert first["state"].keys() == second["state"].keys()
    assert all(torch.equal(tensor, second["state"][key]) for key, tensor in first["state"].items())

    perceptual = jobs[name].loss.perceptual
    alone = trainer(jobs[name], VGG19Features(perceptual.weights, perceptual.layers) if perceptual else None)
    before = state(alone)
    for step, result in enumerate(first["results"]):
        expected = alone.train_step([batch(jobs[name], step)])
        assert result["terms"] == pytest.approx(expected.terms, rel=1e-4)
        assert result["grad_norm"] == pytest.approx(expected.grad_norm, rel=1e-3)
    assert apart(state(alone), first["state"], "grad") < 1e-3
    for kind in ("unet", "ema"):
        assert apart(state(alone), first["state"], kind) < 0.01 * apart(state(alone), before, kind)
