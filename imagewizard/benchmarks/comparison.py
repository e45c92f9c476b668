"""What the model does without the pipeline: bare, in a plain loop, and at best. Needs torch, but no Ray."""

import statistics
import time
from pathlib import Path

import torch
from PIL import Image

from imagewizard.benchmarks import bare, plain, roofline
from imagewizard.benchmarks.rates import Compared
from imagewizard.config.denoise import DenoiseSection
from imagewizard.diffusion.ddpm import DDPM
from imagewizard.diffusion.denoiser import Denoiser
from imagewizard.errors import UserError
from imagewizard.progress import Reporter

# What each part may take. The first DDIM image is waited for, however long it takes.
PLAIN_SECONDS, BARE_SECONDS, DDIM_SECONDS = 10.0, 10.0, 20.0
DDIM_STEPS, DDIM_IMAGES = 50, 4
SAMPLE = 64  # images whose mean size counts for the roofline


class Comparison:
    """Holds the loaded model, on the device of a bulk job."""

    def __init__(self, model_name: str, sigma: float, processes: int, threads: int) -> None:
        """`sigma`: of the noise, 0-255 scale. `processes`, `threads`: the pipeline's actors, and threads of each.

        Raises UserError if the model cannot be used.
        """
        self._model_name, self._sigma = model_name, sigma
        self._processes, self._threads = processes, threads
        self._denoiser = plain.load(model_name, DenoiseSection())

    def quick_rate(self, side: int) -> float:
        """About what all processes can denoise of images of side x side pixels, in images a second."""
        image, all_threads = torch.randn(3, side, side), torch.get_num_threads()
        torch.set_num_threads(self._threads)
        times = []
        for _ in range(4):
            started = time.perf_counter()
            self._denoiser([image], [self._sigma])
            times.append(time.perf_counter() - started)
        torch.set_num_threads(all_threads)
        return self._processes / statistics.median(times[1:])  # the first one warms up

    def measure(self, paths: list[Path], report: Reporter) -> Compared:
        """All that the pipeline is compared with, on images of these files. `report` is told what is being done."""
        report("plain loop")
        plain_rate, _ = plain.rate(paths, self._sigma, self._denoiser, PLAIN_SECONDS)
        report(f"plain loop with {DDIM_STEPS} DDIM steps")
        ddim, ddim_images = plain.rate(paths[:DDIM_IMAGES], self._sigma, self._sampler(), DDIM_SECONDS)
        report("bare model")
        processes = min(self._processes, len(paths))
        bare_rate = bare.rate(paths, self._sigma, self._model_name, processes, self._threads, BARE_SECONDS)
        report("roofline")
        megapixels = statistics.mean(map(_megapixels, paths[:SAMPLE]))
        return Compared(bare_rate, plain_rate, ddim, ddim_images, roofline.measure(self._ddpm.unet, megapixels))

    @property
    def _ddpm(self) -> DDPM:
        if not isinstance(self._denoiser.restorer, DDPM):
            raise UserError(f"{self._model_name} is no DDPM", "give one that is", "model")
        return self._denoiser.restorer

    def _sampler(self) -> Denoiser:
        options = DenoiseSection(mode="ddim", steps=DDIM_STEPS)
        return Denoiser(DDPM(self._ddpm.unet, self._ddpm.schedule, options), options, 1)


def _megapixels(path: Path) -> float:
    with Image.open(path) as image:
        return image.width * image.height / 1e6
