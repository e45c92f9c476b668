"""How well the averaged weights denoise: PSNR and SSIM on fixed images with fixed noise, and panels to look at."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from imagewizard import seeding
from imagewizard.config.denoise import DenoiseSection
from imagewizard.config.train import ValidationSection
from imagewizard.diffusion import pixels
from imagewizard.diffusion.denoiser import Denoiser
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.metrics import Reference
from imagewizard.tracking.panels import Panel

MEASURES = ("psnr_noisy", "psnr", "ssim_noisy", "ssim")


@dataclass
class Scores:
    """Sums over images, so that those of several workers can be added up."""

    sums: np.ndarray
    """float64, (levels, len(MEASURES))."""
    images: int = 0
    panels: list[Panel] = field(default_factory=list)


def score(
    unet: UNet2DModel,
    schedule: NoiseSchedule,
    options: ValidationSection,
    images: Iterable[tuple[str, np.ndarray]],
    seed: int,
) -> Scores:
    """Denoises (id, uint8 (H, W, 3)) images at every level; panels of the first ones at the middle level.

    The noise hangs on (seed, image id, level) alone; the protocol is the bulk job's (float noise, rounded output).
    """
    denoiser = Denoiser(unet, schedule, DenoiseSection(mode=options.mode, steps=options.steps), len(options.sigma))
    scores = Scores(np.zeros((len(options.sigma), len(MEASURES))))
    middle = len(options.sigma) // 2
    for image_id, clean in images:
        reference = Reference(clean)
        noisy = [_noisy(clean, sigma, seed, image_id) for sigma in options.sigma]
        restored = [pixels.to_uint8(x) for x in denoiser([pixels.to_tensor(y) for y in noisy], options.sigma)]
        for level, (y, x) in enumerate(zip(noisy, restored, strict=True)):
            # Where an image is smaller than SSIM's window there is none; it then counts as 0.
            measured = reference.psnr(y), reference.psnr(x), reference.ssim(y) or 0.0, reference.ssim(x) or 0.0
            scores.sums[level] += measured
            if level == middle and len(scores.panels) < options.panels:
                shown = np.clip(np.rint(y), 0, 255).astype(np.uint8)
                scores.panels.append(Panel(image_id, options.sigma[level], clean, shown, x, *measured[:2]))
        scores.images += 1
    return scores


def _noisy(clean: np.ndarray, sigma: float, seed: int, image_id: str) -> np.ndarray:
    noise = seeding.generator(seed, "validation", image_id, sigma).standard_normal(clean.shape, np.float32)
    return clean + np.float32(sigma) * noise


def means(sums: np.ndarray, images: int, options: ValidationSection) -> dict[str, float]:
    """{psnr: mean over the levels, psnr_15: …, psnr_noisy_15, ssim_15, ssim_noisy_15, …}, rounded."""
    mean = sums / images
    row = {"psnr": round(float(mean[:, MEASURES.index("psnr")].mean()), 4)}
    for level, sigma in enumerate(options.sigma):
        row |= {f"{name}_{sigma:g}": round(float(mean[level, i]), 4) for i, name in enumerate(MEASURES)}
    return row
