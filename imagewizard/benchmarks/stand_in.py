"""A stand-in for the model on its device: it sleeps over each image. All else of a bulk job is real."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from imagewizard.bulk.block import Block
from imagewizard.config.denoise import ActorConfig
from imagewizard.distributed.pipeline import DenoiseActor

Image = TypeVar("Image")

BARE_SECONDS = 2.0
# About as many as a bulk job's actor gives its device at a time. A single short sleep would be too long by a tenth.
CALL_IMAGES = 16


def sleep(milliseconds: float, noisy: Sequence[Image], sigmas: Sequence[float]) -> list[Image]:
    """The noisy images as they are, after so many milliseconds for each of them. Called as a Denoiser is."""
    time.sleep(milliseconds * len(noisy) / 1000)
    return list(noisy)


def actor(milliseconds: float) -> type[DenoiseActor]:
    """A DenoiseActor whose device sleeps for so long over each image, one after the other."""

    # Ray sends a function's own class by value, and so the milliseconds with it.
    class SleepingActor(DenoiseActor):
        def load(self, config: ActorConfig) -> Callable[[Block], Block]:
            from imagewizard.bulk.block_denoiser import BlockDenoiser  # torch, in the actor's process alone

            return BlockDenoiser(config, partial(sleep, milliseconds))

    return SleepingActor


def bare_rate(milliseconds: float, devices: int) -> float:
    """Images a second of so many of these devices in a hot loop. Less than they stand for: a sleep is never too short.

    Takes about BARE_SECONDS, and at least one call.
    """
    images = [None] * CALL_IMAGES
    calls = max(1, round(1000 * BARE_SECONDS / (milliseconds * len(images))))

    def loop() -> None:
        for _ in range(calls):
            sleep(milliseconds, images, [])

    with ThreadPoolExecutor(devices) as pool:
        started = time.perf_counter()
        for done in [pool.submit(loop) for _ in range(devices)]:
            done.result()
        return devices * calls * len(images) / (time.perf_counter() - started)
