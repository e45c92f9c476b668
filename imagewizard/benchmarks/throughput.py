"""Images a second of a whole bulk job, beside those of what it is compared with."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imagewizard.benchmarks import bulk_run, crops, stand_in
from imagewizard.benchmarks.rates import Compared, Request, Throughput
from imagewizard.config import loading
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.distributed import cluster
from imagewizard.distributed.allocation import Allocation, allocate
from imagewizard.errors import UserError
from imagewizard.images import formats
from imagewizard.images.picture import decode_rgb
from imagewizard.metrics import METRICS, Reference
from imagewizard.models import files as model_files
from imagewizard.models import restorers
from imagewizard.noise import synthetic
from imagewizard.progress import Reporter

if TYPE_CHECKING:  # torch, which takes seconds and is not needed beside a stand-in
    from imagewizard.benchmarks.comparison import Comparison

COUNT = 2000
LIMIT_SECONDS = 300.0
# Of them, what the bulk job leaves to other parts, on two slow cores.
COMPARISON_SECONDS = 75.0
ACTOR_START_SECONDS, END_SECONDS = 30.0, 10.0
CAUTION = 0.6  # the least that the bulk job's rate may be of the expected one, where others use the machine too
CROPS_SHARE = 0.9  # of the bulk job's time, for crops of a size that is chosen: the machine may get slower meanwhile
SAMPLE = 8  # images on which the work beside the model is timed


def measure(request: Request, scratch: Path, started: float, start: cluster.Start, report: Reporter) -> Throughput:
    """Measures with the empty folder `scratch`, in LIMIT_SECONDS from `started` (of time.monotonic) on.

    If the model is too slow for that, the crops are smaller, or the images fewer. `start` joins or starts Ray. `report`
    is told what is being done. Raises UserError if the model or the folder cannot be used, JobError if an image fails.
    """
    restorers.check(model_files.find(request.model), max_sigma=request.sigma)
    paths = [] if request.folder is None else _images_in(request.folder)[: request.count]
    config = _config(request, scratch)
    report("Ray starts")
    start(None, report)
    share = allocate(config.resources)
    model = None if request.device_ms else _comparison(request, share)
    on_cpu = model is not None and not share.gpus_per_actor
    size, notes = request.size or crops.SIZES[0], list[str]()
    if not paths:
        count = request.count or COUNT
        if model is not None and request.size is None:
            size = _fitting_size(model, request.sigma, on_cpu, count, _seconds_left(started) - COMPARISON_SECONDS)
            if size < crops.SIZES[0]:
                notes.append(f"smaller crops: {count:,} of {crops.SIZES[0]}x{crops.SIZES[0]} would take over 5 minutes")
        paths = crops.write(scratch / "images", count, size)
    compared = _compare(request, model, paths, share, report)
    expected = _expected_rate([_decode(path) for path in paths[:SAMPLE]], request.sigma, compared.bare, on_cpu)
    fitting = max(1, int(CAUTION * expected * _seconds_left(started)))
    if fitting < len(paths):
        notes.append(f"only {fitting:,} of {len(paths):,} images, to end in 5 minutes")
        config = config.model_copy(update={"limit": fitting})
    report("bulk job")
    run = bulk_run.measure(config, request.device_ms, start, report)
    images = f"{run.rows:,} {f'images of {request.folder}' if request.folder else f'JPEG crops of {size}x{size}'}"
    return Throughput(
        request=request,
        images=images,
        notes=notes,
        machine_cores=cluster.available_cpus(),
        actors=share.actors,
        threads=share.threads_per_actor,
        on_cpu=on_cpu,
        compared=compared,
        run=run,
    )


def _images_in(folder: str) -> list[Path]:
    paths = sorted(path for path in Path(folder).rglob("*") if formats.is_image_name(path.name) and path.is_file())
    if not paths:
        raise UserError(f"{folder} holds no image", "give a local folder of images", "input")
    return paths


def _config(request: Request, scratch: Path) -> DenoiseConfig:
    # A stand-in needs no GPU.
    resources = {"actors": request.actors or 1, "gpus_per_actor": 0} if request.device_ms else {}
    if request.actors is not None:
        resources["actors"] = request.actors
    return loading.check(
        DenoiseConfig,
        {
            "input": request.folder or str(scratch / "images"),
            "limit": request.count,
            "output": str(scratch / "run"),
            "model": request.model,
            "noise": {"sigma": request.sigma},
            "resources": resources,
        },
    )


def _comparison(request: Request, share: Allocation) -> "Comparison":
    from imagewizard.benchmarks.comparison import Comparison

    return Comparison(request.model, request.sigma, share.actors, share.threads_per_actor)


def _compare(
    request: Request, model: "Comparison | None", paths: list[Path], share: Allocation, report: Reporter
) -> Compared:
    if model is not None:
        return model.measure(paths, report)
    assert request.device_ms is not None
    return Compared(stand_in.bare_rate(request.device_ms, share.actors))


def _seconds_left(started: float) -> float:
    """For the bulk job's images."""
    return LIMIT_SECONDS - (time.monotonic() - started) - ACTOR_START_SECONDS - END_SECONDS


def _fitting_size(model: "Comparison", sigma: float, on_cpu: bool, count: int, seconds: float) -> int:
    """Side of the largest crops of which a bulk job does so many in the seconds."""

    def rate(side: int) -> float:
        image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        return _expected_rate([image], sigma, model.quick_rate(side), on_cpu)

    return crops.largest(rate, count, CROPS_SHARE * CAUTION * seconds)


def _expected_rate(images: list[np.ndarray], sigma: float, bare: float, on_cpu: bool) -> float:
    """Images a second of a bulk job over images like these, if nothing waited and the system cost nothing.

    `images`: uint8 (H, W, 3). `bare`: the model's rate. `on_cpu`: it shares the cores with the rest of the work; else
    both go on at the same time.
    """
    noise = synthetic.Gaussian(sigma)
    _add_and_score(images[0], noise)  # some of it is compiled by the first call
    began = time.process_time()
    for image in images:
        _add_and_score(image, noise)
    rest = cluster.available_cpus() * len(images) / max(time.process_time() - began, 1e-6)
    return 1 / (1 / bare + 1 / rest) if on_cpu else min(bare, rest)


def _add_and_score(clean: np.ndarray, noise: synthetic.Gaussian) -> None:
    """Most of a bulk job's work with an image beside the model."""
    before, reference = noise.add(clean, "", 0), Reference(clean)
    for metric in METRICS.values():
        metric.measure(reference, before)
        metric.measure(reference, clean)


def _decode(path: Path) -> np.ndarray:
    return decode_rgb(path.read_bytes(), 10**9)
