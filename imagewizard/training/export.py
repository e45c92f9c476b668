"""The model that a training run is for: a plain diffusers folder with its card, made from a checkpoint."""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from pyarrow import fs

from imagewizard import storage
from imagewizard.config.train import TrainConfig, TrainTask
from imagewizard.models import files as model_files
from imagewizard.models import network as model
from imagewizard.storage import Folder
from imagewizard.training import checkpoint, model_card


def export(task: TrainTask, checkpoint_name: str, scores: dict[str, Any]) -> None:
    """Writes <output>/model from the averaged weights of a checkpoint. `scores`: that step's validation row."""
    config = task.config
    run = Folder(config.output)
    source, path = storage.resolve(run.uri_of(f"checkpoints/{checkpoint_name}"))
    with tempfile.TemporaryDirectory(prefix="imagewizard-") as scratch:
        state, folder = Path(scratch, "state"), Path(scratch, "model")
        state.mkdir()
        fs.copy_files(path, str(state), source_filesystem=source)
        network, schedule = _configs(config)
        unet = model.build_unet(network)
        unet.load_state_dict(checkpoint.averaged_weights(state))
        model.save(unet, unet.state_dict(), schedule, folder)
        card = model_card.render(
            model_card.ModelFacts(
                network=network,
                parameters=sum(parameter.numel() for parameter in unet.parameters()),
                start=config.model,
                sigma=config.sigma,
                images=task.images,
                epochs=scores["epoch"],
                steps=scores["step"],
                loss=_loss(config),
                validation=scores,
                config_yaml=yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False),
                gflop_per_megapixel=model.gflop_per_megapixel(unet),
            )
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
        for file in sorted(folder.iterdir()):
            run.write(f"model/{file.name}", file.read_bytes())


def _configs(config: TrainConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the run's UNet2DModel, and of its DDIMScheduler."""
    if config.model is None:
        assert config.network is not None  # the config has one of the two
        return config.network, config.schedule.model_dump()
    files = model_files.find(config.model)
    network, schedule = model_files.read_json(files.config), model_files.read_json(files.scheduler)
    return model_files.arguments(network), model_files.arguments(schedule)


def _loss(config: TrainConfig) -> str:
    perceptual = config.loss.perceptual
    mse = f"MSE of {config.loss.mse}"
    return f"{mse} + {perceptual.weight:g} x VGG19 feature MSE ({', '.join(perceptual.layers)})" if perceptual else mse
