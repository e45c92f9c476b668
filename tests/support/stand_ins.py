"""Stand-ins for the actor of the bulk job, where a test looks at rows and files, not at what a network makes.

The rest of the job is real: Ray, the readers, the decoders, the writers. They stand in a module of their own, without
torch, because a worker imports the module of its actor.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from imagewizard import schema
from imagewizard.bulk import block as blocks
from imagewizard.bulk import outputs
from imagewizard.bulk.block import Block
from imagewizard.config.denoise import ActorConfig
from imagewizard.distributed import pipeline
from imagewizard.images.picture import Picture
from imagewizard.metrics import Reference
from imagewizard.noise import synthetic
from imagewizard.sources import reading
from tests.support import run_folders


class StandInActor(pipeline.DenoiseActor):
    """A DenoiseActor without a network: noise is added and scored, and the noisy image is its own estimate."""

    def load(self, config: ActorConfig) -> Callable[[Block], Block]:
        return partial(denoise_nothing, config)


class BrokenActor(pipeline.DenoiseActor):
    """A DenoiseActor that has a bug."""

    def load(self, config: ActorConfig) -> Callable[[Block], Block]:
        return self.denoise

    @staticmethod
    def denoise(block: Block) -> Block:
        raise ValueError("a bug")


class ClosingActor(pipeline.DenoiseActor):
    """A DenoiseActor that puts a file in the place of the folder where its rows are to be written."""

    def load(self, config: ActorConfig) -> Callable[[Block], Block]:
        return self.close_results

    def close_results(self, block: Block) -> Block:
        (Path(self._work.run) / "results").write_bytes(b"no folder")
        return Block(block.file, [])


def denoise_nothing(config: ActorConfig, block: Block) -> Block:
    """A block after reading → its rows."""
    assert config.noise is not None, "a stand-in has nothing to restore with"
    noises = synthetic.make(config.noise.kind, config.noise.settings)
    rows = []
    for image in block.images:
        picture = image[blocks.PICTURE]
        assert (picture is None) == (image[schema.REASON] is not None), "a small block is decoded whole"
        for setting, attempt in zip(image[blocks.SETTINGS], image[blocks.ATTEMPTS], strict=True):
            noise = noises[setting]
            known = {
                schema.URI: reading.origin(image),
                schema.NOISE_KIND: noise.kind,
                schema.NOISE_PARAMS: noise.params(),
                schema.SIGMA: noise.sigma,
                schema.ATTEMPT: attempt,
                schema.MODEL: config.fingerprint,
            }
            rows.append(_row(config, image, picture, noise, known))
    return replace(block, images=rows)


def _row(
    config: ActorConfig, image: dict[str, Any], source: Picture | None, noise: synthetic.Noise, known: dict[str, Any]
) -> dict[str, Any]:
    image_id = image[schema.IMAGE_ID]
    if source is None:
        return run_folders.error_row(image_id, image[schema.STAGE], image[schema.REASON], **known)
    noisy, reference = noise.add(source.pixels, image_id, config.seed), Reference(source.pixels)
    shown = noisy.clip(0, 255).round().astype(np.uint8)
    known |= schema.score_columns(reference.scores(noisy), reference.scores(shown))
    height, width = source.pixels.shape[:2]
    row = run_folders.row(image_id, **known, **{schema.HEIGHT: height, schema.WIDTH: width})
    if config.images is not None:
        outputs.encode(replace(source, pixels=shown), row, config.images)
    return row
