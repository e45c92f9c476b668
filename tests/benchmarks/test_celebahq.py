"""The published recipe in small: a tiny network on a tiny BSDS500, from first step to last."""

import json
from pathlib import Path

import torch
from PIL import Image

from imagewizard.benchmarks import celebahq
from imagewizard.benchmarks.celebahq import Recipe
from imagewizard.datasets import cbsd68
from imagewizard.diffusion.unet import UNet2DModel
from tests.support.models import CELEBAHQ_NETWORK, tiny_network
from tests.support.training_jobs import picture
from tests.support.training_parts import CPU, LAYERS, vgg19_file


def test_network_is_the_published_one() -> None:
    with torch.device("meta"):
        found, published = (UNet2DModel(**config) for config in (celebahq.NETWORK, _arguments(CELEBAHQ_NETWORK)))
    shapes = [{name: tuple(p.shape) for name, p in unet.named_parameters()} for unet in (found, published)]
    assert shapes[0] == shapes[1] and _arguments(found.config) == _arguments(published.config)
    assert sum(parameter.numel() for parameter in found.parameters()) == 113_673_219


def _arguments(config: dict) -> dict:
    return {key: value for key, value in config.items() if not key.startswith("_")}


def test_recipe_is_that_of_the_config_with_random_weights() -> None:
    config = celebahq.recipe_config(["optimizer.epochs=3"])
    assert config.model is None and config.network == celebahq.NETWORK
    assert (config.loss.mse, config.optimizer.batch_size, config.optimizer.epochs) == ("x0", 8, 3)
    assert config.loss.perceptual is not None and config.loss.perceptual.weight == 0.1


def test_recipe_runs_to_its_end(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 3), ("val", 2)):
        (tmp_path / split).mkdir()
        for i in range(count):
            Image.fromarray(picture(40, 48, seed=10 * len(split) + i)).save(tmp_path / split / f"{i}.jpg")
    benchmark = cbsd68.names()[0]
    (tmp_path / "val" / f"{benchmark}.jpg").write_bytes(b"never read")
    changes = [
        f"network={json.dumps(tiny_network())}",
        "data.crop=16",
        "optimizer.epochs=2",
        "optimizer.batch_size=3",
        f"loss.perceptual.layers={json.dumps(LAYERS)}",
        "validation.steps=2",
        "validation.sigma=[25]",
    ]
    recipe = Recipe(tmp_path, vgg19_file(tmp_path), CPU, changes)
    found = recipe.run()
    assert found["steps"] == 4 and len(found["loss by epoch"]) == 2
    assert found["loss, first epoch"] == found["loss by epoch"][0] > 0 and found["loss, last epoch"] > 0
    validated = [key for key in found if key.startswith("epoch ")]
    assert validated == ["epoch 1: PSNR, SSIM at 25", "epoch 2: PSNR, SSIM at 25"]
    assert 25.0 < recipe.seconds(2.0) < 60
