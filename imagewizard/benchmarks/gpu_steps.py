"""The steps of gpu_check: is a device exact enough, and how fast is it compared with its own limit?"""

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imagewizard import seeding
from imagewizard.benchmarks import celebahq, gpu_bulk, gpu_forward
from imagewizard.benchmarks.bench import Bench
from imagewizard.benchmarks.step import Step
from imagewizard.config.denoise import DenoiseSection
from imagewizard.config.train import TrainConfig
from imagewizard.diffusion import pixels
from imagewizard.diffusion.denoiser import Denoiser
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.metrics import Reference
from imagewizard.models import files as model_files
from imagewizard.models import network, restorers
from imagewizard.noise import device as device_noise
from imagewizard.noise import normal
from imagewizard.training import in_memory, samples
from imagewizard.training.batches import DecodedImages, Sampler
from imagewizard.training.budget import Steps
from imagewizard.training.trainer import Trainer

# Forward and backward pass together cost three times the forward pass, because each product has two gradients.
BACKWARD = 3


def steps(bsds500: Path | None, vgg19: str | None) -> list[Step]:
    """All steps in order. The recipe runs if both paths are given."""
    bench = Bench()
    recipe = celebahq.Recipe(bsds500, vgg19, bench.device) if bsds500 and vgg19 else None
    celebahq_training = _Training(bench, celebahq.recipe_config(), 8 if bench.gpu else 1, "celebahq-256")
    embedded_training = _Training(bench, _embedded_config(compile=False), 128 if bench.gpu else 2, "embedded")
    compiled_training = _Training(bench, _embedded_config(compile=True), 128 if bench.gpu else 2, "embedded")

    def recipe_seconds() -> float | str:
        if recipe is None:
            return "give --bsds500 and --vgg19"
        if not bench.gpu:
            return "without a GPU it takes hours"
        rate = celebahq_training.steps_a_second
        return recipe.seconds(rate) if rate else "how long it takes is not known: train celebahq-256 was not run"

    def compiling(seconds: float) -> Callable[[], float | str]:
        return lambda: seconds if bench.gpu else "without a GPU it takes minutes"

    return [
        Step("device", lambda: _device(bench), lambda: 5),
        Step("generator", lambda: _generator(bench), lambda: 5),
        Step("bulk job's steps", lambda: gpu_bulk.check_steps(bench), lambda: 5),
        Step("bfloat16", lambda: _bfloat16(bench), lambda: 5),
        Step(
            "embedded", lambda: gpu_forward.measure(bench, gpu_forward.embedded(), 64 if bench.gpu else 2), lambda: 15
        ),
        Step("celebahq-256", lambda: gpu_forward.measure(bench, celebahq.unet(), 32 if bench.gpu else 1), lambda: 20),
        Step("pipeline embedded", lambda: gpu_bulk.pipeline(bench, "embedded"), lambda: 25 if bench.gpu else 8),
        Step(
            "pipeline celebahq-256", lambda: gpu_bulk.pipeline(bench, "celebahq-256"), lambda: 40 if bench.gpu else 30
        ),
        Step("train embedded", embedded_training.measure, lambda: 10),
        Step("train celebahq-256", celebahq_training.measure, lambda: 15),
        Step("loop", lambda: _loop(bench), lambda: 20 if bench.gpu else 8),
        Step("recipe", recipe.run if recipe else dict, recipe_seconds),
        Step("train compiled", compiled_training.measure, lambda: 90),
        Step(
            "embedded compiled", lambda: gpu_forward.measure_compiled(bench, gpu_forward.embedded(), 64), compiling(120)
        ),
        Step("celebahq-256 compiled", lambda: gpu_forward.measure_compiled(bench, celebahq.unet(), 32), compiling(180)),
    ]


def _device(bench: Bench) -> dict[str, Any]:
    """The device's name and its matrix product rate, the limit for the other steps."""
    size = 8192 if bench.gpu else 1024
    a, b = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    bench.matrix_rate = bench.rate(lambda: a @ b, 1.0) * 2 * size**3
    name = torch.cuda.get_device_name() if bench.gpu else f"cpu, {torch.get_num_threads()} threads"
    return {"name": name, "torch": torch.__version__, "matrix product, TFLOP/s": bench.matrix_rate / 1e12}


def _generator(bench: Bench) -> dict[str, Any]:
    """Compares the device's random numbers with numpy's, and measures how fast it draws them, eagerly and compiled.

    Raises ArithmeticError if they differ.
    """
    count, words = (256, 13824) if bench.gpu else (4, 256)
    keys = [seeding.key("gpu_check", i) for i in range(count)]
    sent = device_noise.key_tensor(keys).to(bench.device), torch.arange(count, device=bench.device)
    table = device_noise.table(bench.device)
    found: dict[str, Any] = {}
    for name in ("eager", "compiled") if bench.gpu else ("eager",):
        for size in (4, words):  # words of a crop's place, and of its noise
            counters = device_noise.counters(size, bench.device)

            def draw(keys: torch.Tensor, epochs: torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
                return device_noise.standard_normal(device_noise.words(keys, epochs, 1, counters), table)

            function = torch.compile(draw, dynamic=False) if name == "compiled" else draw
            expected = np.stack([normal.standard_normal(seeding.words(k, size, 1, i)) for i, k in enumerate(keys)])
            if not np.array_equal(function(*sent, counters).cpu().numpy(), expected):
                raise ArithmeticError(f"{name}, {size} words: the device's random numbers are not numpy's")
            found[f"{name}, {size} words: numpy's bits"] = True
        rate = bench.rate(lambda: function(*sent, counters), 1.0)  # noqa: B023 (called at once)
        found[f"{name}, normals a second"] = rate * expected.size
    return found


def _bfloat16(bench: Bench) -> dict[str, Any]:
    """The change in the embedded model's mean PSNR by a bulk job's precision, in dB, the greatest of three levels."""
    # Smooth shading plus fine texture loses as much as a photograph; shading alone would come out far cleaner.
    rng = np.random.default_rng(0)
    count = 8 if bench.gpu else 1
    coarse = torch.from_numpy(rng.uniform(30, 225, (count, 3, 16, 16)).astype(np.float32))
    shading = torch.nn.functional.interpolate(coarse, size=bench.side, mode="bicubic")
    texture = torch.from_numpy(rng.normal(0, 12, (count, 1, bench.side, bench.side)).astype(np.float32))
    pictures = (shading + texture).clamp(0, 255).round()
    images = [picture.permute(1, 2, 0).numpy().astype(np.uint8) for picture in pictures]
    differences = []
    for sigma in (15.0, 25.0, 50.0):
        psnrs = []
        for dtype in (torch.float32, bench.dtype):
            options = DenoiseSection()
            restorer = restorers.load(model_files.find("embedded"), options)
            denoiser = Denoiser(restorer, options, 4, bench.device, dtype)
            noisy = [
                pixels.to_tensor(image + np.float32(sigma) * seeding.generator(i, sigma).standard_normal(image.shape))
                for i, image in enumerate(images)
            ]
            restored = denoiser(noisy, [sigma] * len(noisy))
            psnrs.append(
                np.mean([Reference(a).psnr(pixels.to_uint8(b)) for a, b in zip(images, restored, strict=True)])
            )
        differences.append(float(psnrs[1] - psnrs[0]))
    greatest = max(differences, key=abs)
    return {"precision": str(bench.dtype), "greatest difference, dB": greatest, "under 0.01 dB": abs(greatest) < 0.01}


def _embedded_config(compile: bool) -> TrainConfig:
    """The parts of the embedded model's recipe that affect the cost of a step."""
    return TrainConfig.model_validate(
        {
            "output": "unused",
            "model": "embedded",
            "data": {"train": "unused", "validation": "unused", "crop": 96},
            "optimizer": {"epochs": 1, "batch_size": 128},
            "compile": compile,
        }
    )


class _Training:
    """Training steps of a network on random images, with samples drawn as in the training loop."""

    def __init__(self, bench: Bench, config: TrainConfig, batch: int, name: str) -> None:
        self._bench, self._batch, self._name = bench, batch, name
        size = config.data.crop if bench.gpu else 64
        self._config = config.model_copy(
            update={
                "data": config.data.model_copy(update={"crop": size}),
                "optimizer": config.optimizer.model_copy(update={"batch_size": batch}),
            }
        )
        self.steps_a_second = 0.0

    def measure(self) -> dict[str, Any]:
        """Steps and crops per second, including drawing samples, and their share of the matrix product rate."""
        bench, config = self._bench, self._config
        if self._name == "embedded":
            unet, schedule = network.load(model_files.find("embedded"))
        else:
            unet, schedule = celebahq.unet(), NoiseSchedule.from_config(celebahq.SCHEDULE)
        flop = BACKWARD * network.gflop_per_megapixel(unet) * 1e9 * config.data.crop**2 / 1e6
        trainer = Trainer(config, unet, schedule, Steps(10**6), bench.device)
        draw = _draw(bench, config, trainer)
        self.steps_a_second = bench.rate(lambda: trainer.train_step([draw()]), 4.0)
        trainer.settle()
        rate = self.steps_a_second * self._batch
        return {
            "crops": f"{self._batch} of {config.data.crop}x{config.data.crop}",
            "steps a second": self.steps_a_second,
            "crops a second": rate,
            "gigapixels an hour": rate * config.data.crop**2 * 3600 / 1e9,
            "share of the matrix product": rate * flop / bench.matrix_rate,
        }


def _draw(bench: Bench, config: TrainConfig, trainer: Trainer) -> Callable[[], Any]:
    """A function that gives batches of crops from random images, drawn as a training draws them."""
    rng = np.random.default_rng(0)
    side = max(512 if bench.gpu else 128, config.data.crop)
    images = [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(16)]
    keys = [samples.key(0, str(i)) for i in range(16)]
    decoded = DecodedImages(images, keys, config.data.crop, bench.device)
    drawing = in_memory.drawing(decoded, Sampler(config, trainer.schedule, bench.device), bench.device)
    size, rows = config.optimizer.batch_size, in_memory.STEPS_AHEAD
    at_once = in_memory.rows_at_once(rows, 1, size, config.data.crop)
    indices = (torch.arange(rows * size, device=bench.device) % 16).view(rows, size)

    def batches() -> Iterator[Any]:
        for window in itertools.count():
            yield from in_memory.drawn(drawing, indices, torch.full_like(indices, window), at_once)

    return partial(next, batches())


def _loop(bench: Bench) -> dict[str, Any]:
    """Overhead of drawing 8 crops beside a step of 1 ms, which stands in for a step of a fast network."""
    config = _embedded_config(compile=False)
    config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"batch_size": 8})})
    unet, schedule = network.load(model_files.find("embedded"))
    draw = _draw(bench, config, Trainer(config, unet, schedule, Steps(10**6), bench.device))
    if bench.gpu:
        cycles = 1_000_000
        per_step = 1.0 / bench.rate(lambda: torch.cuda._sleep(cycles), 1.0)
        cycles = round(cycles * 0.001 / per_step)

        def stand_in() -> None:
            torch.cuda._sleep(cycles)
    else:

        def stand_in() -> None:
            time.sleep(0.001)

    alone = 1.0 / bench.rate(stand_in, 1.0)

    def with_samples() -> None:
        draw()
        stand_in()

    both = 1.0 / bench.rate(with_samples, 2.0)
    return {"stand-in step, ms": alone * 1e3, "with its samples, ms": both * 1e3, "overhead": 1.0 - alone / both}
