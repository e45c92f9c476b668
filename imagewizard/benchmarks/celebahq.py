"""The architecture of google/ddpm-celebahq-256 with random weights, and its published fine-tuning recipe."""

import time
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from imagewizard import config as configs
from imagewizard.config.train import TrainConfig, TrainImage, TrainTask
from imagewizard.datasets import cbsd68
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.images.formats import is_image_name
from imagewizard.models import network
from imagewizard.schema import level_text
from imagewizard.training import in_memory, validation
from imagewizard.training.budget import Steps
from imagewizard.training.image_store import ImageStore
from imagewizard.training.losses import VGG19Features
from imagewizard.training.trainer import Trainer
from imagewizard.training.validation import ValidationImage
from imagewizard.training.worker import Worker

NETWORK: dict[str, Any] = {
    "attention_head_dim": None,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "layers_per_block": 2,
    "norm_eps": 1e-06,
    "sample_size": 256,
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
}
"""Arguments of UNet2DModel from its config.json, without defaults: 113,673,219 parameters."""
SCHEDULE: dict[str, Any] = {
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "num_train_timesteps": 1000,
}

VALIDATED_EPOCHS = (1, 10, 20)


def unet(seed: int = 0) -> UNet2DModel:
    """The network with random weights."""
    torch.manual_seed(seed)
    return network.build_unet(NETWORK)


def recipe_config(changes: list[str] | None = None) -> TrainConfig:
    """The recipe, starting from random weights; `changes` are key=value words that override it."""
    words = ["model=null", f"network={NETWORK}".replace("None", "null").replace("False", "false"), *(changes or [])]
    recipe = resources.files("imagewizard.config") / "examples" / "finetune-celebahq.yaml"
    with resources.as_file(recipe) as path:
        return configs.load(TrainConfig, str(path), words)


class Recipe:
    """Runs the published recipe on BSDS500, from random weights to the last epoch, in memory, without checkpoints."""

    def __init__(self, bsds500: Path, vgg19: str, device: torch.device, changes: list[str] | None = None) -> None:
        """`bsds500`: a folder with train/, test/ and val/; `changes`: as in `recipe_config`."""
        self._config = recipe_config([f"loss.perceptual.weights={vgg19}", *(changes or [])])
        self._train = _images(bsds500, "train") + _images(bsds500, "test")
        # val contains all of CBSD68. Training and validation must not see it.
        names = set(cbsd68.names())
        self._validation = [pair for pair in _images(bsds500, "val") if Path(pair[0]).stem not in names]
        self._device = device

    def seconds(self, steps_a_second: float) -> float:
        """Estimated duration of `run` in seconds, from the speed of steps without the perceptual loss."""
        steps = self._config.steps(len(self._train))
        return 1.3 * steps / steps_a_second + 25.0

    def run(self) -> dict[str, Any]:
        """Returns the loss by epoch, and PSNR and SSIM on 32 images of val after epochs 1, 10 and the last."""
        config = self._config
        assert config.loss.perceptual is not None  # the recipe has one
        steps = config.steps(len(self._train))
        torch.manual_seed(config.seed)
        assert config.network is not None  # recipe_config sets it
        trainer = Trainer(
            config,
            network.build_unet(config.network),
            NoiseSchedule.from_config(config.schedule.model_dump()),
            Steps(steps),
            self._device,
            VGG19Features(config.loss.perceptual.weights, config.loss.perceptual.layers),
        )
        task = TrainTask(
            config,
            len(self._train),
            [],
            config.micro_batch_size(1),
            1,
            tuple(TrainImage(*each) for each in self._train),
        )
        shares = in_memory.shares(task, Worker(0, 1, self._device), trainer, set())
        epoch_steps = steps / config.optimizer.epochs
        found: dict[str, Any] = {"steps": steps}
        losses: list[float] = []
        results = []
        started = time.perf_counter()
        validated = 0.0
        for step in range(1, steps + 1):
            results.append(trainer.train_step(next(shares)))
            if step < steps and step < round((len(losses) + 1) * epoch_steps):
                continue
            losses.append(round(float(torch.stack([r.values[0] for r in results]).mean()), 4))
            results = []
            if len(losses) in VALIDATED_EPOCHS or step == steps:
                began = time.perf_counter()
                found |= self._validate(trainer, len(losses))
                validated += time.perf_counter() - began
        trainer.settle()
        training = time.perf_counter() - started - validated
        return found | {
            "loss, first epoch": losses[0],
            "loss, last epoch": losses[-1],
            "steps a second": steps / training,
            "loss by epoch": losses,
        }

    def _validate(self, trainer: Trainer, epoch: int) -> dict[str, str]:
        options, store = self._config.validation.model_copy(update={"panels": 0}), ImageStore()
        images = (ValidationImage(image_id, store.load(uri)) for image_id, uri in self._validation)
        scores = validation.score(trainer.averaged_unet(), trainer.schedule, options, images, self._config.seed)
        means = validation.means(scores.sums, scores.counts, options)
        levels = [level_text(sigma) for sigma in options.sigma]
        texts = [f"{means[f'psnr_{s}']:.2f} dB, {means[f'ssim_{s}']:.4f}" for s in levels]
        return {f"epoch {epoch}: PSNR, SSIM at {', '.join(levels)}": "; ".join(texts)}


def _images(bsds500: Path, split: str) -> list[tuple[str, str]]:
    """(image id, path) of a split's images, sorted."""
    paths = sorted(path for path in (bsds500 / split).iterdir() if is_image_name(path.name))
    return [(f"{split}/{path.name}", str(path)) for path in paths]
