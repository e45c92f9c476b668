"""Images per second of the bulk pipeline, compared with the bare model on the same cores and with a plain loop."""

import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from imagewizard.config.denoise import DenoiseConfig, DenoiseSection, ResourcesSection
from imagewizard.diffusion import pixels
from imagewizard.diffusion.denoiser import Denoiser, default_device
from imagewizard.distributed import cluster, denoise_job
from imagewizard.errors import UserError
from imagewizard.images import formats
from imagewizard.images.picture import decode_rgb
from imagewizard.models import files as model_files
from imagewizard.models import restorers
from imagewizard.noise import synthetic
from imagewizard.progress import Reporter

SEED = 0


@dataclass(frozen=True)
class Rates:
    """Images per second of the same work, done in three ways."""

    pipeline: float
    """A bulk job, from its first committed block on; the whole job if it has only one block."""
    pipeline_with_start: float
    """The same, including the start of the actors, and of Ray if it does not run yet."""
    bare: float
    """The loaded model in a hot loop on tensors in memory, with one process per core (or one for a GPU)."""
    plain: float
    """One process that reads, adds noise, denoises, and scores with scikit-image, image by image."""


def measure(
    folder: str, sigma: float, model_name: str, report: Reporter, start: cluster.Start = cluster.start
) -> Rates:
    """Denoises the image files of a local `folder` at level `sigma` in all three ways, one after the other.

    `report` receives a line before each way. `start` joins or starts Ray. Raises UserError if the model or the folder
    cannot be used.
    """
    paths = sorted(path for path in Path(folder).iterdir() if formats.is_image_name(path.name))
    if not paths:
        raise UserError(f"{folder} holds no image", "give a folder with images directly in it", "--images")
    report(f"{len(paths)} images; the bare model …")
    bare = _bare_rate(paths, sigma, model_name)
    report(f"{bare:.2f} images/s; the plain loop …")
    plain = _plain_rate(paths, sigma, model_name)
    report(f"{plain:.2f} images/s; the pipeline …")
    with tempfile.TemporaryDirectory() as scratch:
        job = DenoiseConfig.model_validate(
            {"input": folder, "output": f"{scratch}/run", "model": model_name, "noise": {"sigma": sigma}}
        )
        session = denoise_job.execute(denoise_job.prepare(job), start=start)["session"]
    with_start = session["rows_per_second"]
    return Rates(session["steady_rows_per_second"] or with_start, with_start, bare, plain)


def _load(model_name: str, batch_size: int) -> Denoiser:
    options = DenoiseSection()
    return Denoiser(restorers.load(model_files.find(model_name), options), options, batch_size)


def _bare_rate(paths: list[Path], sigma: float, model_name: str) -> float:
    """Runs one process per core, like the pipeline's one actor per core; each denoises a share of the images."""
    processes = 1 if default_device().type == "cuda" else cluster.available_cpus()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    spans = context.Queue()
    workers = [
        context.Process(target=_bare_loop, args=(paths[i::processes], sigma, model_name, barrier, spans))
        for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [spans.get() for _ in workers]
    for worker in workers:
        worker.join()
    return len(paths) / (max(end for _, end in found) - min(start for start, _ in found))


def _bare_loop(paths: list[Path], sigma: float, model_name: str, barrier, spans) -> None:  # type: ignore[no-untyped-def]
    gpu = default_device().type == "cuda"
    if not gpu:
        torch.set_num_threads(1)
    batch = ResourcesSection().images_a_forward(on_gpu=gpu)
    denoiser = _load(model_name, batch)
    noisy = [pixels.to_tensor(_noisy(_read(path), path, sigma)) for path in paths]
    denoiser(noisy[:2], [sigma] * len(noisy[:2]))
    barrier.wait()
    started = time.time()  # one clock for all processes
    for first in range(0, len(noisy), batch):
        part = noisy[first : first + batch]
        denoiser(part, [sigma] * len(part))
    spans.put((started, time.time()))


def _plain_rate(paths: list[Path], sigma: float, model_name: str) -> float:
    """Works like a simple script: Pillow, the model image by image, scikit-image. The model uses all cores."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    denoiser = _load(model_name, 1)
    denoiser([pixels.to_tensor(_read(paths[0]))], [sigma])
    started = time.perf_counter()
    for path in paths:
        clean = np.asarray(Image.open(path).convert("RGB"))
        noisy = _noisy(clean, path, sigma)
        denoised = pixels.to_uint8(denoiser([pixels.to_tensor(noisy)], [sigma])[0])
        for image in (noisy, denoised):
            peak_signal_noise_ratio(clean, image, data_range=255)
            structural_similarity(clean, image, channel_axis=-1, data_range=255)
    return len(paths) / (time.perf_counter() - started)


def _read(path: Path) -> np.ndarray:
    return decode_rgb(path.read_bytes(), 10**9)


def _noisy(clean: np.ndarray, path: Path, sigma: float) -> np.ndarray:
    return synthetic.Gaussian(sigma).add(clean, path.name, SEED)
