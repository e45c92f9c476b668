"""The loaded model in a hot loop on images in memory, in as many processes as a bulk job has actors."""

import itertools
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from imagewizard.benchmarks import plain
from imagewizard.config.denoise import DenoiseSection, ResourcesSection
from imagewizard.diffusion import pixels
from imagewizard.diffusion.denoiser import default_device
from imagewizard.images.picture import decode_rgb

HELD_BYTES = 128 << 20  # of images in a process


def rate(paths: list[Path], sigma: float, model_name: str, processes: int, threads: int, seconds: float) -> float:
    """Images a second of all processes together over so many seconds, and one batch in each at least.

    Each has a share of the images, which it takes again and again, and threads of its own or a GPU. There are at least
    as many images as processes. `sigma`: of their noise, 0-255 scale.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    spans = context.Queue()
    workers = [
        context.Process(
            target=_loop, args=(paths[i::processes], sigma, model_name, i, threads, seconds, barrier, spans)
        )
        for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [spans.get() for _ in workers]
    for worker in workers:
        worker.join()
    started, ended = min(start for start, _, _ in found), max(end for _, end, _ in found)
    return sum(images for _, _, images in found) / (ended - started)


def _loop(  # type: ignore[no-untyped-def]
    paths: list[Path], sigma: float, model_name: str, number: int, threads: int, seconds: float, barrier, spans
) -> None:
    """What process `number` does. Puts into `spans` when it started and ended, and how many images it denoised."""
    gpu = default_device().type == "cuda"
    if gpu:
        torch.cuda.set_device(number)
    else:
        torch.set_num_threads(threads)
    size = ResourcesSection().images_a_forward(on_gpu=gpu)
    denoiser = plain.load(model_name, DenoiseSection(), size)
    noisy = [image.cuda() if gpu else image for image in _noisy(paths, sigma)]
    batch = size or denoiser.images_at_once(*noisy[0].shape[1:])
    batches = [noisy[first : first + batch] for first in range(0, len(noisy), batch)]
    denoiser(batches[0], [sigma] * len(batches[0]))
    barrier.wait()
    images, started = 0, time.time()  # one clock for all processes
    for part in itertools.cycle(batches):
        denoiser(part, [sigma] * len(part))
        images += len(part)
        if (ended := time.time()) > started + seconds:
            spans.put((started, ended, images))
            return


def _noisy(paths: list[Path], sigma: float) -> Iterator[Tensor]:
    """The first images with their noise, up to HELD_BYTES."""
    held = 0
    for path in paths:
        if held > HELD_BYTES:
            return
        image = pixels.to_tensor(plain.noisy(decode_rgb(path.read_bytes(), 10**9), path, sigma))
        held += image.nbytes
        yield image
