"""The teacher's estimates from other views, and a student that learns their mean."""

import copy

import pytest
import torch

from imagewizard.config.train import LossSection
from imagewizard.diffusion.sampling import predict_eps
from imagewizard.training.distillation import VIEWS, Teacher
from imagewizard.training.losses import Objective
from imagewizard.training.trainer import Trainer
from tests.support.models import tiny_unet
from tests.support.training_parts import CPU, batch, config, trainer
from tests.training.test_losses import BATCH, X_T

TIMESTEPS = BATCH.timesteps


def seen_in(view: int, images: torch.Tensor) -> torch.Tensor:
    return torch.rot90(images.flip(3) if view >= 4 else images, view % 4, (2, 3))


def seen_back(view: int, images: torch.Tensor) -> torch.Tensor:
    turned = torch.rot90(images, -(view % 4), (2, 3))
    return turned.flip(3) if view >= 4 else turned


@torch.no_grad()
@pytest.mark.parametrize("k", [1, 2])
def test_each_view_is_a_flip_and_turn_that_is_undone(k: int) -> None:
    unet = tiny_unet(k)
    teacher = Teacher(unet, 16)
    for view in range(VIEWS):
        expected = seen_back(view, predict_eps(unet, seen_in(view, X_T), TIMESTEPS))
        found = teacher(X_T, TIMESTEPS, torch.full((3,), view))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    mixed = teacher(X_T, TIMESTEPS, torch.tensor([5, 0, 2]))
    alone = torch.cat(
        [teacher(X_T[i : i + 1], TIMESTEPS[i : i + 1], torch.tensor([v])) for i, v in enumerate([5, 0, 2])]
    )
    torch.testing.assert_close(mixed, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mse", ["eps", "x0"])
def test_the_loss_is_that_against_the_teacher_and_the_teachers_own(mse: str) -> None:
    section = LossSection.model_validate({"mse": mse, "distil": True})
    student = copy.deepcopy(tiny_unet()).requires_grad_(True)
    teacher = Teacher(copy.deepcopy(student), 16)
    with torch.no_grad():
        student.conv_out.bias += 0.1
    losses = Objective(student, section, None, False, teacher)(*BATCH)
    with torch.no_grad():
        predicted, target = predict_eps(student, X_T, TIMESTEPS), teacher(X_T, TIMESTEPS, BATCH.view)
        weight = (1 - BATCH.alpha_bar) / BATCH.alpha_bar if mse == "x0" else 1.0
        expected = (((predicted - target) ** 2 + (target - BATCH.eps) ** 2) * weight).mean(dim=(1, 2, 3))
    torch.testing.assert_close(losses, torch.stack([expected, expected]), rtol=1e-3, atol=1e-6)
    losses[0].sum().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def distance(run: Trainer, teacher: Teacher) -> float:
    """Mean squared difference of the run's averaged network from the mean over the teacher's views."""
    job = run.config
    samples = batch(job, 1000)
    x_t = samples.alpha_bar.sqrt() * samples.clean + (1 - samples.alpha_bar).sqrt() * samples.eps
    with torch.no_grad():
        count = len(samples.timesteps)
        mean = sum(teacher(x_t, samples.timesteps, torch.full((count,), view)) for view in range(VIEWS)) / VIEWS
        return float((predict_eps(run.averaged_unet(), x_t, samples.timesteps) - mean).square().mean())


def test_a_student_learns_the_mean_over_the_views_and_its_teacher_stays() -> None:
    start = trainer(config()).unet
    job = config(model="embedded", loss={"distil": True})
    teacher = Teacher(copy.deepcopy(start), job.data.crop)
    run = Trainer(job, start, trainer(config()).schedule, trainer(config()).budget, CPU)
    before = distance(run, teacher)
    for _ in range(40):
        run.train_step([batch(job, run.step)])
    assert distance(run, teacher) < 0.5 * before
    assert run.objective.teacher is not None
    kept, first = run.objective.teacher.unet.state_dict(), teacher.unet.state_dict()
    assert all(torch.equal(kept[name], first[name]) for name in first)
    assert not torch.equal(run.unet.conv_in.weight, first["conv_in.weight"])


def test_a_network_with_random_weights_has_nothing_to_teach() -> None:
    with pytest.raises(ValueError, match=r"loss\.distil: random weights have nothing to teach; give model"):
        config(loss={"distil": True})
