"""Steps of gpu_check: is what a bulk job computes on a device right, and how fast is the whole job, without Ray?"""

import itertools
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagewizard import seeding
from imagewizard.benchmarks import celebahq
from imagewizard.benchmarks.bench import Bench
from imagewizard.bulk import block as blocks
from imagewizard.bulk.block import Block
from imagewizard.bulk.block_denoiser import BlockDenoiser
from imagewizard.bulk.block_reader import BlockReader
from imagewizard.bulk.gpu_steps import GpuSteps
from imagewizard.bulk.groups import Group
from imagewizard.bulk.samples import NoisySample
from imagewizard.bulk.stage_times import StageTimes
from imagewizard.config.denoise import CPU_BATCH_SIZE, ActorConfig, DenoiseConfig
from imagewizard.images.picture import Picture
from imagewizard.models import files as model_files
from imagewizard.models import network
from imagewizard.noise import normal
from imagewizard.noise.synthetic import Gaussian
from imagewizard.runs.results import BlockFile
from imagewizard.schema import OK, STATUS

SIGMA, SEED = 25.0, 0
# Blocks that are in the denoiser at once, as in an actor.
AT_ONCE = 3
# What a pipeline is measured for.
SECONDS = 8.0


def _photos(count: int, side: int) -> list[np.ndarray]:
    """Shading with texture, which a JPEG compresses about as a photograph."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        shading = Image.fromarray(rng.integers(30, 225, (side // 16, side // 16, 3), np.uint8)).resize((side, side))
        texture = rng.normal(0, 12, (side, side, 1))
        found.append((np.asarray(shading) + texture).clip(0, 255).round().astype(np.uint8))
    return found


def check_steps(bench: Bench) -> dict[str, Any]:
    """Compares the noise and the scores that a bulk job computes on the device with numpy's and scikit-image's.

    Raises ArithmeticError if the noise has other bits, or a score differs by more than 1e-6.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    images, noise = _photos(8 if bench.gpu else 2, bench.side), Gaussian(SIGMA)
    group = Group([NoisySample({"image_id": str(i)}, Picture(each), noise, SIGMA, 1) for i, each in enumerate(images)])
    steps = GpuSteps(bench.device, SEED)
    steps.prepare(group, StageTimes())
    noisy = steps.noisy(group)
    for index, image in enumerate(images):
        drawn = normal.standard_normal(seeding.words(noise.key(str(index), SEED), image.size // 2))
        if not np.array_equal(noisy[index], drawn.reshape(image.shape) * np.float32(SIGMA) + image):
            raise ArithmeticError("the device's noise is not numpy's")
    steps.begin(group)
    group.estimates = [each * 0.9 for each in group.inputs]  # stands in for a network
    steps.end(group)
    steps.set_pixels(group)
    greatest = 0.0
    for clean, scored, scores in zip(
        images * 2,
        [*noisy, *steps.images(group)],
        itertools.chain(*zip(*steps.scores(group), strict=True)),
        strict=True,
    ):
        kinds = {"channel_axis": -1, "data_range": 255}
        expected = {
            "psnr": peak_signal_noise_ratio(clean.astype(float), scored.astype(float), data_range=255),
            "ssim": structural_similarity(clean.astype(float), scored.astype(float), **kinds),
        }
        greatest = max(greatest, *(abs(value - scores[name]) for name, value in expected.items()))
    if greatest > 1e-6:
        raise ArithmeticError(f"the device's scores are not scikit-image's: {greatest:.1e} off")
    return {"noise: numpy's bits": True, "scores: greatest difference": greatest}


def pipeline(bench: Bench, model: str) -> dict[str, Any]:
    """Images per second of a bulk job's actor without Ray: JPEGs on disk are read, denoised and scored.

    `model`: embedded, or celebahq-256 for that architecture with random weights.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if model != "embedded":
            folder = Path(scratch) / "model"
            unet = celebahq.unet()
            network.save(unet, unet.state_dict(), celebahq.SCHEDULE, folder)
            model = str(folder)
        paths = [Path(scratch) / f"{number:04d}.jpg" for number in range(256 if bench.gpu else 8)]
        for path, image in zip(paths, _photos(len(paths), bench.side), strict=True):
            Image.fromarray(image).save(path, quality=95)
        denoise = BlockDenoiser(_config(bench, model))
        return _timed(denoise, paths, SECONDS if bench.gpu else 0.5)


def _config(bench: Bench, model: str) -> ActorConfig:
    job = DenoiseConfig(input="unused", output="unused", noise={"sigma": SIGMA})  # type: ignore[arg-type]
    return ActorConfig(
        model=model,
        fingerprint=model_files.find(model).fingerprint,
        noise=job.noise,
        denoise=job.denoise,
        images=None,
        seed=SEED,
        max_pixels=job.max_pixels,
        batch_size=None if bench.gpu else CPU_BATCH_SIZE,
        threads=8 if bench.gpu else 1,
    )


def _timed(denoise: BlockDenoiser, paths: list[Path], seconds: float) -> dict[str, Any]:
    """The rate of AT_ONCE threads, each with one block after the other, and the CPU milliseconds of the stages."""
    reader, done, numbers = BlockReader(10**8, keep=False), list[Block](), itertools.count()

    def work(until: float) -> None:
        while time.perf_counter() < until:
            found = denoise(reader(_block(next(numbers), paths)))
            assert all(row[STATUS] == OK for row in found.images), "every image can be denoised"
            done.append(found)

    work(time.perf_counter() + 0.1)  # to warm up: a block at least
    done.clear()
    started = time.perf_counter()
    threads = [threading.Thread(target=work, args=(started + seconds,)) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, images = time.perf_counter() - started, sum(len(block.images) for block in done)
    found: dict[str, Any] = {"images": images, "images a second": images / spent}
    for stage in done[0].times.cpu:
        found[f"CPU ms an image, {stage}"] = 1000 * sum(block.times.cpu[stage] for block in done) / images
    return found


def _block(number: int, paths: list[Path]) -> Block:
    work = dict.fromkeys(blocks.WORK_SCHEMA.names) | {blocks.SETTINGS: [0], blocks.ATTEMPTS: [1]}
    images = [work | {"image_id": f"{number}/{path.name}", "uri": str(path)} for path in paths]
    return Block(BlockFile(0, number, 1), images)
