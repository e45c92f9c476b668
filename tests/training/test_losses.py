"""The training loss: VGG19's features against torchvision's own network, MSE at exact levels against the formulas."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import pixel_shuffle
from torchvision.models import VGG19_Weights

from imagewizard.config.train import LossSection
from imagewizard.diffusion import pixels
from imagewizard.diffusion.schedule import NoiseSchedule, Prediction
from imagewizard.training import vgg19
from imagewizard.training.batches import Batch
from imagewizard.training.losses import Objective, VGG19Features, perceptual_loss
from tests.support.models import LINEAR, Reparametrised, tiny_unet
from tests.support.training_parts import LAYERS as SHALLOW
from tests.support.training_parts import vgg19_file
from tests.support.vgg19_weights import LAYERS, images, state_dict

SCHEDULE = NoiseSchedule.from_config(LINEAR)
SIGMAS = np.array([10.0, 55.5, 1.0])  # 1 is below the schedule's lowest level
S = torch.tensor(2 * SIGMAS / 255, dtype=torch.float32).view(3, 1, 1, 1)


CLEAN = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
X0 = torch.from_numpy(CLEAN).permute(0, 3, 1, 2) / 127.5 - 1
EPS = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
X_T = (X0 + S * EPS) / (1 + S**2).sqrt()  # the noisy image, scaled by sqrt(abar)
BATCH = Batch(
    X0, EPS, 1 / (1 + S**2), torch.tensor([SCHEDULE.timestep(sigma) for sigma in SIGMAS], dtype=torch.float32)
)


# --- the network


@torch.no_grad()
def test_features_equal_torchvisions(reference: torch.nn.Sequential, tmp_path: Path) -> None:
    layers = ["relu1_1", "relu2_2", "relu3_4", "relu5_4"]
    torch.save(state_dict(reference, 37) | {"classifier.0.weight": torch.zeros(2)}, tmp_path / "vgg19.pth")
    # torchvision's transform: to [0, 1], then ImageNet's means and standard deviations
    x = VGG19_Weights.IMAGENET1K_V1.transforms(crop_size=32, resize_size=32)((images() + 1) / 2)
    found = VGG19Features(str(tmp_path / "vgg19.pth"), layers[::-1])(images())
    assert len(found) == 4
    for index, features in zip([2, 9, 18, 36], found, strict=True):
        torch.testing.assert_close(features, reference[:index](x), rtol=1e-4, atol=1e-5)


def test_network_is_as_deep_as_needed_and_frozen(weights: Path) -> None:
    features = VGG19Features(str(weights), ["relu1_2", "relu2_1"])
    assert list(features.state_dict()) == [f"features.{n}.{kind}" for n in (0, 2, 5) for kind in ("weight", "bias")]
    assert not features.training and not any(p.requires_grad for p in features.parameters())
    assert features.to(torch.float64).mean.dtype == torch.float64  # the buffer moves with the module


def test_half_precision_weights_become_float32(reference: torch.nn.Sequential, tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in state_dict(reference, 2).items()}
    save_file(half, tmp_path / "half.safetensors")
    features = VGG19Features(str(tmp_path / "half.safetensors"), ["relu1_1"])
    assert features(images())[0].dtype == torch.float32


# --- the perceptual loss


def test_loss_is_the_mean_of_the_layers_mean_squares(reference: torch.nn.Sequential, weights: Path) -> None:
    estimate, clean = images(3, 32, 1) * 1.5, images(3, 32, 2)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    expected = []
    for a, b in zip(estimate, clean, strict=True):  # image by image, without vectorising
        pair = (torch.stack([a.clip(-1, 1), b])[None] / 2 + 0.5 - mean) / std
        maps = [reference[:length](pair[0]) for length in (4, 7, 12)]
        expected.append(sum(((m[0] - m[1]) ** 2).sum() / m[0].numel() for m in maps) / 3)
    loss = perceptual_loss(VGG19Features(str(weights), LAYERS), estimate, clean)
    assert loss.shape == (3,)
    torch.testing.assert_close(loss, torch.stack(expected), rtol=1e-4, atol=1e-6)


def test_gradient_goes_to_the_estimate_alone(weights: Path) -> None:
    features = VGG19Features(str(weights), LAYERS)
    estimate, clean = images(2, 16, 1).requires_grad_(), images(2, 16, 2).requires_grad_()
    with torch.no_grad():
        estimate[0, 0, 0, 0], estimate[0, 0, 0, 1] = 7.0, -7.0  # clamped
    perceptual_loss(features, estimate, clean).sum().backward()
    assert clean.grad is None and all(p.grad is None for p in features.parameters())
    assert estimate.grad is not None and torch.isfinite(estimate.grad).all()
    assert (estimate.grad == 0).sum() == 2 and (estimate.grad[0, 0, 0, :2] == 0).all()


def test_loss_of_equal_images_is_zero(weights: Path) -> None:
    features = VGG19Features(str(weights), LAYERS)
    assert perceptual_loss(features, images(), images()).tolist() == [0.0, 0.0]
    assert perceptual_loss(features, images().sign() * 900, images().sign()).tolist() == [0.0, 0.0]


def test_loss_in_bfloat16_is_float32(weights: Path) -> None:
    features = VGG19Features(str(weights), LAYERS)
    expected = perceptual_loss(features, images(seed=1), images(seed=2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = perceptual_loss(features, images(seed=1), images(seed=2))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.05, atol=0)


# --- real weights


def test_real_weights_rank_errors_as_eyes_do(shared_data: Path) -> None:
    weights = str(shared_data / "vgg19" / "vgg19-features-to-relu3_1.safetensors")
    vgg19.check(weights, LAYERS)
    features = VGG19Features(weights, LAYERS)
    photo = Image.open(shared_data / "kodak24" / "kodim01.png").crop((100, 100, 228, 228))
    blurred = np.asarray(photo.filter(ImageFilter.GaussianBlur(2)), np.float32)
    clean = np.asarray(photo, np.float32)
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    # An equally large error that eyes hardly see: all pixels slightly brighter.
    brighter = np.clip(clean + np.sqrt(np.mean((blurred - clean) ** 2)), 0, 255)
    candidates = np.stack([clean + 3 * noise, clean + 15 * noise, brighter, blurred])
    targets = pixels.to_tensor(np.stack([clean] * 4))
    slight, noisy, bright, blur = perceptual_loss(features, pixels.to_tensor(candidates), targets).tolist()
    assert 0 < 4 * slight < noisy and slight < bright < blur / 4


def test_real_first_layer_by_hand(shared_data: Path) -> None:
    """A flat grey image: each response away from the border is bias + the kernel's sum times the normalised grey."""
    path = shared_data / "vgg19" / "vgg19-features-to-relu3_1.safetensors"
    stored = load_file(path)
    features = VGG19Features(str(path), ["relu1_1"])(torch.full((1, 3, 8, 8), 0.5))[0]
    grey = (0.75 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    kernels = stored["features.0.weight"].double().numpy().sum(axis=(2, 3))
    expected = np.maximum(kernels @ grey + stored["features.0.bias"].double().numpy(), 0)
    np.testing.assert_allclose(features[0, :, 4, 4].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_clean_images_build_no_graph(weights: Path) -> None:
    """The clean branch is not recorded; otherwise its activations would stay in memory until the backward pass."""
    recorded = []
    features = VGG19Features(str(weights), LAYERS)
    features.features[0].register_forward_hook(lambda module, inputs, output: recorded.append(output.requires_grad))
    perceptual_loss(features, images().requires_grad_(), images().requires_grad_())
    assert sorted(recorded) == [False, True]


# --- the whole loss


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> VGG19Features:
    return VGG19Features(vgg19_file(tmp_path_factory.mktemp("vgg19")), SHALLOW)


def objective(k: int = 1, features: VGG19Features | None = None, bf16: bool = False, **loss: Any) -> Objective:
    if features is not None:
        loss["perceptual"] = {"weight": 0.3, "layers": SHALLOW}
    return Objective(tiny_unet(k), LossSection.model_validate(loss), features, bf16)


def measure(module: Objective) -> tuple[Tensor, Tensor]:
    """(losses, the network's estimate of eps)."""
    seen: list[Tensor] = []
    module.unet.register_forward_hook(lambda unet, args, output: seen.extend([*args, output[0]]))
    losses = module(*BATCH)
    k = {3: 1, 12: 2}[seen[0].shape[1]]
    torch.testing.assert_close(pixel_shuffle(seen[0], k), X_T, rtol=1e-5, atol=1e-5)
    assert seen[1].tolist() == pytest.approx([SCHEDULE.timestep(sigma) for sigma in SIGMAS])
    return losses, pixel_shuffle(seen[2].float(), k)


@pytest.mark.parametrize("k", [1, 2])
def test_mse_of_eps(k: int) -> None:
    module = objective(k, mse="eps")
    losses, predicted = measure(module)
    expected = torch.stack([(predicted[i] - EPS[i]).square().mean() for i in range(3)])
    assert module.terms == ["loss", "mse"]
    torch.testing.assert_close(losses, torch.stack([expected, expected]))


@pytest.mark.parametrize("k", [1, 2])
def test_mse_of_x0_is_the_error_of_the_image_computed_from_eps(k: int) -> None:
    losses, predicted = measure(objective(k, mse="x0"))
    x0 = X_T * (1 + S**2).sqrt() - S * predicted
    expected = torch.stack([(x0[i] - X0[i]).square().mean() for i in range(3)])
    torch.testing.assert_close(losses, torch.stack([expected, expected]), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
@pytest.mark.parametrize("mse", ["eps", "x0"])
def test_loss_and_gradient_do_not_depend_on_what_the_network_predicts(
    mse: str, kind: Prediction, features: VGG19Features
) -> None:
    batch = Batch(*(part[:2] for part in BATCH))  # the third level is none of the schedule's own
    theirs = objective(2, features=features, mse=mse)
    theirs.unet.requires_grad_(True)
    expected = theirs(*batch)
    (gradient,) = torch.autograd.grad(expected[0].sum(), theirs.unet.conv_out.weight)
    section = LossSection.model_validate({"mse": mse, "perceptual": {"weight": 0.3, "layers": SHALLOW}})
    network = Reparametrised(theirs.unet, kind, SCHEDULE)
    losses = Objective(network, section, features, bf16=False, prediction=kind)(*batch)
    torch.testing.assert_close(losses, expected, rtol=1e-3, atol=1e-6)
    (found,) = torch.autograd.grad(losses[0].sum(), theirs.unet.conv_out.weight)
    torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


def test_x0_weights_eps_with_the_noise_to_signal_ratio() -> None:
    (eps, _), (x0, _) = (measure(objective(mse=mse)) for mse in ("eps", "x0"))
    torch.testing.assert_close(x0 / eps, S.square().flatten().expand(2, 3))  # (1 - abar)/abar = s²


@pytest.mark.parametrize("mse", ["eps", "x0"])
def test_perceptual_term_compares_the_estimated_image_and_has_its_weight(mse: str, features: VGG19Features) -> None:
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
    losses = module(*BATCH)
    assert seen == [torch.bfloat16] and losses.dtype == torch.float32
    expected = objective(features=features, mse=mse)(*BATCH)
    assert not torch.equal(losses, expected)
    torch.testing.assert_close(losses[:, :2], expected[:, :2], rtol=0.02, atol=0)
    # At sigma = 1 the feature difference is as small as bfloat16's rounding.
    torch.testing.assert_close(losses[1], expected[1], rtol=0.02, atol=0)
