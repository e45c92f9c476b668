"""Scores the averaged weights: PSNR and SSIM on fixed images with fixed noise, and panels to look at."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imagewizard.config.denoise import DenoiseSection
from imagewizard.config.train import ValidationSection
from imagewizard.diffusion import pixels
from imagewizard.diffusion.ddpm import DDPM
from imagewizard.diffusion.denoiser import Denoiser
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.metrics import METRICS, Reference
from imagewizard.noise import synthetic
from imagewizard.schema import PSNR, SCORES, level_text
from imagewizard.schema import noisy as noisy_column
from imagewizard.tracking.panels import ValidationPanel


@dataclass
class ValidationScores:
    """Sums of scores over images, so that the sums of several workers can be added."""

    sums: np.ndarray
    """float64, (levels, len(SCORES))."""
    counts: np.ndarray
    """How many images each sum is of, float64: an image smaller than SSIM's window has no SSIM."""
    images: int = 0
    panels: list[ValidationPanel] = field(default_factory=list)


def score(
    unet: UNet2DModel,
    schedule: NoiseSchedule,
    options: ValidationSection,
    images: Iterable[tuple[str, np.ndarray]],
    seed: int,
) -> ValidationScores:
    """Denoises and scores images (id, uint8 (H, W, 3)) at every level; panels show the first ones at the middle level.

    The noise depends on (seed, image id, level) alone. As in a bulk job, noise is float and the output is rounded.
    """
    section = DenoiseSection(mode=options.mode, steps=options.steps)
    denoiser = Denoiser(DDPM(unet, schedule, section), section, len(options.sigma))
    shape = len(options.sigma), len(SCORES)
    scores = ValidationScores(np.zeros(shape), np.zeros(shape))
    middle = len(options.sigma) // 2
    for image_id, clean in images:
        reference = Reference(clean)
        noisy = [synthetic.DEFAULT.add(clean, image_id, sigma, seed) for sigma in options.sigma]
        restored = [pixels.to_uint8(x) for x in denoiser([pixels.to_tensor(y) for y in noisy], options.sigma)]
        for level, (y, x) in enumerate(zip(noisy, restored, strict=True)):
            row = {name: metric.measure(reference, x) for name, metric in METRICS.items()}
            row |= {noisy_column(name): metric.measure(reference, y) for name, metric in METRICS.items()}
            scores.sums[level] += [row[column] or 0.0 for column in SCORES]
            scores.counts[level] += [row[column] is not None for column in SCORES]
            if level == middle and len(scores.panels) < options.panels:
                shown = np.clip(np.rint(y), 0, 255).astype(np.uint8)
                psnrs = row[noisy_column(PSNR)] or 0.0, row[PSNR] or 0.0
                scores.panels.append(ValidationPanel(image_id, options.sigma[level], clean, shown, x, *psnrs))
        scores.images += 1
    return scores


def means(sums: np.ndarray, counts: np.ndarray, options: ValidationSection) -> dict[str, Any]:
    """{psnr: mean over the levels, psnr_15: …, psnr_noisy_15, ssim_15, ssim_noisy_15, …}, rounded.

    A measure that no image has is None. `sums` and `counts`: those of ValidationScores.
    """
    mean = sums / np.maximum(counts, 1)
    row: dict[str, Any] = {"psnr": round(float(mean[:, SCORES.index(PSNR)].mean()), 4)}
    for level, sigma in enumerate(options.sigma):
        for i, name in enumerate(SCORES):
            value = round(float(mean[level, i]), 4) if counts[level, i] else None
            row[f"{name}_{level_text(sigma)}"] = value
    return row
