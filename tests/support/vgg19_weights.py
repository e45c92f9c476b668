"""Random weights of VGG19 for tests, and images to feed it."""

import torch
from torch import Tensor

LAYERS = ["relu1_2", "relu2_1", "relu3_1"]


def state_dict(reference: torch.nn.Sequential, length: int) -> dict[str, Tensor]:
    return {f"features.{name}": tensor.clone() for name, tensor in reference[:length].state_dict().items()}


def images(count: int = 2, size: int = 32, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1
