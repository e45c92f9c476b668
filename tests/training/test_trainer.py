"""Steps of a tiny network: micro-batches do not change the gradient, and errors give one line."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imagewizard.config.train import OptimizerSection, TrainConfig
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.errors import UserError
from imagewizard.models import files as model_files
from imagewizard.models import network
from imagewizard.training import validation
from imagewizard.training.batches import Batch
from imagewizard.training.budget import Steps
from imagewizard.training.losses import VGG19Features
from imagewizard.training.trainer import LossWatch, Trainer, learning_rate
from tests.support.models import CELEBAHQ_NETWORK, CELEBAHQ_SCHEDULER, tiny_network
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
    images = [("a.png", photo(40, 50, 0))]
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


# --- errors


def line(run: Trainer, micro_batches: list[Batch]) -> str:
    """The error of a failed step, after a check that the step changed nothing."""
    before, step = state(run), run.step
    with pytest.raises(UserError) as error:
        run.train_step(micro_batches)
    after = state(run)
    assert run.step == step
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if not name.startswith("grad."))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_loss_that_is_not_finite_stops_the_run() -> None:
    run = trainer(config())
    train(run, 2)
    broken = batch(run.config, 2)
    broken.eps[1, 0, 0, 0] = np.nan
    assert line(run, [broken]) == (
        "optimizer.learning_rate: at step 2 the loss is nan and its gradient's norm nan; "
        "lower the rate, in another output"
    )


def test_gradient_that_is_not_finite_stops_the_run() -> None:
    run = trainer(config())
    # A square root at zero: the loss is as before, its gradient is infinite.
    run.unet.conv_out.register_forward_hook(lambda module, args, output: output + (output * 0).abs().sqrt())
    found = line(run, [batch(run.config)])
    assert found.startswith("optimizer.learning_rate: at step 0 the loss is ") and "loss is nan" not in found


def test_loss_that_explodes_stops_the_run() -> None:
    run = trainer(config(optimizer={"learning_rate": 30.0, "warmup_steps": 10}))
    with pytest.raises(UserError) as error:
        train(run, 50)
    assert str(error.value).startswith(f"optimizer.learning_rate: at step {run.step} the loss has risen from ")
    assert str(error.value).endswith("; lower the rate, in another output") and 0 < run.step < 50


def test_sudden_rise_is_measured_against_the_minimum_loss() -> None:
    run = trainer(config())
    run.watch.smoothed.fill_(0.001)
    run.watch.least.fill_(0.001)  # as in a long run, before its weights are lost
    assert line(run, [batch(run.config)]).startswith(
        "optimizer.learning_rate: at step 0 the loss has risen from 0.001 to "
    )


def test_collapse_of_a_trained_network_is_detected() -> None:
    """As with too high a rate: the loss of a trained network rises from 0.12 to 1, as if it found no noise."""
    watch = LossWatch(config(), CPU)
    for step in range(300):
        assert not watch.add(torch.tensor(0.12), torch.tensor(0.3), step)
    watch.check()
    updates = [float(watch.add(torch.tensor(1.0), torch.tensor(0.3), 300 + step)) for step in range(60)]
    with pytest.raises(UserError, match=r"at step 3\d\d the loss has risen from 0\.12"):
        watch.check()
    assert updates == sorted(updates) and updates[-1] == 1.0  # no further update


@pytest.mark.parametrize(("mse", "usual"), [("eps", 0.5), ("x0", 0.1)])
def test_easy_first_batch_is_no_explosion(mse: str, usual: float) -> None:
    """A loss that only varies with the drawn levels, 900-fold on x0, is no explosion."""
    run = trainer(config(sigma=[2.0, 60.0], loss={"mse": mse}, optimizer={"batch_size": 1}))
    losses = iter([usual / 500, *[usual] * 99])
    zero = sum(parameter.sum() * 0 for parameter in run.unet.parameters())
    run.objective.forward = lambda *_: torch.full((2, 1), next(losses)) + zero  # type: ignore[method-assign]
    for step in range(100):
        run.train_step([batch(run.config, step)])
        zero = sum(parameter.sum() * 0 for parameter in run.unet.parameters())
    assert run.step == 100


# A stand-in for full memory, because a test must not fill a machine's real memory.
def full_above(run: Trainer, crops: int) -> None:
    def stand_in(module: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
        if len(args[0]) > crops:
            raise torch.OutOfMemoryError("CUDA out of memory (a stand-in)")

    run.unet.register_forward_pre_hook(stand_in)


@pytest.mark.parametrize(
    ("crops", "room", "hint"),
    [
        (4, 3, "2 fit: resources.micro_batch_size=2"),
        (4, 1, "1 fit: resources.micro_batch_size=1"),
        (14, 5, "2 fit: resources.micro_batch_size=2"),  # 3 would not divide the batch
        (15, 14, "5 fit: resources.micro_batch_size=5"),
        (4, 0, "not even one fits: lower data.crop"),
        (1, 0, "not even one fits: lower data.crop"),
    ],
)
def test_error_about_a_large_batch_names_a_size_that_fits(crops: int, room: int, hint: str) -> None:
    run = trainer(config(optimizer={"batch_size": crops}))
    full_above(run, room)
    assert line(run, [batch(run.config)]) == (
        f"resources.micro_batch_size: {crops} crops of 16 x 16 do not fit into memory; {hint}"
    )


def test_other_errors_are_not_mistaken_for_full_memory() -> None:
    run = trainer(config())
    run.unet.register_forward_pre_hook(lambda module, args: args[0].view(-1, 7))
    with pytest.raises(RuntimeError, match="shape"):
        train(run, 1)


LOWER = "give a lower level or another model"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"network": tiny_network(8), "data": {"crop": 24}},
            "data.crop: the network takes multiples of 16 pixels (got 24); give one of them",
        ),
        ({"sigma": [2.0, 30_000.0]}, f"sigma: 30000 is beyond the model's schedule, which ends at 20069; {LOWER}"),
        (
            {"schedule": {"num_train_timesteps": 10}},
            f"sigma: 60 is beyond the model's schedule, which ends at 42; {LOWER}",
        ),
        (
            {"sigma": [2.0, 30.0], "schedule": {"num_train_timesteps": 10}},  # validation is at 50
            f"sigma: 50 is beyond the model's schedule, which ends at 42; {LOWER}",
        ),
    ],
)
def test_incompatible_settings_are_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        trainer(config(**changes))
    assert str(error.value) == line
