"""VGG19 with random weights, as torchvision builds it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import vgg

from tests.support.vgg19_weights import state_dict


@pytest.fixture(scope="module")
def reference() -> torch.nn.Sequential:
    """torchvision's vgg19().features with random weights, without the classifier's half gigabyte."""
    torch.manual_seed(0)
    return vgg.make_layers(vgg.cfgs["E"], batch_norm=False).eval()


@pytest.fixture
def weights(reference: torch.nn.Sequential, tmp_path: Path) -> Path:
    """A partial state dict: up to relu3_1, the module 11."""
    save_file(state_dict(reference, 12), tmp_path / "vgg19.safetensors")
    return tmp_path / "vgg19.safetensors"
