"""Weights of VGG19: their sources, and the refusals, also of the driver's check if it can detect the error."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import VGG19_Weights

from imagewizard.errors import UserError
from imagewizard.training import vgg19
from imagewizard.training.losses import VGG19Features, perceptual_loss
from tests.support.vgg19_weights import LAYERS, images, state_dict


def refusal(weights: Path | str, layers: list[str] = LAYERS, driver: bool = True) -> str:
    """The error line that refuses weights; also checks that of the driver, if it can detect the error."""
    with pytest.raises(UserError) as error:
        VGG19Features(str(weights), layers)
    line = str(error.value)
    assert line.startswith("loss.perceptual.") and "\n" not in line and len(line) < 500
    if driver:
        with pytest.raises(UserError) as early:
            vgg19.check(str(weights), layers)
        assert str(early.value) == line
    return line


def test_layers_are_those_of_torchvision(reference: torch.nn.Sequential) -> None:
    indices = vgg19.layer_indices()
    assert len(indices) == 16
    assert [i for i, module in enumerate(reference) if isinstance(module, torch.nn.ReLU)] == list(indices.values())
    assert indices["relu1_1"] == 1 and indices["relu3_1"] == 11 and indices["relu5_4"] == 35  # as the literature counts
    shapes = {f"features.{name}": tuple(tensor.shape) for name, tensor in reference.state_dict().items()}
    assert vgg19.parameter_shapes(["relu5_4"]) == shapes
    assert VGG19_Weights.IMAGENET1K_V1.url == vgg19.TORCHVISION_URL


# --- sources of weights


def test_weights_from_s3(weights: Path, bucket: str) -> None:
    boto3.client("s3").upload_file(str(weights), bucket.removeprefix("s3://"), "models/vgg19.safetensors")
    uri = f"{bucket}/models/vgg19.safetensors"
    vgg19.check(uri, LAYERS)
    found, expected = VGG19Features(uri, LAYERS), VGG19Features(str(weights), LAYERS)
    torch.testing.assert_close(found(images()), expected(images()))
    assert "does not exist" in refusal(f"{bucket}/none.safetensors")


@pytest.fixture
def download_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Stands in for download.pytorch.org; serves tmp_path/served."""
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


def test_download_with_wrong_content_is_refused(
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
    assert url in line and "download it on another machine, and give that file" in line


# --- refusals


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
def test_file_with_too_few_layers(reference: torch.nn.Sequential, tmp_path: Path, suffix: str) -> None:
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
def test_files_with_other_content(tmp_path: Path, suffix: str, content: bytes) -> None:
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
    """A malicious pickle's content: it runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["code", "number", "list"])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vgg19.pth"
    state = {"code": {"features.0.weight": Code(tmp_path / "ran")}, "number": {"features.0.weight": 1}, "list": [1]}
    torch.save(state[content], path)
    assert "cannot be read" in refusal(path, driver=False)
    assert not (tmp_path / "ran").exists()


def test_the_drivers_check_needs_no_torch() -> None:
    code = "import sys, imagewizard.training.vgg19; assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
