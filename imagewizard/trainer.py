"""Training a DDPM's network to predict the noise in photographs: one process, one device."""

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from imagewizard import model, pixels, seeding, storage, training_data
from imagewizard.errors import UserError
from imagewizard.sampling import posterior_mean, predict_eps, size_multiple
from imagewizard.schedule import NoiseSchedule, alpha_bar_of_sigma
from imagewizard.train_config import OptimizerSection, TrainConfig

VALIDATION_SIGMAS = (15.0, 25.0, 50.0)
STATUS_SECONDS = 10.0


def learning_rate(step: int, config: OptimizerSection) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def eps_loss(
    unet: UNet2DModel, schedule: NoiseSchedule, batch: training_data.TrainingBatch, device: torch.device
) -> Tensor:
    """MSE between the noise and the network's estimate (Ho et al. 2020, eq. 14), at each image's own level."""
    clean = pixels.to_tensor(batch.clean).to(device)
    eps = torch.from_numpy(batch.noise).to(device).permute(0, 3, 1, 2)
    levels = [alpha_bar_of_sigma(s) for s in batch.sigmas]
    alpha_bar = torch.tensor(levels, dtype=torch.float32, device=device).view(-1, 1, 1, 1)
    x_t = alpha_bar.sqrt() * clean + (1.0 - alpha_bar).sqrt() * eps
    timesteps = torch.tensor([schedule.timestep(s) for s in batch.sigmas], dtype=torch.float32, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        predicted = predict_eps(unet, x_t, timesteps)
    return F.mse_loss(predicted, eps)


@torch.inference_mode()
def validate(unet: UNet2DModel, schedule: NoiseSchedule, images: dict[str, np.ndarray], seed: int) -> dict[str, float]:
    """Mean PSNR in dB of the one-step estimate at each validation level, with the same noise at every call."""
    device = next(unet.parameters()).device
    multiple = size_multiple(unet)
    scores = {}
    for sigma in VALIDATION_SIGMAS:
        psnrs = []
        for image_id, image in images.items():
            height, width = (side // multiple * multiple for side in image.shape[:2])
            image = image[:height, :width].astype(np.float32)
            noise = seeding.generator(seed, "validation", image_id, sigma).standard_normal(image.shape, np.float32)
            noisy = pixels.to_tensor(image + np.float32(sigma) * noise)[None].to(device)
            with torch.autocast(device.type, torch.bfloat16):
                denoised = posterior_mean(unet, schedule, noisy, [sigma])
            mse = np.mean((pixels.to_uint8(denoised[0]) - image) ** 2)
            psnrs.append(10.0 * math.log10(255.0**2 / max(mse, 1e-10)))
        scores[f"psnr_{sigma:g}"] = round(float(np.mean(psnrs)), 4)
    return scores


class Trainer:
    """The state of a run: network, averaged weights, optimizer, step. Lives in `<output>/checkpoints/`.

    Raises UserError if network, schedule, crop and noise levels cannot go together.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.schedule = NoiseSchedule.from_config(config.schedule.model_dump())
        self.schedule.timestep(max(config.sigma[1], *VALIDATION_SIGMAS))  # fails here rather than in some later step
        self.unet = model.build_unet(config.network).to(device, memory_format=torch.channels_last)
        if config.data.crop % (multiple := size_multiple(self.unet)):
            raise UserError(f"data.crop: the network takes multiples of {multiple} pixels (got {config.data.crop})")
        self.ema = {name: parameter.detach().clone() for name, parameter in self.unet.named_parameters()}
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), weight_decay=config.optimizer.weight_decay)
        self.step = 0

    def train_step(self, batch: training_data.TrainingBatch) -> float:
        """One update; the loss before it. Raises UserError, and updates nothing, if loss or gradient is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config.optimizer)
        loss = eps_loss(self.unet, self.schedule, batch, self.device)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.unet.parameters(), self.config.optimizer.clip_norm)
        # Before the update: weights that are not finite must not get into a checkpoint.
        if not torch.isfinite(loss + norm):
            raise UserError(
                f"optimizer.learning_rate: at step {self.step} the loss is {loss.item():g}, its gradient's norm "
                f"{norm.item():g}; lower the rate and run again, which goes on from the last checkpoint"
            )
        self.optimizer.step()
        self.step += 1
        # Ramped up as in Karras et al. 2024 (the power-function idea): the first averages forget the random start.
        decay = min(self.config.optimizer.ema_decay, self.step / (self.step + 10))
        with torch.no_grad():
            for name, parameter in self.unet.named_parameters():
                self.ema[name].lerp_(parameter, 1.0 - decay)
        return loss.item()

    def averaged_unet(self) -> UNet2DModel:
        """A copy of the network with the averaged weights, in eval mode."""
        unet = model.build_unet(self.config.network).to(self.device, memory_format=torch.channels_last)
        unet.load_state_dict(self.ema)
        return unet.eval()

    def save(self, folder: Path) -> None:
        """Writes a checkpoint that is there as a whole or not at all."""
        tensors = {f"unet.{name}": p.detach() for name, p in self.unet.named_parameters()}
        tensors |= {f"ema.{name}": tensor for name, tensor in self.ema.items()}
        for name, parameter in self.unet.named_parameters():
            moments = self.optimizer.state[parameter]
            tensors |= {f"{key}.{name}": moments[key] for key in ("exp_avg", "exp_avg_sq") if key in moments}
        with _whole_folder(folder) as partial:
            save_file({name: t.contiguous() for name, t in tensors.items()}, partial / "state.safetensors")
            (partial / "state.json").write_text(json.dumps({"step": self.step}))

    def load(self, folder: Path) -> None:
        """Goes back to a checkpoint. Raises UserError if it belongs to another network."""
        tensors = load_file(folder / "state.safetensors")
        weights = {name.removeprefix("unet."): t for name, t in tensors.items() if name.startswith("unet.")}
        own = {name: parameter.shape for name, parameter in self.unet.named_parameters()}
        if {name: tensor.shape for name, tensor in weights.items()} != own:
            raise UserError(f"network: {folder} holds another architecture; give another output")
        self.unet.load_state_dict(weights)
        self.step = json.loads((folder / "state.json").read_text())["step"]
        for name, parameter in self.unet.named_parameters():
            self.ema[name] = tensors[f"ema.{name}"].to(self.device)
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(self.step)),
                "exp_avg": tensors[f"exp_avg.{name}"].to(self.device),
                "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(self.device),
            }


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which gets the name `folder` once all is written."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def latest_checkpoint(output: Path) -> Path | None:
    """The newest whole checkpoint of a run."""
    found = sorted(p for p in (output / "checkpoints").glob("step-*") if p.suffix != ".partial")
    return found[-1] if found else None


def train(config: TrainConfig) -> dict[str, Any]:
    """Runs, or goes on with, the training into `config.output`; returns its summary.

    The summary is written last: where it is, the run is finished, and another call returns it. Raises UserError for
    folders without images, a network that cannot be built or trained, and a checkpoint of another one.
    """
    output = Path(config.output)
    summary_path = output / "summary.json"
    if summary_path.is_file():
        return dict(json.loads(summary_path.read_text()))
    trainer = Trainer(config, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if checkpoint := latest_checkpoint(output):
        trainer.load(checkpoint)
        print(f"going on from {checkpoint}", flush=True)
    train_images, broken = training_data.load_folder(config.data.train)
    validation_images, _ = training_data.load_folder(config.data.validation)
    stream = training_data.batches(
        train_images, config.seed, config.optimizer.batch_size, config.data.crop, config.sigma, trainer.step
    )
    started = time.time()
    first_step = trainer.step
    scores = _loop(trainer, stream, validation_images, output)
    with _whole_folder(output / "model") as partial:
        model.save(trainer.unet, trainer.ema, config.schedule.model_dump(), partial)
    summary = {
        "steps": trainer.step,
        "images": len(train_images),
        "broken_images": broken,
        "validation": scores,
        "seconds": round(time.time() - started, 1),
        "steps_timed": trainer.step - first_step,
        "device": trainer.device.type,
    }
    storage.write_whole(str(summary_path), json.dumps(summary, indent=2).encode(), str(output / "_tmp"))
    return summary


def _loop(
    trainer: Trainer,
    stream: Iterator[training_data.TrainingBatch],
    validation_images: dict[str, np.ndarray],
    output: Path,
) -> dict[str, float]:
    """Steps until the last, with a status line every few seconds; the last validation's scores."""
    config = trainer.config
    scores: dict[str, float] = {}
    losses: list[float] = []
    started, last_status, first_step = time.time(), 0.0, trainer.step
    output.mkdir(parents=True, exist_ok=True)
    _rewind_metrics(output / "metrics.jsonl", trainer.step)
    with (output / "metrics.jsonl").open("a") as metrics:
        while trainer.step < config.optimizer.steps:
            losses.append(trainer.train_step(next(stream)))
            done = trainer.step == config.optimizer.steps
            if done or time.time() - last_status > STATUS_SECONDS:
                last_status = time.time()
                rate = (trainer.step - first_step) / (last_status - started)
                row: dict[str, Any] = {"step": trainer.step, "loss": float(np.mean(losses)), "steps_per_second": rate}
                minutes = (config.optimizer.steps - trainer.step) / rate / 60
                print(
                    f"step {trainer.step}/{config.optimizer.steps}  loss {row['loss']:.4f}  "
                    f"{rate * config.optimizer.batch_size:.1f} images/s  ETA {minutes:.0f} min",
                    flush=True,
                )
                metrics.write(json.dumps(row) + "\n")
                metrics.flush()
                losses.clear()
            if done or trainer.step % config.checkpoint_every == 0:
                trainer.save(output / "checkpoints" / f"step-{trainer.step:08d}")
                scores = validate(trainer.averaged_unet(), trainer.schedule, validation_images, config.seed)
                print(f"step {trainer.step}  validation {scores}", flush=True)
                metrics.write(json.dumps({"step": trainer.step, **scores}) + "\n")
                metrics.flush()
    return scores or validate(trainer.averaged_unet(), trainer.schedule, validation_images, config.seed)


def _rewind_metrics(path: Path, step: int) -> None:
    """Drops what was logged after the checkpoint that a run goes on from, for those steps come again."""
    if path.is_file():
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        storage.write_whole(str(path), "".join(kept).encode(), str(path.parent / "_tmp"))
