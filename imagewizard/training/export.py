"""Exports the averaged weights of a training as a plain diffusers folder with a model card."""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from imagewizard.config.train import TrainConfig, TrainTask
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.models import files as model_files
from imagewizard.models import network as model
from imagewizard.storage import Folder
from imagewizard.training import model_card


def export(task: TrainTask, weights: dict[str, Tensor], scores: dict[str, Any]) -> None:
    """Writes <output>/model. `weights`: float32 by parameter name; `scores`: their validation row."""
    config = task.config
    network, schedule = _configs(config)
    unet = model.build_unet(network)
    card = model_card.render(
        model_card.ModelFacts(
            network=network,
            parameters=sum(parameter.numel() for parameter in unet.parameters()),
            start=config.model,
            sigma=config.sigma,
            noise=_noise(config),
            smeared=bool(config.data.camera or config.data.pairs),
            images=task.images,
            epochs=scores["epoch"],
            steps=scores["step"],
            loss=_loss(config),
            prediction=NoiseSchedule.from_config(schedule).prediction,
            validation=scores,
            config_yaml=yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False),
            gflop_per_megapixel=model.gflop_per_megapixel(unet),
        )
    )
    with tempfile.TemporaryDirectory(prefix="imagewizard-") as scratch:
        folder = Path(scratch)
        model.save(unet, weights, schedule, folder)
        for file in sorted(folder.iterdir()):
            Folder(config.output).write(f"model/{file.name}", file.read_bytes())
    Folder(config.output).write("model/README.md", card.encode())  # last: it describes the weights


def _configs(config: TrainConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments of the run's UNet2DModel, arguments of its DDIMScheduler)."""
    if config.model is None:
        assert config.network is not None  # the config has one of the two
        return config.network, config.schedule.model_dump()
    files = model_files.find(config.model)
    network, schedule = model_files.read_json(files.config), model_files.read_json(files.scheduler)
    return model_files.arguments(network), model_files.arguments(schedule)


def _noise(config: TrainConfig) -> str:
    data = config.data
    kinds = ["white Gaussian noise"] if data.train is not None and data.camera < 1.0 else []
    if data.camera:
        kinds.append(f"a camera's noise, made ({100 * data.camera:.3g} % of the crops of clean images)")
    if data.pairs is not None:
        kinds.append("the noise of pairs of noisy and clean images")
    return " and ".join([", ".join(kinds[:-1]), kinds[-1]] if len(kinds) > 1 else kinds)


def _loss(config: TrainConfig) -> str:
    perceptual = config.loss.perceptual
    mse = f"MSE of {config.loss.mse}"
    return f"{mse} + {perceptual.weight:g} x VGG19 feature MSE ({', '.join(perceptual.layers)})" if perceptual else mse
