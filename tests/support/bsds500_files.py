"""A stand-in for BSDS500: 500 pictures of the right sizes, 68 of which have the fingerprints of CBSD68's."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.sample_files import encoded

FINGERPRINTS: dict[str, str] = json.loads((resources.files("imagewizard.datasets") / "cbsd68.json").read_text())


def picture(fingerprint: str, height: int = 321, width: int = 481) -> np.ndarray:
    """uint8 (height, width, 3), grey: the sum of 16 x 16 cosine waves whose signs are the bits of 64 hex digits."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(fingerprint), np.uint8)).reshape(16, 16)
    k = np.arange(16)[:, None]
    rows, columns = (np.cos(np.pi * k * (2 * np.arange(n) + 1) / (2 * n)) for n in (height, width))
    sum_of_waves = rows.T @ np.where(bits, 1.0, -1.0) @ columns
    grey = np.clip(128 + 40 * sum_of_waves / sum_of_waves.std(), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def write_bsds500(folder: Path) -> None:
    """Writes `folder`/{train,val,test}/*.jpg: 200, 100 and 200 images of both formats, flat except the 68 in val."""
    standing = encoded(Image.new("RGB", (321, 481), (200, 120, 40)), "JPEG", quality=30)
    lying = encoded(Image.new("RGB", (481, 321), (20, 120, 140)), "JPEG", quality=30)
    for split, count in {"train": 200, "val": 32, "test": 200}.items():
        (folder / split).mkdir(parents=True)
        for index in range(count):
            (folder / split / f"{split}-{index:03d}.jpg").write_bytes(lying if index % 4 else standing)
    for name, fingerprint in FINGERPRINTS.items():
        data = encoded(Image.fromarray(picture(fingerprint)), "JPEG", quality=75)
        (folder / "val" / f"{name}.jpg").write_bytes(data)
