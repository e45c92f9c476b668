"""Folders of training runs for tests, as the trainer writes them, with metrics that change like real ones."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageFilter
from safetensors.numpy import save_file

from imagewizard import metrics
from imagewizard.noise import synthetic
from imagewizard.tracking import panels as training_panels
from imagewizard.tracking.panels import ValidationPanel
from tests.support.sample_files import photo

STARTED = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
SIGMAS = (15.0, 25.0, 50.0)
STEPS_AN_EPOCH = 75


def train_row(step: int, steps: int = 1500, perceptual: bool = True, seed: int = 0) -> dict[str, Any]:
    """A row of training, whose loss falls with the step by a power law and jitters by some 15 %."""
    rng = np.random.default_rng((seed, step))
    mse = 0.04 + 0.3 * (1 + step / 30) ** -0.8 * rng.lognormal(0, 0.15)
    row = {
        "kind": "train", "step": step, "steps": steps, "epoch": round(step / STEPS_AN_EPOCH, 4), "mse": round(mse, 6),
        "loss": round(mse, 6), "learning_rate": 1e-3 * 0.5 * (1 + math.cos(math.pi * step / steps)),
        "grad_norm": 0.4, "images_per_second": round(14.2 + rng.normal(0, 0.4), 2), "overhead": 0.03,
        "eta_seconds": 0.9 * (steps - step), "time": STARTED.timestamp() + 0.9 * step,
    }  # fmt: skip
    if perceptual:
        row["perceptual"] = round(0.9 * (1 + step / 60) ** -0.5 * rng.lognormal(0, 0.1), 6)
        row["loss"] = round(mse + 0.1 * row["perceptual"], 6)
    return row


def validation_row(step: int, sigmas: tuple[float, ...] = SIGMAS) -> dict[str, Any]:
    """A row of a validation; PSNR rises by 4 dB over the run."""
    row: dict[str, Any] = {"kind": "validation", "step": step, "epoch": round(step / STEPS_AN_EPOCH, 4)}
    for sigma in sigmas:
        noisy = 20 * math.log10(255 / sigma)
        row[f"psnr_noisy_{sigma:g}"] = round(noisy, 4)
        row[f"psnr_{sigma:g}"] = round(noisy + 5 + 2 * math.log2(sigma / 15) - 4 * math.exp(-step / 300), 4)
        row[f"ssim_{sigma:g}"] = round(0.92 - sigma / 300 - 0.2 * math.exp(-step / 300), 4)
    mean = sum(row[f"psnr_{sigma:g}"] for sigma in sigmas) / len(sigmas)
    return row | {"psnr": round(mean, 4), "time": STARTED.timestamp() + 0.9 * step}


def event_row(step: int, text: str) -> dict[str, Any]:
    return {"kind": "event", "step": step, "text": text, "time": STARTED.timestamp() + 0.9 * step}


def rows_until(last: int, every: int = 10, steps: int = 1500, perceptual: bool = True) -> list[dict[str, Any]]:
    """What a run logs from its start to step `last`: a validation an epoch, and a worker's death at step 430."""
    rows = [validation_row(0)]
    for step in range(every, last + 1, every):
        rows.append(train_row(step, steps, perceptual))
        if step == 430:
            rows.append(event_row(step, "worker 1 died (actor unexpectedly exited); resuming from step 375"))
        if step % (STEPS_AN_EPOCH * 2) == 0:
            rows.append(validation_row(step))
    return rows


def write_job(run: Path, **config: Any) -> None:
    chosen = {
        "output": str(run), "model": "embedded", "network": None, "sigma": [2.0, 60.0],
        "data": {"train": "data/bsds500/train", "validation": "data/bsds500/val", "crop": 96},
        "optimizer": {"epochs": 20.0, "batch_size": 16, "learning_rate": 1e-3},
        "loss": {"mse": "x0", "perceptual": {"weight": 0.1, "weights": "torchvision"}},
    }  # fmt: skip
    job = {
        "schema_version": 1,
        "kind": "train",
        "created_at": STARTED.isoformat(),
        "config": chosen | config,
        "model_fingerprint": "f" * 16,
        "versions": {"imagewizard": "0.1.0", "torch": "2.15"},
    }
    run.mkdir(parents=True, exist_ok=True)
    (run / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")


def write_metrics(run: Path, rows: list[dict[str, Any]], cut: bytes = b"") -> None:
    """`cut`: add the half line that a crash leaves."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.jsonl").write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode() + cut)


def write_checkpoint(run: Path, step: int, psnr: float = 30.0, facts: dict[str, Any] | None = None) -> Path:
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    save_file({"unet.weight": np.arange(4, dtype=np.float32)}, folder / "state.safetensors")
    numbers = {"step": step, "psnr": psnr, "facts": facts or {}}
    (folder / "state.json").write_text(json.dumps(numbers))  # last: it is whole now
    return folder


def panel(
    name: str, sigma: float, seed: int, size: tuple[int, int] = (240, 320), skill: float = 1.0
) -> ValidationPanel:
    """A photo, blurred instead of denoised; `skill` 0 leaves half of its noise."""
    clean = photo(*size, seed)
    noisy = synthetic.Gaussian(sigma).add(clean, name, seed)
    seen = np.clip(noisy, 0, 255).round().astype(np.uint8)
    blurred = Image.fromarray(seen).filter(ImageFilter.GaussianBlur(0.5 + sigma / 60))
    denoised = np.asarray(Image.blend(Image.fromarray(seen), blurred, 0.5 + 0.5 * skill))
    return ValidationPanel(
        name, sigma, clean, seen, denoised, metrics.psnr(noisy, clean), metrics.psnr(denoised, clean)
    )


def write_panels(run: Path, step: int, skill: float) -> Path:
    path = run / "panels" / f"step-{step:08d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    panels = [panel(f"photo-{number}.png", sigma, number, skill=skill) for number, sigma in enumerate(SIGMAS[:2])]
    path.write_bytes(training_panels.draw(panels))
    return path


def write_summary(run: Path, rows: list[dict[str, Any]], **changes: Any) -> None:
    scores = [row for row in rows if row["kind"] == "validation"]
    best = max(scores, key=lambda row: row["psnr"])
    summary = {
        "kind": "train", "steps": rows[-1]["step"], "epochs": 20, "images": 300, "broken_images": 0,
        "broken_examples": [], "validation": {"first": scores[0], "best": best, "last": scores[-1]}, "seconds": 1350.0,
        "workers": 2, "device": "cpu", "images_per_second": 14.2, "overhead": 0.031, "model": f"{run}/model",
    }  # fmt: skip
    (run / "summary.json").write_text(json.dumps(summary | changes))


def finished_run(folder: Path, **config: Any) -> Path:
    """A whole run of 1500 steps with panels of its first and its last validation; returns its folder."""
    run = folder / "run"
    rows = rows_until(1500)
    write_job(run, **config)
    write_metrics(run, rows)
    for step, skill in ((0, 0.0), (1500, 1.0)):
        write_panels(run, step, skill)
        write_checkpoint(run, step)
    broken = ["data/bsds500/train/broken.jpg: not an image"]
    write_summary(run, rows, broken_images=1, broken_examples=broken)
    return run
