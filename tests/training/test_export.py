"""Averaged weights of a real trainer become a model folder that diffusers and `denoise` read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDIMScheduler

from imagewizard.config.loading import check
from imagewizard.config.train import TrainConfig, TrainImage, TrainTask
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.models import files as model_files
from imagewizard.models import network
from imagewizard.storage import Folder
from imagewizard.training import export, validation
from imagewizard.training.budget import Steps
from imagewizard.training.trainer import Trainer
from imagewizard.training.validation import ValidationImage
from tests.support.models import LINEAR, tiny_model, tiny_network
from tests.support.training_parts import CPU, LAYERS, config, picture, train, trainer

FILES = ["README.md", "config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json"]


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "run") if request.param == "local" else f"{request.getfixturevalue('bucket')}/run"


PAIRS = {"noisy": "n", "clean": "c"}


def exported(job: TrainConfig) -> Trainer:
    """Trains three steps, exports the averaged weights and returns the trainer."""
    run = Trainer(job, *network.load(model_files.find(job.model)), Steps(50), CPU) if job.model else trainer(job)
    train(run, 3)
    images = [ValidationImage("v.png", picture(9))]
    found = validation.score(run.averaged_unet(), run.schedule, job.validation, images, job.seed)
    scores = {
        "kind": "validation",
        "step": 3,
        "epoch": 2.0,
        **validation.means(found.sums, found.counts, job.validation),
    }
    export.export(TrainTask(job, 6, [TrainImage("v.png", "v.png")], micro_batch_size=4, threads=1), run.ema, scores)
    return run


def weights(run: Trainer) -> dict[str, torch.Tensor]:
    """The weights that must have been written: the averaged ones in float16."""
    assert any(not torch.equal(tensor, run.ema[name]) for name, tensor in run.unet.named_parameters())
    return {name: tensor.half().float() for name, tensor in run.ema.items()}


def test_new_network(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    beta = {"beta_schedule": "scaled_linear", "beta_start": 1e-3, "beta_end": 0.015, "num_train_timesteps": 900}
    job = config(output, network=tiny_network(2, dropout=0.1), schedule=beta)
    run = exported(job)
    folder = Folder(output).uri_of("model")
    assert Folder(output).list("model") == FILES
    assert Folder(output).list("_tmp") == []
    files = model_files.find(folder)
    files.check(max_sigma=60.0)
    unet, schedule = network.load(files)
    expected = weights(run)
    assert {name: parameter.shape for name, parameter in unet.named_parameters()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    assert all(torch.equal(parameter, expected[name]) for name, parameter in unet.named_parameters())
    assert schedule.alphas_cumprod == pytest.approx(run.schedule.alphas_cumprod)
    assert schedule.clip == run.schedule.clip


def test_diffusers_reads_the_model(tmp_path: Path) -> None:
    run = exported(config(tmp_path / "run", network=tiny_network(2)))
    folder = tmp_path / "run" / "model"
    unet = UNet2DModel.from_pretrained(folder)
    expected = weights(run)
    assert all(torch.equal(parameter.float(), expected[name]) for name, parameter in unet.named_parameters())
    noisy = torch.randn(1, 12, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            unet.eval()(noisy, torch.tensor([5.5])).sample,
            run.averaged_unet()(noisy, torch.tensor([5.5])).sample,
            rtol=0.01,
            atol=0.01,
        )
    scheduler = DDIMScheduler.from_pretrained(folder)
    assert scheduler.alphas_cumprod.numpy() == pytest.approx(run.schedule.alphas_cumprod, rel=1e-4)


@pytest.mark.parametrize("nested", [False, True], ids=["at the root", "nested"])
def test_fine_tuned_model(tmp_path: Path, nested: bool) -> None:
    schedule = {"beta_schedule": "linear", "beta_start": 2e-4, "beta_end": 0.03, "clip_sample": False}
    start = tiny_model(tmp_path / "start", seed=5, nested=nested, schedule=schedule, freq_shift=1)
    run = exported(config(tmp_path / "run", model=str(start)))
    before = dict(network.load(model_files.find(str(start)))[0].named_parameters())
    unet, schedule_read = network.load(model_files.find(str(tmp_path / "run" / "model")))
    expected = weights(run)
    for name, parameter in unet.named_parameters():
        assert torch.equal(parameter, expected[name])
    assert not all(torch.equal(before[name], tensor) for name, tensor in expected.items())
    assert unet.config.freq_shift == 1  # the network's arguments, not the defaults
    assert schedule_read.alphas_cumprod == pytest.approx(run.schedule.alphas_cumprod)
    assert schedule_read.clip is None
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"fine-tuned from `{start}`" in card


@pytest.mark.parametrize(("kind", "shown"), [("v_prediction", "v"), ("sample", "x₀")])
def test_a_network_that_predicts_v_or_x0_stays_one(tmp_path: Path, kind: str, shown: str) -> None:
    schedule = LINEAR | {"prediction_type": kind, "rescale_betas_zero_snr": True}
    start = tiny_model(tmp_path / "start", schedule=schedule)
    run = exported(config(tmp_path / "run", model=str(start)))
    folder = tmp_path / "run" / "model"
    read = network.load(model_files.find(str(folder)))[1]
    assert read.prediction == run.schedule.prediction == DDIMScheduler.from_pretrained(folder).config.prediction_type
    assert read.prediction == kind
    np.testing.assert_array_equal(read.alphas_cumprod, run.schedule.alphas_cumprod)
    card = (folder / "README.md").read_text()
    assert f"{shown}-prediction" in card and f"the network gives its\n{shown}." in card and "ε" not in card


def card_of(job: TrainConfig) -> str:
    exported(job)
    return Folder(job.output).read("model/README.md").decode()


def test_card_describes_the_run(tmp_path: Path) -> None:
    job = config(tmp_path / "run", network=tiny_network(2), loss={"mse": "x0"})
    card = card_of(job)
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "diffusers"
    facts = [
        "trained from random weights",
        "σ = 20 to 60",
        "6 images, 2 epochs, 3 updates",
        "Loss: MSE of x0.",
        "0.04 M",
    ]
    for fact in facts:
        assert fact in card
    stored = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert check(TrainConfig, stored) == job
    rows = [line for line in card.splitlines() if line.startswith(("| 15 |", "| 25 |", "| 50 |"))]
    assert len(rows) == 3 and not any("–" in row for row in rows)


def test_card_names_the_terms_of_the_loss() -> None:
    perceptual: dict[str, Any] = {"weight": 0.25, "layers": LAYERS}
    job = config(loss={"mse": "eps", "perceptual": perceptual})
    assert export._loss(job) == "MSE of eps + 0.25 x VGG19 feature MSE (relu1_1, relu1_2)"


def test_second_export_replaces_the_first(tmp_path: Path) -> None:
    """Each new best validation exports again."""
    job = config(tmp_path / "run")
    run = exported(job)
    path = tmp_path / "run" / "model" / "diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    scores = {"step": 3, "epoch": 2.0, "psnr_25": 20.0}
    export.export(TrainTask(job, 6, [], micro_batch_size=4, threads=1), run.ema, scores)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("data", "noise"),
    [
        ({}, "white Gaussian noise"),
        ({"camera": 0.25}, "white Gaussian noise and a camera's noise, made (25 % of the crops of clean images)"),
        ({"camera": 1}, "a camera's noise, made (100 % of the crops of clean images)"),
        (
            {"camera": 0.5, "pairs": PAIRS},
            "white Gaussian noise, a camera's noise, made (50 % of the crops of clean images) "
            "and the noise of pairs of noisy and clean images",
        ),
        ({"train": None, "pairs": PAIRS}, "the noise of pairs of noisy and clean images"),
    ],
)
def test_card_says_what_noise_it_was_trained_on(tmp_path: Path, data: dict[str, Any], noise: str) -> None:
    job = config(tmp_path, data=data)
    scores = {"kind": "validation", "step": 0, "epoch": 0.0, "psnr": 30.0}
    export.export(TrainTask(job, 6, [], micro_batch_size=4, threads=1), trainer(job).ema, scores)
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"to remove {noise}\nof σ" in card
    assert ("looks to it like texture" in card) == (data == {})
