"""The training loss at exact noise levels, against the formulas written out image by image."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from imagewizard.config.train import LossSection
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.training.losses import VGG19Features, perceptual_loss
from imagewizard.training.objective import Objective, inputs
from imagewizard.training.samples import TrainingBatch
from tests.support.models import LINEAR, tiny_unet
from tests.support.training_parts import CPU, LAYERS, vgg19_file

SCHEDULE = NoiseSchedule.from_config(LINEAR)
SIGMAS = np.array([10.0, 55.5, 1.0])  # 1 is below the schedule's least level
S = torch.tensor(2 * SIGMAS / 255, dtype=torch.float32).view(3, 1, 1, 1)


def batch() -> TrainingBatch:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    return TrainingBatch(clean, rng.standard_normal((3, 16, 16, 3), dtype=np.float32), SIGMAS)


X0 = torch.from_numpy(batch().clean).permute(0, 3, 1, 2) / 127.5 - 1
EPS = torch.from_numpy(batch().noise).permute(0, 3, 1, 2)
X_T = (X0 + S * EPS) / (1 + S**2).sqrt()  # the noisy image, scaled by sqrt(abar)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> VGG19Features:
    return VGG19Features(vgg19_file(tmp_path_factory.mktemp("vgg19")), LAYERS)


def objective(k: int = 1, features: VGG19Features | None = None, bf16: bool = False, **loss: Any) -> Objective:
    if features is not None:
        loss["perceptual"] = {"weight": 0.3, "layers": LAYERS}
    return Objective(tiny_unet(k), LossSection.model_validate(loss), features, bf16)


def measure(module: Objective) -> tuple[Tensor, Tensor]:
    """(losses, the network's estimate of eps)."""
    seen: list[Tensor] = []
    module.unet.register_forward_hook(lambda unet, args, output: seen.extend([*args, output[0]]))
    losses = module(*inputs(batch(), SCHEDULE, CPU))
    k = {3: 1, 12: 2}[seen[0].shape[1]]
    torch.testing.assert_close(pixel_shuffle(seen[0], k), X_T, rtol=1e-5, atol=1e-5)
    assert seen[1].tolist() == pytest.approx([SCHEDULE.timestep(sigma) for sigma in SIGMAS])
    return losses, pixel_shuffle(seen[2].float(), k)


def test_inputs_are_tensors_of_the_batch() -> None:
    clean, eps, alpha_bar, timesteps = inputs(batch(), SCHEDULE, CPU)
    torch.testing.assert_close(clean, X0)
    assert torch.equal(eps, EPS)
    torch.testing.assert_close(alpha_bar, 1 / (1 + S**2))
    assert timesteps.shape == (3,) and {t.dtype for t in (clean, eps, alpha_bar, timesteps)} == {torch.float32}
    assert timesteps[2] == 0


@pytest.mark.parametrize("k", [1, 2])
def test_mse_of_eps(k: int) -> None:
    module = objective(k, mse="eps")
    losses, predicted = measure(module)
    expected = torch.stack([(predicted[i] - EPS[i]).square().mean() for i in range(3)])
    assert module.terms == ["loss", "mse"]
    torch.testing.assert_close(losses, torch.stack([expected, expected]))


@pytest.mark.parametrize("k", [1, 2])
def test_mse_of_x0_is_that_of_the_image_made_from_eps(k: int) -> None:
    losses, predicted = measure(objective(k, mse="x0"))
    x0 = X_T * (1 + S**2).sqrt() - S * predicted
    expected = torch.stack([(x0[i] - X0[i]).square().mean() for i in range(3)])
    torch.testing.assert_close(losses, torch.stack([expected, expected]), rtol=1e-3, atol=1e-8)


def test_x0_weights_eps_with_the_noise_to_signal_ratio() -> None:
    (eps, _), (x0, _) = (measure(objective(mse=mse)) for mse in ("eps", "x0"))
    torch.testing.assert_close(x0 / eps, S.square().flatten().expand(2, 3))  # (1 - abar)/abar = s²


@pytest.mark.parametrize("mse", ["eps", "x0"])
def test_perceptual_term_is_of_the_estimated_image_and_added_by_its_weight(mse: str, features: VGG19Features) -> None:
    module = objective(features=features, mse=mse)
    losses, predicted = measure(module)
    plain, _ = measure(objective(mse=mse))
    expected = perceptual_loss(features, X_T * (1 + S**2).sqrt() - S * predicted, X0)
    assert module.terms == ["loss", "mse", "perceptual"]
    torch.testing.assert_close(losses[1], plain[1])
    torch.testing.assert_close(losses[2], expected, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(losses[0], losses[1] + 0.3 * losses[2])
    assert (losses[2] > 0).all()


def test_gradient_goes_to_the_network_alone(features: VGG19Features) -> None:
    module = objective(features=features)
    module.unet.requires_grad_(True)
    losses = measure(module)[0]
    losses[2].sum().backward()  # through VGG19
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.unet.parameters())
    assert any(p.grad.abs().max() > 0 for p in module.unet.parameters())
    assert all(p.grad is None for p in features.parameters())


@pytest.mark.parametrize("mse", ["eps", "x0"])
def test_bfloat16_is_close_and_its_losses_are_float32(mse: str, features: VGG19Features) -> None:
    module = objective(features=features, mse=mse, bf16=True)
    seen: list[torch.dtype] = []
    module.unet.conv_in.register_forward_hook(lambda layer, args, output: seen.append(output.dtype))
    losses = module(*inputs(batch(), SCHEDULE, CPU))
    assert seen == [torch.bfloat16] and losses.dtype == torch.float32
    expected = objective(features=features, mse=mse)(*inputs(batch(), SCHEDULE, CPU))
    assert not torch.equal(losses, expected)
    torch.testing.assert_close(losses[:, :2], expected[:, :2], rtol=0.02, atol=0)
    # At sigma = 1 the feature difference is of the size of bfloat16's rounding.
    torch.testing.assert_close(losses[1], expected[1], rtol=0.02, atol=0)
