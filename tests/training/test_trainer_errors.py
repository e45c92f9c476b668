"""Steps that fail: each gives one line, and changes nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imagewizard.errors import UserError
from imagewizard.training.batches import Batch
from imagewizard.training.trainer import LossWatch, Trainer
from tests.support.models import tiny_network
from tests.support.training_parts import CPU, batch, config, state, train, trainer


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


def test_eps_of_a_network_that_predicts_x0_may_vary_as_x0_does() -> None:
    """A sixfold rise for a while, which hard levels make, is an explosion only where the levels weigh alike."""
    watches = [LossWatch(config(), CPU, prediction) for prediction in ("epsilon", "v_prediction", "sample")]
    for watch in watches:
        for step in range(200):
            watch.add(torch.tensor(0.5 if step < 50 else 3.0), torch.tensor(0.3), step)
    for watch in watches[:2]:
        with pytest.raises(UserError, match="the loss has risen"):
            watch.check()
    watches[2].check()


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
