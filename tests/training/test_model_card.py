"""The README.md of an exported model: valid front matter, every fact, and working commands and code."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from imagewizard import config
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.models import files as model_files
from imagewizard.models import network
from imagewizard.training import model_card
from imagewizard.training.model_card import ModelFacts
from tests.support.models import CELEBAHQ_NETWORK, LINEAR, tiny_network, tiny_unet

CONFIG = "output: runs/new\nseed: 7\ndata:\n  train: photos\nformat: '{braces} and σ'\n"
FACTS = ModelFacts(
    network=tiny_network(2),
    parameters=6_623_456,
    start=None,
    sigma=(2.5, 60.0),
    noise="white Gaussian noise",
    smeared=False,
    images=12_345,
    epochs=19.75,
    steps=67_890,
    loss="MSE of x0 + 0.1 x VGG19 feature MSE (relu1_2)",
    validation={
        "psnr": 30.0,
        "psnr_50": 27.004,
        "ssim_50": 0.7654321,
        "psnr_15": 33.126,
        "ssim_15": 0.9,
        "psnr_noisy_15": 24.61,
        "ssim_noisy_15": 0.58,
        "step": 67_890,
    },
    config_yaml=CONFIG,
    gflop_per_megapixel=577.4,
    prediction="epsilon",
)


def block(card: str, language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def test_front_matter() -> None:
    _, front, _ = model_card.render(FACTS).split("---\n", 2)
    assert yaml.safe_load(front) == {"library_name": "diffusers", "tags": ["image-denoising", "ddpm"]}
    assert "# license: fill in" in front  # the card reminds of it, the publisher chooses
    assert "the model it began with" not in front
    assert "the model it began with" in model_card.render(replace(FACTS, start="google/ddpm-celebahq-256"))


@pytest.mark.parametrize(
    "fact",
    [
        "to remove white Gaussian noise\nof σ = 2.5 to 60",
        "6.62 M, 13.2 MB in float16",
        "2×2 pixel-unshuffled: 12 channels in and out; height and width padded to multiples of 4",
        "577 GFLOP a megapixel",
        "12,345 images, 19.75 epochs, 67,890 updates",
        "MSE of x0 + 0.1 x VGG19 feature MSE (relu1_2)",
        "trained from random weights",
    ],
)
def test_facts(fact: str) -> None:
    assert fact in model_card.render(FACTS)


def test_scores_by_rising_level() -> None:
    rows = [line for line in model_card.render(FACTS).splitlines() if re.match(r"\| \d", line)]
    assert rows == ["| 15 | 24.61 / 0.5800 | 33.13 / 0.9000 |", "| 50 | – / – | 27.00 / 0.7654 |"]
    assert "not validated" in model_card.render(replace(FACTS, validation={}))


def test_fine_tuned_plain_network() -> None:
    card = model_card.render(replace(FACTS, start="google/ddpm-celebahq-256", network=CELEBAHQ_NETWORK))
    assert "fine-tuned from `google/ddpm-celebahq-256`" in card and "random weights" not in card
    assert "unshuffled" not in card and "multiples of 32" in card


def test_limits_are_those_of_the_noise() -> None:
    white, smeared = (model_card.render(replace(FACTS, smeared=smeared)) for smeared in (False, True))
    assert "looks to it like texture" in white and "means of 3×3" not in white
    assert "looks to it like texture" not in smeared and "means of 3×3" in smeared


def test_card_contains_the_whole_config() -> None:
    assert block(model_card.render(FACTS), "yaml") == CONFIG


def test_markdown_is_well_formed() -> None:
    card = model_card.render(FACTS)
    assert card.endswith("\n") and "{" not in card.replace("{braces}", "") and "None" not in card
    assert max(map(len, card.splitlines())) <= 120
    for table in re.findall(r"(?:^\|.*\|\n)+", card, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_its_code_and_command_work(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    unet = tiny_unet(2)
    network.save(unet, unet.state_dict(), LINEAR, folder)
    card = model_card.render(FACTS).replace("THIS_FOLDER", str(folder))
    names: dict[str, torch.nn.Module] = {}
    exec(block(card, "python"), names)
    assert sum(p.numel() for p in names["unet"].parameters()) == sum(p.numel() for p in unet.parameters())
    command, *words = block(card, "bash").split()[1:]
    assert command == "denoise"
    job = config.load(DenoiseConfig, None, words)
    assert model_files.find(job.model).weights.parent == folder


def test_rendering_needs_no_torch() -> None:
    code = "import sys, imagewizard.training.model_card; assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
