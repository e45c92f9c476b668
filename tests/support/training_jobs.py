"""A training job small enough for tests: a tiny network, a few generated photographs, real workers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from imagewizard.config.train import TrainConfig
from imagewizard.training.images import SCHEMA
from tests.support.models import tiny_network


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth colours around mid-grey, so far from 0 and 255 that noise is not clipped; uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 40
    waves = [np.sin(2 * math.pi * (rng.uniform(-1, 1) * x + rng.uniform(-1, 1) * y + rng.uniform())) for _ in range(3)]
    return (127.5 + 20 * np.stack(waves, axis=-1)).astype(np.uint8)


def write_photographs(folder: Path) -> Path:
    """train/ with six images and a broken file, validation/ with three of odd sizes."""
    sizes = {
        "train": [(40, 48), (24, 60), (12, 30), (33, 33), (48, 40), (50, 20)],
        "validation": [(33, 41), (50, 27), (29, 30)],
    }
    for name, shapes in sizes.items():
        (folder / name).mkdir(parents=True)
        for i, (height, width) in enumerate(shapes):
            Image.fromarray(picture(height, width, seed=10 * len(name) + i)).save(folder / name / f"{i}.png")
    (folder / "train" / "broken.png").write_bytes(b"\x89PNG")
    return folder


def training_table(folder: Path) -> pa.Table:
    """The images of a folder by `images.SCHEMA`."""
    rows = [{"image_id": path.name, "uri": str(path), "bytes": 1} for path in sorted(folder.iterdir())]
    return pa.Table.from_pylist(rows, SCHEMA)


def train_config(photographs: Path, output: str | Path, **changes: Any) -> TrainConfig:
    """Seven steps of four crops, two workers, float32; `changes` are top-level keys, sections are merged."""
    data: dict[str, Any] = {
        "output": str(output),
        "data": {"train": f"{photographs}/train", "validation": f"{photographs}/validation", "crop": 16},
        "sigma": [20.0, 60.0],
        "network": tiny_network(),
        "optimizer": {"epochs": 4, "batch_size": 4, "learning_rate": 3e-3, "warmup_steps": 2, "ema_decay": 0.9},
        "precision": "fp32",
        "validation": {"every_epochs": 2, "panels": 2},
        "checkpoints": {"every_steps": 3, "keep": 1},
        "resources": {"workers": 2},
    }
    for key, value in changes.items():
        data[key] = data[key] | value if isinstance(data.get(key), dict) and isinstance(value, dict) else value
    return TrainConfig.model_validate(data)


def write_pairs(folder: Path, count: int = 3) -> dict[str, str]:
    """noisy/ and clean/ with pairs of odd sizes, as the section `data.pairs` names them; 1 differs in size."""
    for name in ("noisy", "clean"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        clean = picture(30 + 5 * i, 41, seed=70 + i)
        noise = np.random.default_rng(i).normal(0, 12, clean.shape).round()
        noisy = (clean + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(clean).save(folder / "clean" / f"{i}_clean.png")
        Image.fromarray(noisy[1:] if i == 1 else noisy).save(folder / "noisy" / f"{i}_noisy.png")
    return {name: str(folder / name) for name in ("noisy", "clean")}
