"""Scores the averaged weights: PSNR and SSIM on fixed images with fixed noise, and panels to look at."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from imagewizard.config.denoise import DenoiseSection
from imagewizard.config.train import ValidationSection
from imagewizard.diffusion import pixels
from imagewizard.diffusion.ddpm import DDPM
from imagewizard.diffusion.denoiser import Denoiser
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.metrics import Reference
from imagewizard.noise import synthetic
from imagewizard.schema import PSNR, SCORES, level_text, score_columns
from imagewizard.schema import noisy as noisy_column
from imagewizard.tracking.history import PAIRS
from imagewizard.tracking.panels import ValidationPanel


class ValidationImage(NamedTuple):
    """An image to score: clean, or a pair."""

    image_id: str
    clean: np.ndarray
    """uint8 (H, W, 3)."""
    noisy: np.ndarray | None = None
    """Of a pair, uint8 (H, W, 3)."""
    sigma: float = 0.0
    """The level that the network is told of a pair, 0-255 scale."""


@dataclass
class ValidationScores:
    """Sums of scores over images, so that the sums of several workers can be added."""

    sums: np.ndarray
    """float64, (levels + 1, len(SCORES)); the last row is that of the pairs."""
    counts: np.ndarray
    """How many images each sum is of, float64: an image smaller than SSIM's window has no SSIM."""
    images: int = 0
    panels: list[ValidationPanel] = field(default_factory=list)


def score(
    unet: UNet2DModel,
    schedule: NoiseSchedule,
    options: ValidationSection,
    images: Iterable[ValidationImage],
    seed: int,
) -> ValidationScores:
    """Denoises and scores clean images at every level, and pairs; panels show the first ones, at the middle level.

    The noise depends on (seed, image id, level) alone. As in a bulk job, noise is float and the output is rounded.
    """
    section = DenoiseSection(mode=options.mode, steps=options.steps)
    denoiser = Denoiser(DDPM(unet, schedule, section), section, len(options.sigma))
    of_pairs = len(options.sigma)
    scores = ValidationScores(*np.zeros((2, of_pairs + 1, len(SCORES))))
    shown_levels = of_pairs // 2, of_pairs
    for image_id, clean, real, told in images:
        reference = Reference(clean)
        if real is None:
            levels, sigmas = range(of_pairs), options.sigma
            noisy = [synthetic.Gaussian(sigma).add(clean, image_id, seed) for sigma in sigmas]
        else:
            levels, sigmas, noisy = range(of_pairs, of_pairs + 1), [told], [real.astype(np.float32)]
        restored = [pixels.to_uint8(x) for x in denoiser([pixels.to_tensor(y) for y in noisy], sigmas)]
        for level, sigma, y, x in zip(levels, sigmas, noisy, restored, strict=True):
            row = score_columns(reference.scores(y), reference.scores(x))
            scores.sums[level] += [row[column] or 0.0 for column in SCORES]
            scores.counts[level] += [row[column] is not None for column in SCORES]
            if level in shown_levels and len(scores.panels) < options.panels:
                shown = np.clip(np.rint(y), 0, 255).astype(np.uint8)
                psnrs = row[noisy_column(PSNR)] or 0.0, row[PSNR] or 0.0
                scores.panels.append(ValidationPanel(image_id, round(sigma, 1), clean, shown, x, *psnrs))
        scores.images += 1
    return scores


def means(sums: np.ndarray, counts: np.ndarray, options: ValidationSection) -> dict[str, Any]:
    """{psnr: mean over the levels, psnr_15: …, psnr_noisy_15, ssim_15, ssim_noisy_15, …, psnr_pairs, …}, rounded.

    Without clean images psnr is that of the pairs. A measure that no image has is None. `sums` and `counts`: those of
    ValidationScores.
    """
    mean, column = sums / np.maximum(counts, 1), SCORES.index(PSNR)
    by_level = mean[:-1, column] if counts[0, column] else mean[-1:, column]
    row: dict[str, Any] = {"psnr": round(float(by_level.mean()), 4)}
    for level, name in enumerate([*map(level_text, options.sigma), PAIRS]):
        if not counts[level, column]:
            continue
        for i, score in enumerate(SCORES):
            row[f"{score}_{name}"] = round(float(mean[level, i]), 4) if counts[level, i] else None
    return row
