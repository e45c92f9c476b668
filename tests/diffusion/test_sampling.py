"""One-step and DDIM estimates against diffusers' scheduler, naive loops and networks with a known answer."""

import math
from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from imagewizard.diffusion.architecture import size_multiple, unshuffle_factor
from imagewizard.diffusion.sampling import (
    ddim,
    ddim_step,
    ddim_timesteps,
    posterior_mean,
    predict,
    solve,
)
from imagewizard.diffusion.schedule import NoiseSchedule, Prediction
from imagewizard.diffusion.unet import UNet2DModel
from tests.support.models import LINEAR, Reparametrised, tiny_unet

SCHEDULE = NoiseSchedule.from_config(LINEAR | {"clip_sample": False})
CLIPPING = NoiseSchedule.from_config(LINEAR | {"clip_sample": True})


class Oracle(torch.nn.Module):
    """A network that knows the clean image: it returns the noise in x_t at the levels `alpha_bar`, or v, or x0."""

    config = {"in_channels": 3, "time_embedding_type": "positional"}
    dtype = torch.float32

    def __init__(self, x0: Tensor, alpha_bar: Tensor, kind: Prediction = "epsilon") -> None:
        super().__init__()
        self.x0, self.alpha_bar, self.kind = x0, alpha_bar, kind

    def forward(self, x_t: Tensor, timesteps: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert not return_dict
        signal, noise = self.alpha_bar.sqrt(), (1 - self.alpha_bar).sqrt()
        eps = (x_t - signal * self.x0) / noise.clamp(min=1e-6)
        return ({"epsilon": eps, "v_prediction": signal * eps - noise * self.x0, "sample": self.x0}[self.kind],)


class Recorder(torch.nn.Module):
    """A network that predicts `eps` everywhere and records the timesteps of its calls."""

    config = {"in_channels": 3, "time_embedding_type": "positional"}
    dtype = torch.float32

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps, self.seen = eps, []

    def forward(self, x_t: Tensor, timesteps: Tensor, return_dict: bool) -> tuple[Tensor]:
        self.seen.append(timesteps.tolist())
        return (torch.full_like(x_t, self.eps),)


def images(count: int = 2, side: int = 16) -> Tensor:
    """Clean images in [-1, 1]."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def noise(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(2))


def abar(sigma: float) -> Tensor:
    return torch.tensor(1 / (1 + (2 * sigma / 255) ** 2)).view(1, 1, 1, 1)


# --- the step, on the scheduler's own grid


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 4, 10, 50])
@torch.inference_mode()
def test_step_equals_the_schedulers_own_on_its_grid(steps: int, spacing: str, clip: bool, kind: Prediction) -> None:
    unet = tiny_unet()
    scheduler = DDIMScheduler(
        **LINEAR, clip_sample=clip, set_alpha_to_one=True, timestep_spacing=spacing, prediction_type=kind
    )
    scheduler.set_timesteps(steps)
    grid = scheduler.timesteps.tolist()
    alphas = torch.from_numpy(SCHEDULE.alphas_cumprod).float()
    x = noise(images())
    for timestep, following in zip(grid, [*grid[1:], None], strict=True):
        predicted = predict(unet, x, torch.full((2,), float(timestep)))
        x0, eps = solve(kind, predicted, x, alphas[timestep].view(1, 1, 1, 1))
        if clip:
            x0 = x0.clamp(-1, 1)
        ours = ddim_step(x0, eps, torch.ones(1) if following is None else alphas[following])
        x = scheduler.step(predicted, timestep, x).prev_sample
        # Relative to the greatest value: x0 is divided by sqrt(abar) = 0.0064 at t = 999.
        assert (ours - x).abs().max() <= 1e-5 * x.abs().max()
    assert ours.abs().max() > 0.1


@pytest.mark.parametrize("schedule", [SCHEDULE, CLIPPING], ids=["free", "clipped"])
@torch.inference_mode()
def test_ddim_from_mid_schedule_equals_a_naive_loop(schedule: NoiseSchedule) -> None:
    unet, clean, steps, sigma = tiny_unet(), images(), 4, 40.0
    noisy = clean + 2 * sigma / 255 * noise(clean)

    start = schedule.timestep(sigma)
    x = noisy * math.sqrt(abar(sigma))
    for i in range(steps):
        t, t_next = start * (1 - i / steps), start * (1 - (i + 1) / steps)
        a = schedule.alpha_bar(t)
        a_next = schedule.alpha_bar(t_next) if i + 1 < steps else 1.0
        eps = unet(x, torch.tensor([t, t])).sample
        x0 = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
        x0 = x0.clamp(-1, 1) if schedule.clip else x0
        x = math.sqrt(a_next) * x0 + math.sqrt(1 - a_next) * eps

    estimate = ddim(unet, schedule, noisy, [sigma, sigma], steps)
    torch.testing.assert_close(estimate, x, rtol=1e-5, atol=1e-5)
    assert (estimate - ddim(unet, schedule, noisy, [sigma, sigma], steps + 1)).abs().max() > 1e-4


@torch.inference_mode()
def test_each_image_of_a_batch_follows_its_own_levels() -> None:
    unet, clean, sigmas = tiny_unet(), images(3), [0.7, 20.0, 90.0]
    noisy = clean + noise(clean) * torch.tensor(sigmas).view(-1, 1, 1, 1) * 2 / 255
    for estimate in (lambda n, s: posterior_mean(unet, SCHEDULE, n, s), lambda n, s: ddim(unet, SCHEDULE, n, s, 3)):
        alone = torch.cat([estimate(noisy[i : i + 1], [sigmas[i]]) for i in range(3)])
        torch.testing.assert_close(estimate(noisy, sigmas), alone, rtol=1e-4, atol=1e-5)


# --- networks that predict v or x0


KINDS: tuple[Prediction, ...] = get_args(Prediction)


def knowing_the_same(kind: Prediction, clip: bool = False) -> tuple[Reparametrised, NoiseSchedule]:
    """A network of this kind that finds what the tiny network of eps finds, with its schedule."""
    schedule = NoiseSchedule.from_config(LINEAR | {"clip_sample": clip, "prediction_type": kind})
    return Reparametrised(tiny_unet(2), kind, schedule), schedule


@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "free"])
@pytest.mark.parametrize("kind", KINDS[1:])
@torch.inference_mode()
def test_estimates_do_not_depend_on_what_the_network_predicts(kind: Prediction, clip: bool) -> None:
    clean, sigmas = images(3), [5.0, 25.0, 90.0]
    noisy = clean + noise(clean) * torch.tensor(sigmas).view(-1, 1, 1, 1) * 2 / 255
    theirs, ours = knowing_the_same("epsilon", clip), knowing_the_same(kind, clip)
    for estimate in (posterior_mean, partial(ddim, steps=1), partial(ddim, steps=4)):
        expected = estimate(*theirs, noisy, sigmas)
        torch.testing.assert_close(estimate(*ours, noisy, sigmas), expected, rtol=1e-4, atol=2e-5)
        # The same numbers, read as eps, are something else.
        assert (estimate(ours[0], theirs[1], noisy, sigmas) - expected).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [1e-3, 0.02, 0.5])
@torch.inference_mode()
def test_levels_near_zero_give_finite_estimates_near_the_image(kind: Prediction, sigma: float) -> None:
    schedule = NoiseSchedule.from_config(LINEAR | {"prediction_type": kind})
    unet, clean = Oracle(images(), abar(sigma), kind), images()
    noisy = clean + 2 * sigma / 255 * noise(clean)
    for estimate in (posterior_mean, partial(ddim, steps=3)):
        found = estimate(unet, schedule, noisy, [sigma, sigma])
        torch.testing.assert_close(found, clean, rtol=0, atol=2.5 * 2 * sigma / 255 * 2)


# --- limits in which DDIM and posterior mean agree


@pytest.mark.parametrize("sigma", [0.5, 15.0, 25.0, 100.0])
@torch.inference_mode()
def test_one_ddim_step_is_the_posterior_mean(sigma: float) -> None:
    unet, clean = tiny_unet(), images()
    noisy = clean + 2 * sigma / 255 * noise(clean)
    expected = posterior_mean(unet, SCHEDULE, noisy, [sigma, sigma])
    torch.testing.assert_close(ddim(unet, SCHEDULE, noisy, [sigma, sigma], 1), expected)
    clipped = ddim(unet, CLIPPING, noisy, [sigma, sigma], 1)
    torch.testing.assert_close(clipped, expected.clamp(-1, 1))
    assert expected.abs().max() > 1  # so that clipping had an effect


@torch.inference_mode()
def test_no_step_adds_noise_to_an_image_below_the_lowest_level() -> None:
    unet, clean, sigma = tiny_unet(), images(), 0.5  # the schedule begins at 1.28
    noisy = clean + 2 * sigma / 255 * noise(clean)
    # All steps are at t = 0 and the image's own level, so that each DDIM step leads to the same x_t.
    expected = posterior_mean(unet, SCHEDULE, noisy, [sigma, sigma])
    torch.testing.assert_close(ddim(unet, SCHEDULE, noisy, [sigma, sigma], 5), expected, rtol=0, atol=1e-5)


def test_ddim_timesteps_fall_evenly_without_reaching_zero() -> None:
    np.testing.assert_allclose(ddim_timesteps(56.2, 4), [56.2, 42.15, 28.1, 14.05])
    np.testing.assert_allclose(ddim_timesteps(56.2, 1), [56.2])
    np.testing.assert_allclose(ddim_timesteps(0.0, 2), [0.0, 0.0])


# --- the posterior mean


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [5.0, 25.0, 50.0, 100.0])
def test_the_truth_gives_the_clean_image(sigma: float, kind: Prediction) -> None:
    clean = images()
    noisy = clean + 2 * sigma / 255 * noise(clean)
    schedule = NoiseSchedule.from_config(LINEAR | {"prediction_type": kind})
    found = posterior_mean(Oracle(clean, abar(sigma), kind), schedule, noisy, [sigma, sigma])
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 25.0, 100.0])
@torch.inference_mode()
def test_no_noise_predicted_gives_the_noisy_image(sigma: float) -> None:
    clean = images()
    noisy = clean + 2 * sigma / 255 * noise(clean)
    unet = tiny_unet(zero=True)
    torch.testing.assert_close(posterior_mean(unet, SCHEDULE, noisy, [sigma, sigma]), noisy, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ddim(unet, SCHEDULE, noisy, [sigma, sigma], 3), noisy, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("sigma", "timestep"), [(0.5, 0.0), (25.0, 56.3), (50.0, 114.2)])
def test_formula_uses_the_true_sigma_and_the_network_its_timestep(sigma: float, timestep: float) -> None:
    noisy, network = images(), Recorder(eps=1.0)
    estimate = posterior_mean(network, SCHEDULE, noisy, [sigma, sigma])
    # x0 = (sqrt(abar)*y - sqrt(1 - abar)*eps)/sqrt(abar) = y - s*eps. 1 - abar has 0.2 % error in float32 at 0.5.
    torch.testing.assert_close(estimate, noisy - 2 * sigma / 255, rtol=0, atol=max(1e-5, 4e-5 * sigma / 25))
    assert network.seen == [[pytest.approx(timestep, abs=0.5)] * 2]


# --- the network's inputs


@torch.inference_mode()
def test_fractional_timesteps_reach_the_network() -> None:
    unet, x = tiny_unet(), images()
    low, high = (predict(unet, x, torch.full((2,), t)) for t in (56.2, 56.7))
    assert (low - high).abs().max() > 1e-5
    torch.testing.assert_close(predict(unet, x, torch.tensor([56.2, 56.7])), torch.stack([low[0], high[1]]))


@torch.inference_mode()
def test_learned_embedding_gets_the_nearest_step() -> None:
    unet, x = tiny_unet(time_embedding_type="learned", num_train_timesteps=1000), images()
    expected = unet(x, torch.tensor([56, 57])).sample
    torch.testing.assert_close(predict(unet, x, torch.tensor([56.2, 56.7])), expected)
    assert torch.isfinite(posterior_mean(unet, SCHEDULE, x, [25.0, 0.5])).all()


@pytest.mark.parametrize("k", [1, 2, 4])
@torch.inference_mode()
def test_network_on_unshuffled_pixels_sees_every_kth(k: int) -> None:
    unet, x = tiny_unet(k), images()
    assert unshuffle_factor(unet.config) == k
    assert size_multiple(unet.config) == 2 * k
    eps = predict(unet, x, torch.tensor([3.5, 200.25]))
    assert eps.shape == x.shape and eps.dtype == torch.float32
    # Channel c*k*k + i*k + j of the network is the image's channel c at rows i, i+k, … and columns j, j+k, …
    parts = [x[:, c, i::k, j::k] for c in range(3) for i in range(k) for j in range(k)]
    raw = unet(torch.stack(parts, 1), torch.tensor([3.5, 200.25])).sample
    for channel, (c, i, j) in enumerate((c, i, j) for c in range(3) for i in range(k) for j in range(k)):
        torch.testing.assert_close(eps[:, c, i::k, j::k], raw[:, channel])


def test_size_multiple_is_the_smallest_that_the_network_accepts() -> None:
    blocks = {"down_block_types": ["DownBlock2D"] * 3, "up_block_types": ["UpBlock2D"] * 3}
    unet: UNet2DModel = tiny_unet(2, block_out_channels=[8, 8, 8], **blocks)
    assert size_multiple(unet.config) == 8
    predict(unet, images(1, 24), torch.zeros(1))
    with pytest.raises(RuntimeError):
        predict(unet, images(1, 20), torch.zeros(1))


@torch.inference_mode()
def test_half_precision_network_accepts_and_returns_float32() -> None:
    unet, x = tiny_unet(), images()
    expected = predict(unet, x, torch.full((2,), 56.25))
    eps = predict(unet.to(torch.bfloat16), x, torch.full((2,), 56.25))
    assert eps.dtype == torch.float32
    torch.testing.assert_close(eps, expected, rtol=0, atol=0.05)
