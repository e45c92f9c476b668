"""Scores a restoration on real noise: restores noisy images, and compares them with the clean ones of their pairs.

For tens or hundreds of images: in this process, one image after another, without Ray. An image is restored exactly as a
bulk job with `noise: null` restores it. All is scored in 8 bits and RGB, as bulk jobs score.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
import torch

from imagewizard import schema
from imagewizard.bulk import block as blocks
from imagewizard.bulk.block import Block
from imagewizard.bulk.block_denoiser import BlockDenoiser
from imagewizard.config.denoise import ActorConfig, ImagesSection, ResourcesSection
from imagewizard.config.evaluate import EvaluateConfig
from imagewizard.diffusion.denoiser import default_device
from imagewizard.errors import UserError, one_line
from imagewizard.images import decoding, picture
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import Picture
from imagewizard.manifest.pairs import Pair
from imagewizard.metrics import Reference
from imagewizard.models import files as model_files
from imagewizard.models import restorers
from imagewizard.runs.results import BlockFile
from imagewizard.sources.reading import ImageReader, byte_limit


@dataclass(frozen=True)
class PairScores:
    """What a restoration made of one pair."""

    name: str
    error: str | None = None
    """Why it could not be scored, one line; all else is None or empty then."""
    level: float | None = None
    """The noise level that the network was told, 0-255 scale; None also where none could be found."""
    scores: dict[str, float | None] = field(default_factory=dict)
    """Of the noisy and of the restored image, by the names in schema.SCORES."""

    @property
    def gain(self) -> float | None:
        """In PSNR, dB; None for an error."""
        before, after = self.scores.get(schema.noisy(schema.PSNR)), self.scores.get(schema.PSNR)
        return None if before is None or after is None else after - before

    def as_json(self) -> dict[str, Any]:
        """Flat; scores and gain are null for an error."""
        scores = dict.fromkeys(schema.SCORES) | self.scores
        return {"name": self.name, "level": self.level, **scores, "gain": self.gain, "error": self.error}


@dataclass(frozen=True)
class Summary:
    """What all pairs come to."""

    scored: int
    failed: int
    means: dict[str, float | None]
    """Of the pairs that were scored: schema.SCORES and `gain`."""
    worst: PairScores | None
    """The pair that gained least; None if none was scored."""


def summary(pairs: list[PairScores]) -> Summary:
    """Means leave out what could not be scored."""
    scored = [pair for pair in pairs if pair.error is None]
    columns = {name: [pair.scores[name] for pair in scored] for name in schema.SCORES}
    columns["gain"] = [pair.gain for pair in scored]
    found = {name: [value for value in values if value is not None] for name, values in columns.items()}
    means = {name: fmean(values) if values else None for name, values in found.items()}
    worst = min(scored, key=lambda pair: pair.gain or 0.0, default=None)
    return Summary(len(scored), len(pairs) - len(scored), means, worst)


class Evaluator:
    """Holds the model; call it with pairs."""

    def __init__(self, config: EvaluateConfig) -> None:
        """Raises UserError if the model cannot be used, or does not know the level that is given."""
        given = config.denoise.sigma
        self._level = None if isinstance(given, str) else given * config.denoise.strength
        model = model_files.find(config.model)
        try:
            restorers.check(model, max_sigma=self._level or 0.0)
        except UserError as error:
            raise error.at("denoise.sigma") if error.key == "sigma" else error from None
        on_gpu = default_device().type == "cuda"
        actor = ActorConfig(
            model=config.model,
            fingerprint=model.fingerprint,
            noise=None,
            denoise=config.denoise,
            images=ImagesSection(),  # or no pixels would come back
            seed=0,
            max_pixels=config.max_pixels,
            batch_size=ResourcesSection().images_a_forward(on_gpu),
            threads=torch.get_num_threads(),
        )
        self._restore = BlockDenoiser(actor)
        self._max_pixels = config.max_pixels
        self._reader = ImageReader()

    def __call__(self, pairs: list[Pair]) -> Iterator[PairScores]:
        """The scores of each pair, as soon as they are known. A bad image costs its pair, and says why."""
        for pair in pairs:
            try:
                yield self._score(pair)
            except ImageError as error:
                yield PairScores(pair.name, error=one_line(error))

    def _score(self, pair: Pair) -> PairScores:
        """Raises ImageError with the reason if the pair cannot be scored."""
        noisy, clean = self._read(pair)
        sizes = ["{1} x {0}".format(*pixels.shape) for pixels in (noisy.pixels, clean)]
        if sizes[0] != sizes[1]:
            raise ImageError(f"the noisy image has {sizes[0]} pixels, the clean one {sizes[1]}")
        image = {schema.IMAGE_ID: pair.name, schema.URI: pair.noisy, blocks.SETTINGS: [0], blocks.ATTEMPTS: [1]}
        read = {blocks.PICTURE: noisy, schema.STAGE: None, schema.REASON: None}
        work = dict.fromkeys(blocks.WORK_SCHEMA.names) | image | read
        [row] = self._restore(Block(BlockFile(0, 0, 1), [work])).images
        if row[schema.STATUS] == schema.ERROR:
            raise ImageError(row[schema.REASON])
        restored = picture.decode(row[blocks.ENCODED], self._max_pixels, keep=True)
        reference = Reference(clean)
        scores = schema.score_columns(*(reference.scores(decoding.rgb8(each.pixels)) for each in (noisy, restored)))
        level = row[schema.SIGMA_ESTIMATED] if self._level is None else self._level
        return PairScores(pair.name, level=level, scores=scores)

    def _read(self, pair: Pair) -> tuple[Picture, np.ndarray]:
        """The noisy image as a restoration decodes it, the clean one as scoring wants it. Raises ImageError."""
        place = dict.fromkeys(schema.MANIFEST_SCHEMA.names)
        images = [place | {schema.URI: uri} for uri in (pair.noisy, pair.clean)]
        noisy, clean = self._reader.read(images, byte_limit(self._max_pixels))
        with _named("noisy"):
            found = picture.decode(_content(noisy), self._max_pixels, keep=True)
        with _named("clean"):
            return found, picture.decode_rgb(_content(clean), self._max_pixels)


@contextmanager
def _named(which: str) -> Iterator[None]:
    """Says of an ImageError which image it is about."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"the {which} image: {error}") from None


def _content(found: bytes | OSError) -> bytes:
    if isinstance(found, OSError):
        raise ImageError(one_line(found))
    return found
