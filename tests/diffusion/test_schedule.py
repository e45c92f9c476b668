"""The noise schedule against diffusers' numbers and the documented table."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from imagewizard.diffusion.schedule import NoiseSchedule, alpha_bar_of_sigma, sigma_to_std
from imagewizard.errors import UserError
from tests.support.models import LINEAR

BETAS = {
    "linear": LINEAR,
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "short": {"beta_schedule": "linear", "beta_start": 1e-3, "beta_end": 0.2, "num_train_timesteps": 100},
    "listed": {"trained_betas": [0.001, 0.01, 0.1, 0.5]},
}


@pytest.fixture(params=BETAS, name="betas")
def _betas(request: pytest.FixtureRequest) -> dict:
    return BETAS[request.param]


def levels(schedule: NoiseSchedule) -> np.ndarray:
    """The sigmas (0-255 scale) of the schedule's steps, by the definition."""
    return np.sqrt((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod) * 255 / 2


def test_sigma_is_half_the_range_of_255() -> None:
    assert sigma_to_std(127.5) == 1.0
    assert sigma_to_std(25) == pytest.approx(0.19607843)


@pytest.mark.parametrize(
    ("sigma", "timestep"), [(5, 8), (10, 20), (15, 32), (25, 56), (50, 114), (75, 167), (100, 214)]
)
def test_linear_schedule_has_the_documented_timesteps(sigma: float, timestep: int) -> None:
    assert NoiseSchedule.from_config(LINEAR).timestep(sigma) == pytest.approx(timestep, abs=0.5)


def test_linear_schedule_starts_where_documented() -> None:
    assert levels(NoiseSchedule.from_config(LINEAR))[0] == pytest.approx(1.28, abs=0.01)


def test_betas_are_diffusers_own(betas: dict) -> None:
    expected = DDPMScheduler(**betas).alphas_cumprod.numpy()
    np.testing.assert_allclose(
        NoiseSchedule.from_config(betas).alphas_cumprod, expected, rtol=2e-5
    )  # diffusers computes in float32


def test_steps_of_the_schedule_are_reproduced_exactly(betas: dict) -> None:
    schedule = NoiseSchedule.from_config(betas)
    for step, sigma in enumerate(levels(schedule)):
        assert schedule.timestep(sigma) == pytest.approx(step, abs=1e-6)
        assert schedule.alpha_bar(step) == pytest.approx(schedule.alphas_cumprod[step], rel=1e-9)
        assert alpha_bar_of_sigma(sigma) == pytest.approx(schedule.alphas_cumprod[step], rel=1e-9)


def test_timestep_rises_between_steps_and_alpha_bar_inverts_it(betas: dict) -> None:
    schedule = NoiseSchedule.from_config(betas)
    own = levels(schedule)
    sigmas = np.geomspace(own[0], own[-1], 2000)
    timesteps = np.array([schedule.timestep(s) for s in sigmas])
    assert (np.diff(timesteps) > 0).all()
    floor = np.floor(timesteps[1:-1]).astype(int)
    assert (own[floor] <= sigmas[1:-1] * (1 + 1e-9)).all()
    assert (sigmas[1:-1] <= own[floor + 1] * (1 + 1e-9)).all()
    inverse = [schedule.alpha_bar(t) for t in timesteps]
    np.testing.assert_allclose(inverse, [1 / (1 + (2 * s / 255) ** 2) for s in sigmas], rtol=1e-9)


def test_level_below_the_lowest_is_step_zero(betas: dict) -> None:
    schedule = NoiseSchedule.from_config(betas)
    least = levels(schedule)[0]
    assert [schedule.timestep(least * factor) for factor in (0.999, 0.1, 1e-6)] == [0.0, 0.0, 0.0]


def test_level_beyond_the_schedule_is_refused(betas: dict) -> None:
    schedule = NoiseSchedule.from_config(betas)
    assert schedule.max_sigma == pytest.approx(levels(schedule)[-1])
    assert schedule.timestep(schedule.max_sigma) == pytest.approx(len(schedule.alphas_cumprod) - 1)
    with pytest.raises(UserError, match=rf"^sigma: .* beyond .* {schedule.max_sigma:.0f}; give a lower level"):
        schedule.timestep(schedule.max_sigma * 1.001)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_what_the_network_predicts_is_read(prediction: str) -> None:
    assert NoiseSchedule.from_config(LINEAR | {"prediction_type": prediction}).prediction == prediction
    assert NoiseSchedule.from_config(LINEAR).prediction == "epsilon"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_betas_rescaled_to_zero_signal_are_diffusers_own(betas: dict, prediction: str) -> None:
    changes = {"rescale_betas_zero_snr": True, "prediction_type": prediction}
    expected = DDPMScheduler(**betas, **changes).alphas_cumprod.numpy()
    schedule = NoiseSchedule.from_config(betas | changes)
    assert expected[-1] == 0.0  # pure noise, which no image has: the step is left out
    np.testing.assert_allclose(schedule.alphas_cumprod, expected[:-1], rtol=1e-3)  # diffusers computes in float32
    timestep = len(expected) // 2
    assert schedule.timestep(levels(schedule)[timestep]) == pytest.approx(timestep, abs=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {"beta_schedule": "nonesuch"},
        {"beta_start": "small"},
        {"beta_end": 2.0},  # abar would become negative
        {"beta_start": 0.0},  # the first step would add no noise
        {"num_train_timesteps": 0},
        {"trained_betas": [0.1, float("nan")]},
        {"trained_betas": [0.1], "rescale_betas_zero_snr": True},
        {"_class_name": "ScoreSdeVeScheduler", "sigma_min": 0.01, "sigma_max": 1348.0},
        {"_class_name": "IPNDMScheduler", "num_train_timesteps": 1000, "trained_betas": None},
    ],
    ids=lambda config: str(next(iter(config.items()))),
)
def test_schedules_other_than_a_ddpms_are_refused_in_one_line(config: dict) -> None:
    with pytest.raises(UserError) as error:
        NoiseSchedule.from_config(config)
    assert str(error.value).startswith("model: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prediction_type": "flow_prediction"}, "prediction_type=flow_prediction"),
        ({"prediction_type": "trigflow"}, "prediction_type=trigflow"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas=True"),
        ({"timestep_type": "continuous"}, "timestep_type=continuous"),
        ({"snr_shift_scale": 3.0}, "snr_shift_scale=3.0"),
        ({"thresholding": True, "sample_max_value": 1.5}, "thresholding=true with sample_max_value=1.5"),
        ({"clip_sample_range": 0.0}, "clip_sample_range=0.0"),
        ({"clip_sample_range": "wide"}, "clip_sample_range=wide"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'"),
    ],
    ids=lambda value: str(value),
)
def test_what_is_not_done_is_refused_by_name(changes: dict, named: str) -> None:
    with pytest.raises(UserError, match=rf"^model: [^\n]*{named}[^\n]*$"):
        NoiseSchedule.from_config(LINEAR | changes)


@pytest.mark.parametrize(
    ("changes", "clip"),
    [
        ({}, 1.0),
        ({"clip_sample": False}, None),
        ({"clip_sample_range": 2.0}, 2.0),
        ({"thresholding": True, "clip_sample": False}, 1.0),  # up to 1, dynamic thresholds clip at 1
        ({"thresholding": True, "clip_sample_range": 2.0}, 1.0),
    ],
)
def test_clipping_follows_the_scheduler_config(changes: dict, clip: float | None) -> None:
    assert NoiseSchedule.from_config(LINEAR | changes).clip == clip
    x = 3 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scheduler = DDIMScheduler(**LINEAR, **changes)
    scheduler.set_timesteps(10)
    theirs = scheduler.step(torch.zeros_like(x), 0, x).pred_original_sample
    free = x / scheduler.alphas_cumprod[0].sqrt()
    torch.testing.assert_close(theirs, free if clip is None else free.clamp(-clip, clip))


@pytest.mark.parametrize(
    "scheduler",
    [DDPMScheduler, PNDMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler],
    ids=lambda scheduler: scheduler.__name__,
)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_configs_of_diffusers_other_samplers_are_read(scheduler: Any, prediction: str) -> None:
    config = dict(scheduler(**LINEAR, prediction_type=prediction, timestep_spacing="trailing").config)
    found = NoiseSchedule.from_config(config | {"_class_name": scheduler.__name__})
    np.testing.assert_allclose(found.alphas_cumprod, DDIMScheduler(**LINEAR).alphas_cumprod, rtol=2e-5)
    assert found.prediction == prediction


def test_configs_of_other_ddpm_schedulers_are_read() -> None:
    config = dict(DDPMScheduler(**LINEAR).config)  # the reference models' scheduler, which has keys unknown to DDIM
    expected = NoiseSchedule.from_config(dict(DDIMScheduler(**LINEAR).config))
    np.testing.assert_array_equal(NoiseSchedule.from_config(config).alphas_cumprod, expected.alphas_cumprod)
