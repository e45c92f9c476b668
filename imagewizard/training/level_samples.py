"""Draws what the level finder learns from: pieces of images, with noise of many kinds, and where it is how strong."""

import io
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from imagewizard.noise import camera
from imagewizard.noise.effective import BLOCK
from imagewizard.training import drawings

# The noise at a place is measured over this many pixels around it; its deviation is then known to 3 %.
WINDOW = 32


class LevelSample(NamedTuple):
    """A piece of an image."""

    noisy: np.ndarray
    """float32 (side, side, 3), 0-255 scale."""
    std: np.ndarray
    """Deviation of the noise around each cell: float32 (side / cell, side / cell)."""
    level: np.ndarray
    """The level of white noise that is as strong in means over BLOCK x BLOCK pixels: likewise."""


def draw(images: list[np.ndarray], generator: np.random.Generator, side: int, cell: int) -> LevelSample:
    """A sample from one of `images` (uint8 (H, W, 3)), or from a drawing."""
    kind = generator.choice(["white", "camera", "sensor", "none"], p=[0.27, 0.5, 0.05, 0.18])
    is_finished = kind in ("camera", "none")
    # People scale and save photographs once more.
    scale = float(generator.uniform(0.5, 1.6)) if is_finished and generator.random() < 0.3 else 1.0
    clean = _clean(images, generator, round(side / scale), 0.4 if kind == "none" else 0.2)
    exact = None
    if kind == "white":
        noisy, clean, exact = _white(clean, generator)
    elif kind == "sensor":
        a, b = float(generator.uniform(0, 3)), float(generator.uniform(0, 50))
        noisy = clean + np.sqrt(a * clean + b) * generator.standard_normal(clean.shape, np.float32)
        noisy = _rounded(noisy) if generator.random() < 0.5 else noisy
    elif kind == "camera":
        development = camera.draw(generator)
        noisy = development.expose(clean, generator)
        # What the camera does to the picture itself is no noise.
        clean = replace(development, gain=0.0).expose(clean, generator)
    else:
        noisy, exact = clean, 0.0
    noisy, clean = noisy.astype(np.float32), clean.astype(np.float32)
    if scale != 1.0:
        noisy, clean = _resized(noisy, side), _resized(clean, side)
    if is_finished and generator.random() < 0.4:
        noisy, clean = _compressed(generator, _rounded(noisy), _rounded(clean))
    if exact is None:
        std, level = (around(noisy - clean, block, cell) for block in (1, BLOCK))
    else:
        std = level = np.full((side // cell, side // cell), exact, np.float32)
    if generator.random() < 0.1:
        noisy = _framed(noisy, generator)
    return LevelSample(noisy, std, level)


def _clean(images: list[np.ndarray], generator: np.random.Generator, side: int, drawn: float) -> np.ndarray:
    """uint8 (side, side, 3); a share of `drawn` are drawings."""
    if generator.random() < drawn:
        return drawings.draw(generator, side)
    image = images[generator.integers(len(images))]
    # A camera's own pixels are softer than those of photographs that were made smaller.
    scale = float(generator.uniform(0.35, 1.5)) if generator.random() < 0.5 else 1.0
    taken = min(max(8, round(side * scale)), *image.shape[:2])
    top, left = (int(generator.integers(length - taken + 1)) for length in image.shape[:2])
    piece = image[top : top + taken, left : left + taken]
    if taken != side:
        piece = np.asarray(Image.fromarray(piece).resize((side, side), Image.Resampling.BICUBIC))
    piece = np.rot90(piece, int(generator.integers(4)))
    if generator.random() < 0.12:
        piece = np.asarray(Image.fromarray(np.ascontiguousarray(piece)).convert("L").convert("RGB"))
    piece = np.ascontiguousarray(piece)
    return _framed(piece, generator) if generator.random() < 0.1 else piece


def _framed(piece: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The piece as part of a page, or cut out: it ends at an edge, behind which there is one grey."""
    edge = int(generator.integers(len(piece) // 4, len(piece)))
    framed = piece.copy()
    framed[:, edge:] = generator.choice([0, 255, int(generator.integers(256))])
    return np.ascontiguousarray(np.rot90(framed, int(generator.integers(4))))


def _white(clean: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float | None]:
    """(with noise, without, its level): of 0 to 80, evenly or in its root; None where JPEG made another of it."""
    sigma = float(generator.uniform(0, 80) if generator.random() < 0.5 else 80 * generator.random() ** 2)
    is_grey = (clean == clean[:, :, :1]).all()
    shape = (*clean.shape[:2], 1) if is_grey else clean.shape
    noisy = clean + np.float32(sigma) * generator.standard_normal(shape, np.float32)
    form = generator.random()
    if form < 0.4:
        return noisy, clean, sigma
    if form < 0.8:
        return _rounded(noisy), clean, sigma
    noisy, clean = _compressed(generator, _rounded(noisy), clean)
    return noisy, clean, None


def _rounded(image: np.ndarray) -> np.ndarray:
    return np.rint(image.clip(0, 255)).astype(np.uint8)


def _compressed(generator: np.random.Generator, *images: np.ndarray) -> list[np.ndarray]:
    """After the same JPEG: float32."""
    quality, subsampling = int(generator.integers(60, 100)), int(generator.integers(3))
    decoded = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling=subsampling)
        decoded.append(np.asarray(Image.open(stream), np.float32))
    return decoded


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    planes = [
        np.asarray(Image.fromarray(image[:, :, i]).resize((side, side), Image.Resampling.BICUBIC)) for i in range(3)
    ]
    return np.stack(planes, axis=2)


def around(noise: np.ndarray, block: int, cell: int) -> np.ndarray:
    """`block` times the deviation of the noise's means over blocks, in a window around each cell.

    `noise`: float32 (side, side, 3), 0-255 scale. float32 (side / cell, side / cell).
    """
    side = len(noise)
    count = side // block
    means = noise[: count * block, : count * block].reshape(count, block, count, block, 3).mean((1, 3))
    energy = np.square(means).mean(2)
    sums = np.pad(energy, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    middles = (np.arange(side // cell) + 0.5) * cell / block
    half = WINDOW / 2 / block
    low = np.rint(middles - half).clip(0, count).astype(int)
    high = np.rint(middles + half).clip(0, count).astype(int)
    total = sums[high][:, high] - sums[low][:, high] - sums[high][:, low] + sums[low][:, low]
    area = np.outer(high - low, high - low)
    return (block * np.sqrt(np.maximum(total, 0) / area)).astype(np.float32)
