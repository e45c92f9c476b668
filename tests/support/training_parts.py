"""Parts of trainings for tests: configs, samples and trainers of tiny networks, and processes that share a training."""

import functools
import multiprocessing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from imagewizard.config.train import TrainConfig, TrainImage, TrainTask
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.models import network
from imagewizard.noise.device import key_tensor
from imagewizard.training import in_memory, loop, samples, vgg19
from imagewizard.training.batches import Batch, Crops, Sampler
from imagewizard.training.budget import Steps
from imagewizard.training.losses import VGG19Features
from imagewizard.training.trainer import Trainer
from imagewizard.training.worker import Worker
from tests.support.models import tiny_network
from tests.support.sample_files import photo
from tests.support.training_jobs import train_config

CPU = torch.device("cpu")
ALONE = Worker(0, 1, CPU)
IMAGES = 6
LAYERS = ["relu1_1", "relu1_2"]


def config(output: str | Path = "run", **changes: Any) -> TrainConfig:
    """A small run in float32; `changes` are top-level keys, those of data and optimizer on top of what stands here."""
    values: dict[str, Any] = {
        "output": str(output),
        "network": tiny_network(),
        "data": {"train": "photos", "validation": "others", "crop": 16},
        "sigma": [20.0, 60.0],
        "optimizer": {"epochs": 10, "batch_size": 4, "learning_rate": 3e-3, "warmup_steps": 2, "ema_decay": 0.9},
        "precision": "fp32",
    }
    if "model" in changes:
        del values["network"]
    for key, value in changes.items():
        values[key] = values[key] | value if key in ("data", "optimizer") else value
    return TrainConfig.model_validate(values)


@functools.cache
def picture(index: int) -> np.ndarray:
    return photo(24, 30, seed=index)


def batch(job: TrainConfig, step: int = 0) -> Batch:
    """The batch of a step of a run on the IMAGES pictures."""
    size = job.optimizer.batch_size
    epochs, indices = samples.places(job.seed, IMAGES, step * size, size)
    keys = [samples.key(job.seed, f"{index}.png") for index in indices]
    crops = [
        samples.crop(picture(int(index)), job.data.crop, key, int(epoch))
        for index, key, epoch in zip(indices, keys, epochs, strict=True)
    ]
    sampler = Sampler(job, NoiseSchedule.from_config(job.schedule.model_dump()), CPU)
    return sampler(Crops(torch.from_numpy(np.stack(crops)), key_tensor(keys), torch.from_numpy(epochs)))


def pieces(whole: Batch, size: int) -> list[Batch]:
    """Micro-batches of `size` crops."""
    return [Batch(*(part[start : start + size] for part in whole)) for start in range(0, len(whole.timesteps), size)]


def trainer(job: TrainConfig, features: VGG19Features | None = None, steps: int = 50) -> Trainer:
    """A trainer of the config's network, with random weights from its seed."""
    assert job.network is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        unet = network.build_unet(job.network)
    return Trainer(job, unet, NoiseSchedule.from_config(job.schedule.model_dump()), Steps(steps), CPU, features)


def train(run: Trainer, steps: int, micro: int | None = None) -> list[float]:
    """Trains so many more steps in micro-batches of `micro` (None: the whole batch); returns their losses."""
    size = micro or run.config.optimizer.batch_size
    return [run.train_step(pieces(batch(run.config, run.step), size)).terms["loss"] for _ in range(steps)]


def state(run: Trainer) -> dict[str, Tensor]:
    """Copies of weights, averaged weights, last gradients and the optimizer's moments."""
    found = {}
    for name, parameter in run.unet.named_parameters():
        found[f"unet.{name}"] = parameter.detach().clone()
        found[f"ema.{name}"] = run.ema[name].clone()
        if parameter.grad is not None:
            found[f"grad.{name}"] = parameter.grad.clone()
        for key, value in run.optimizer.state.get(parameter, {}).items():
            found[f"{key}.{name}"] = value.clone()
    return found


def vgg19_file(folder: Path) -> str:
    """Random weights of VGG19 up to the deepest of LAYERS, scaled so that features neither die nor grow."""
    generator = torch.Generator().manual_seed(0)
    shapes = vgg19.parameter_shapes(LAYERS)
    tensors = {name: torch.randn(shape, generator=generator) * (2 / 9 / shape[-3:][0]) ** 0.5 if len(shape) > 1
               else torch.zeros(shape) for name, shape in shapes.items()}  # fmt: skip
    save_file(tensors, folder / "vgg19.safetensors")
    return str(folder / "vgg19.safetensors")


# --- processes that share a training


def shared_training(jobs: dict[str, TrainConfig], micro: int, steps: int, workers: int, folder: Path) -> None:
    """Trains each job by `workers` processes over gloo, which write what they hold to <folder>/<name>-<rank>.pt."""
    multiprocessing.set_forkserver_preload([__name__])  # torch and diffusers are imported once
    start_processes(_worker, (jobs, micro, steps, workers, folder), nprocs=workers, start_method="forkserver")


def _worker(rank: int, jobs: dict[str, TrainConfig], micro: int, steps: int, workers: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers)
    for name, job in jobs.items():
        perceptual = job.loss.perceptual
        run = trainer(job, VGG19Features(perceptual.weights, perceptual.layers) if perceptual else None)
        results = []
        for step in range(steps):
            rows = pieces(batch(job, step), micro)
            # Dealt out in turns over all steps, as the stream of a run is.
            results.append(
                run.train_step([row for i, row in enumerate(rows) if (step * len(rows) + i) % workers == rank])
            )
        told = [{"terms": result.terms, "grad_norm": result.grad_norm} for result in results]
        torch.save({"state": state(run), "results": told}, folder / f"{name}-{rank}.pt")
    dist.destroy_process_group()


def listed(folder: Path) -> list[TrainImage]:
    """The files in a folder."""
    return [TrainImage(path.name, str(path)) for path in sorted(folder.iterdir())]


def task(photographs: Path, output: Path, **changes: Any) -> TrainTask:
    """The task of a `train_config` whose images are held in memory."""
    images = listed(photographs / "train")
    job = train_config(photographs, output, **changes)
    return TrainTask(job, len(images), listed(photographs / "validation"), 2, 1, tuple(images))


def run_loop(job: TrainTask, report: Any = lambda row: None, worker: Worker = ALONE) -> None:
    """Runs the training loop in this process."""
    loop.run(job, worker, partial(in_memory.shares, job, worker), report)
