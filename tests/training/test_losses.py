"""VGG19's features and the loss on them (`perceptual`, `perceptual_files`), against torchvision's own network."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import VGG19_Weights, vgg

from imagewizard.diffusion import pixels
from imagewizard.errors import UserError
from imagewizard.training import vgg19
from imagewizard.training.losses import VGG19Features, perceptual_loss

LAYERS = ["relu1_2", "relu2_1", "relu3_1"]


@pytest.fixture(scope="module")
def reference() -> torch.nn.Sequential:
    """torchvision's vgg19().features with random weights, without the classifier's half gigabyte."""
    torch.manual_seed(0)
    return vgg.make_layers(vgg.cfgs["E"], batch_norm=False).eval()


def state_dict(reference: torch.nn.Sequential, length: int) -> dict[str, Tensor]:
    return {f"features.{name}": tensor.clone() for name, tensor in reference[:length].state_dict().items()}


@pytest.fixture
def weights(reference: torch.nn.Sequential, tmp_path: Path) -> Path:
    """A partial state dict: up to relu3_1, the module 11."""
    save_file(state_dict(reference, 12), tmp_path / "vgg19.safetensors")
    return tmp_path / "vgg19.safetensors"


def images(count: int = 2, size: int = 32, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def refusal(weights: Path | str, layers: list[str] = LAYERS, driver: bool = True) -> str:
    """The one line with which weights are refused; by the driver's check too, if that can see it."""
    with pytest.raises(UserError) as error:
        VGG19Features(str(weights), layers)
    line = str(error.value)
    assert line.startswith("perceptual ") and "\n" not in line and len(line) < 500
    if driver:
        with pytest.raises(UserError) as early:
            vgg19.check(str(weights), layers)
        assert str(early.value) == line
    return line


# --- the network


def test_layers_are_those_of_torchvision(reference: torch.nn.Sequential) -> None:
    indices = vgg19.layer_indices()
    assert len(indices) == 16
    assert [i for i, module in enumerate(reference) if isinstance(module, torch.nn.ReLU)] == list(indices.values())
    assert indices["relu1_1"] == 1 and indices["relu3_1"] == 11 and indices["relu5_4"] == 35  # as the literature counts
    shapes = {f"features.{name}": tuple(tensor.shape) for name, tensor in reference.state_dict().items()}
    assert vgg19.parameter_shapes(["relu5_4"]) == shapes
    assert VGG19_Weights.IMAGENET1K_V1.url == vgg19.TORCHVISION_URL


@torch.no_grad()
def test_features_are_torchvisions(reference: torch.nn.Sequential, tmp_path: Path) -> None:
    layers = ["relu1_1", "relu2_2", "relu3_4", "relu5_4"]
    torch.save(state_dict(reference, 37) | {"classifier.0.weight": torch.zeros(2)}, tmp_path / "vgg19.pth")
    # torchvision's transform: to [0, 1], then ImageNet's means and standard deviations
    x = VGG19_Weights.IMAGENET1K_V1.transforms(crop_size=32, resize_size=32)((images() + 1) / 2)
    found = VGG19Features(str(tmp_path / "vgg19.pth"), layers[::-1])(images())
    assert len(found) == 4
    for index, features in zip([2, 9, 18, 36], found, strict=True):
        torch.testing.assert_close(features, reference[:index](x), rtol=1e-4, atol=1e-5)


def test_built_as_deep_as_needed_and_frozen(weights: Path) -> None:
    features = VGG19Features(str(weights), ["relu1_2", "relu2_1"])
    assert list(features.state_dict()) == [f"features.{n}.{kind}" for n in (0, 2, 5) for kind in ("weight", "bias")]
    assert not features.training and not any(p.requires_grad for p in features.parameters())
    assert features.to(torch.float64).mean.dtype == torch.float64  # it moves with the module


def test_weights_of_half_precision_are_widened(reference: torch.nn.Sequential, tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in state_dict(reference, 2).items()}
    save_file(half, tmp_path / "half.safetensors")
    features = VGG19Features(str(tmp_path / "half.safetensors"), ["relu1_1"])
    assert features(images())[0].dtype == torch.float32


# --- the loss


def test_loss_is_the_mean_of_the_layers_mean_squares(reference: torch.nn.Sequential, weights: Path) -> None:
    estimate, clean = images(3, 32, 1) * 1.5, images(3, 32, 2)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    expected = []
    for a, b in zip(estimate, clean, strict=True):  # one image at a time, written out
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


def test_equal_images_cost_nothing(weights: Path) -> None:
    features = VGG19Features(str(weights), LAYERS)
    assert perceptual_loss(features, images(), images()).tolist() == [0.0, 0.0]
    assert perceptual_loss(features, images().sign() * 900, images().sign()).tolist() == [0.0, 0.0]


def test_loss_in_bfloat16_is_a_float32(weights: Path) -> None:
    features = VGG19Features(str(weights), LAYERS)
    expected = perceptual_loss(features, images(seed=1), images(seed=2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = perceptual_loss(features, images(seed=1), images(seed=2))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.05, atol=0)


# --- real weights


def test_real_weights_see_what_eyes_see(shared_data: Path) -> None:
    weights = str(shared_data / "vgg19" / "vgg19-features-to-relu3_1.safetensors")
    vgg19.check(weights, LAYERS)
    features = VGG19Features(weights, LAYERS)
    photo = Image.open(shared_data / "kodak24" / "kodim01.png").crop((100, 100, 228, 228))
    blurred = np.asarray(photo.filter(ImageFilter.GaussianBlur(2)), np.float32)
    clean = np.asarray(photo, np.float32)
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    # An equally large error that eyes do not mind: all pixels a little brighter.
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


# --- where weights come from


def test_weights_from_s3(weights: Path, bucket: str) -> None:
    boto3.client("s3").upload_file(str(weights), bucket.removeprefix("s3://"), "models/vgg19.safetensors")
    uri = f"{bucket}/models/vgg19.safetensors"
    vgg19.check(uri, LAYERS)
    found, expected = VGG19Features(uri, LAYERS), VGG19Features(str(weights), LAYERS)
    torch.testing.assert_close(found(images()), expected(images()))
    assert "does not exist" in refusal(f"{bucket}/none.safetensors")


@pytest.fixture
def download_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Stands for download.pytorch.org: serves tmp_path/served."""
    (tmp_path / "served").mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_torchvisions_weights_are_downloaded_once(
    reference: torch.nn.Sequential, tmp_path: Path, download_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served" / "vgg19.pth"
    torch.save(state_dict(reference, 12), served)
    digest = hashlib.sha256(served.read_bytes()).hexdigest()
    served = served.rename(served.with_name(f"vgg19-{digest[:8]}.pth"))
    monkeypatch.setattr(vgg19, "TORCHVISION_URL", f"{download_server}/{served.name}")
    vgg19.check("torchvision", LAYERS)
    assert not (tmp_path / "torch").exists()
    loss = perceptual_loss(VGG19Features("torchvision", LAYERS), images(seed=1), images(seed=2))
    served.unlink()
    vgg19.check("torchvision", LAYERS)
    again = perceptual_loss(VGG19Features("torchvision", LAYERS), images(seed=1), images(seed=2))
    torch.testing.assert_close(again, loss)


def test_download_that_is_not_what_it_should_be(
    tmp_path: Path, download_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({}, tmp_path / "served" / "vgg19-01234567.pth")
    monkeypatch.setattr(vgg19, "TORCHVISION_URL", f"{download_server}/vgg19-01234567.pth")
    assert "hash" in refusal("torchvision", driver=False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/vgg19.pth", "http://no-such-host.invalid/vgg19.pth"])
def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(vgg19, "TORCHVISION_URL", url)
    line = refusal("torchvision")
    assert url in line and "download it, and give that file" in line


# --- what is refused


@pytest.mark.parametrize(("layers", "named"), [([], "none is given"), (["relu1_2", "relu1_3"], "relu1_3 is none of")])
def test_unknown_layers(weights: Path, layers: list[str], named: str) -> None:
    line = refusal(weights, layers)
    assert named in line and "relu5_4" in line


def test_missing_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.safetensors")
    assert "does not exist" in refusal(tmp_path / "none.pth")
    assert "neither `torchvision` nor" in refusal(tmp_path / "none.bin")
    (tmp_path / "folder.pth").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_file_that_does_not_go_deep_enough(reference: torch.nn.Sequential, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"vgg19{suffix}"
    state = state_dict(reference, 10)
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    VGG19Features(str(path), ["relu2_2"])
    line = refusal(path, driver=suffix == ".safetensors")
    assert f"{path} has no features.10.weight, which relu1_2, relu2_1, relu3_1 needs" in line


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_another_network(reference: torch.nn.Sequential, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"vgg19{suffix}"
    state = state_dict(reference, 12) | {"features.5.bias": torch.zeros(64)}
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    line = refusal(path, driver=suffix == ".safetensors")
    assert f"{path} has features.5.bias of (64,), not (128,)" in line


@pytest.mark.parametrize("content", [b"", b"\xff" * 1000, b"<html>not found</html>", b"PK\x03\x04" + b"\0" * 100])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_that_are_something_else(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"vgg19{suffix}"
    path.write_bytes(content)
    assert str(path) in refusal(path, driver=suffix == ".safetensors")


@pytest.mark.parametrize("kept", [100, 5000, -1])
def test_truncated_files(weights: Path, kept: int) -> None:
    whole = weights.read_bytes()
    weights.write_bytes(whole[:kept])
    assert "cannot be read" in refusal(weights)
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, weights.with_suffix(".pth"))
    weights.with_suffix(".pth").write_bytes(weights.with_suffix(".pth").read_bytes()[:kept])
    assert "cannot be read" in refusal(weights.with_suffix(".pth"), driver=False)


class Code:
    """What a pickle can hold: it runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["code", "number", "list"])
def test_pickles_of_other_things_are_not_run(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vgg19.pth"
    state = {"code": {"features.0.weight": Code(tmp_path / "ran")}, "number": {"features.0.weight": 1}, "list": [1]}
    torch.save(state[content], path)
    assert "cannot be read" in refusal(path, driver=False)
    assert not (tmp_path / "ran").exists()


def test_the_drivers_check_needs_no_torch() -> None:
    code = "import sys, imagewizard.training.vgg19; assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_clean_images_cost_no_graph(weights: Path) -> None:
    """The clean branch is not recorded, which would hold its activations till the backward pass."""
    recorded = []
    features = VGG19Features(str(weights), LAYERS)
    features.features[0].register_forward_hook(lambda module, inputs, output: recorded.append(output.requires_grad))
    perceptual_loss(features, images().requires_grad_(), images().requires_grad_())
    assert sorted(recorded) == [False, True]
