"""The work of a bulk job as people write it: one image after the other, with Pillow, the model and scikit-image."""

import time
from pathlib import Path

import numpy as np
from PIL import Image

from imagewizard.config.denoise import DenoiseSection
from imagewizard.diffusion import pixels
from imagewizard.diffusion.denoiser import Denoiser
from imagewizard.models import files as model_files
from imagewizard.models import restorers
from imagewizard.noise import synthetic

SEED = 0


def load(model_name: str, options: DenoiseSection, batch_size: int | None = 1) -> Denoiser:
    """A model on the device of a bulk job. Raises UserError if it cannot be used."""
    return Denoiser(restorers.load(model_files.find(model_name), options), options, batch_size)


def noisy(clean: np.ndarray, path: Path, sigma: float) -> np.ndarray:
    """An image (H, W, 3) of 0-255 with Gaussian noise, float32, unclipped; as a bulk job makes it for a file's name."""
    return synthetic.Gaussian(sigma).add(clean, path.name, SEED)


def rate(paths: list[Path], sigma: float, denoiser: Denoiser, seconds: float) -> tuple[float, int]:
    """(images a second, images), from file to scores, with all cores for the model. `sigma`: of the noise, 0-255 scale.

    Takes the images in turn, at least one, and no further one after so many seconds.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    started = time.perf_counter()
    for done, path in enumerate(paths, 1):
        clean = np.asarray(Image.open(path).convert("RGB"))
        before = noisy(clean, path, sigma)
        after = pixels.to_uint8(denoiser([pixels.to_tensor(before)], [sigma])[0])
        for image in (before, after):
            peak_signal_noise_ratio(clean, image, data_range=255)
            structural_similarity(clean, image, channel_axis=-1, data_range=255)
        spent = time.perf_counter() - started
        if spent > seconds or done == len(paths):
            break
    return done / spent, done
