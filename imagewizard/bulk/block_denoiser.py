"""What an actor does with a block: noise → denoise → score, image by image, and a result row for each.

One bad image costs a row, never the block. The three steps are methods of their own; they share a process so that
pixels need not leave it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from imagewizard import schema
from imagewizard.bulk import block as blocks
from imagewizard.bulk import outputs
from imagewizard.bulk.block import Block
from imagewizard.config.denoise import ActorConfig
from imagewizard.diffusion import pixels
from imagewizard.diffusion.denoiser import Denoiser
from imagewizard.errors import UserError
from imagewizard.images import picture
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import Picture
from imagewizard.metrics import METRICS, Reference
from imagewizard.models import files as model_files
from imagewizard.models import restorers
from imagewizard.noise import synthetic
from imagewizard.noise.level import estimate_sigma
from imagewizard.sources import reading

# Images are denoised in groups, so that equal shapes meet in a batch; a group holds no more pixels than this, which
# bounds its float copies to about half a gigabyte.
GROUP_PIXELS = 16_000_000

Row = dict[str, Any]
"""A result row, or what of it is known."""


@dataclass
class NoisySample:
    """One (image, level) on its way through the steps."""

    image: dict[str, Any]
    picture: Picture
    """The image as it was decoded: clean, or in restoration mode the noisy one."""
    reference: Reference | None
    """The clean image with what scoring against it needs, shared by the image's levels; None in restoration mode."""
    level: float | None
    """The sigma asked for; None: to be estimated."""
    attempt: int
    sigma: float = 0.0
    """The sigma used."""
    noisy: np.ndarray = field(default_factory=lambda: np.empty(0))
    """float32, (H, W, 1 or 3), 0-255 scale, unclipped."""

    @property
    def size(self) -> int:
        """In pixels."""
        return self.picture.pixels.shape[0] * self.picture.pixels.shape[1]

    def row(self) -> Row:
        """What its result row says of the image."""
        height, width = self.picture.pixels.shape[:2]
        notes = blocks.joined_notes(*self.picture.notes)
        known = {schema.WIDTH: width, schema.HEIGHT: height, schema.NOTES: notes}
        return _row(self.image, self.level, self.attempt) | known


@dataclass(frozen=True)
class ErrorRow:
    """An (image, level) that came to nothing."""

    row: Row


Denoise = Callable[[Sequence[torch.Tensor], Sequence[float]], list[torch.Tensor]]
"""Noisy float32 (3, H, W) in [-1, 1] and their sigmas → estimates."""


class BlockDenoiser:
    """Holds a loaded model on one device; call it with blocks of decoded images, get blocks of result rows."""

    def __init__(self, config: ActorConfig, denoiser: Denoise | None = None) -> None:
        """`denoiser`: what stands in for the model's Denoiser, where all the rest is to be measured."""
        torch.set_num_threads(config.threads)
        files = model_files.find(config.model)
        if files.fingerprint != config.fingerprint:
            raise RuntimeError(f"model {config.model} is not the same on this node as where the job was started")
        self._restorer = restorers.load(files, config.denoise)
        self._denoiser = denoiser or Denoiser(self._restorer, config.denoise, config.batch_size)
        self._noise = None if config.noise is None else synthetic.make(config.noise.kind, config.noise.params)
        self._config = config
        self._constant: Row = {
            schema.SCHEMA: schema.SCHEMA_VERSION,
            schema.NOISE_KIND: config.noise.kind if config.noise else None,
            schema.NOISE_PARAMS: self._noise.params() if self._noise else "{}",
            schema.SEED: config.seed,
            schema.STEPS: 1 if config.denoise.mode == "mmse" else config.denoise.steps,
            schema.MODE: config.denoise.mode,
            schema.MODEL: config.fingerprint,
        }

    def __call__(self, block: Block) -> Block:
        """A block of decoded images (blocks.DECODED_SCHEMA) → its rows (blocks.DENOISED_SCHEMA)."""
        rows: list[Row] = []
        carried = 0  # bytes of pictures in `rows`
        for row, denoised in self._finished(block):
            if denoised is not None and self._config.images is not None:
                if carried > blocks.PIXEL_BYTES:
                    with block.timed("encode"):
                        outputs.encode_early(denoised, row, self._config.images)
                else:
                    row |= blocks.picture_columns(denoised, "picture_")
                    carried += denoised.nbytes
            rows.append(row)
        now = datetime.now(UTC)
        for row in rows:
            row |= self._constant | {schema.FINISHED_AT: now}
        return replace(block, images=pa.Table.from_pylist(rows, schema=blocks.DENOISED_SCHEMA))

    def _finished(self, block: Block) -> Iterator[tuple[Row, Picture | None]]:
        """The block's rows, each with its denoised image; error rows have none."""
        group: list[NoisySample] = []
        for found in self._samples(block):
            if isinstance(found, ErrorRow):
                yield found.row, None
                continue
            if group and sum(sample.size for sample in group) + found.size > GROUP_PIXELS:
                yield from self._finish(block, group)
                group = []
            group.append(found)
        if group:
            yield from self._finish(block, group)

    def _samples(self, block: Block) -> Iterator[NoisySample | ErrorRow]:
        """The block's (image, level) pairs; error rows for images that could not be read or decoded."""
        config, table = self._config, block.images
        scored = self._noise is not None
        for index, image in enumerate(table.select(_ABOUT_IMAGE).to_pylist()):
            levels = list(zip(image[blocks.SIGMAS], image[blocks.ATTEMPTS], strict=True))
            try:
                if image[schema.REASON] is not None:
                    raise ImageError(image[schema.REASON])
                source = blocks.picture_at(table, index)
                if source is None:  # beyond what the decoding stage may hold
                    with block.timed("decode"):
                        data = table[blocks.DATA][index].as_buffer()
                        source = picture.decode(data, config.max_pixels, keep=not scored)
            except ImageError as error:
                failure = _failure(image[schema.STAGE] or "decode", error)
                for level, attempt in levels:
                    yield ErrorRow(_row(image, level, attempt) | failure)
                continue
            reference = Reference(source.pixels) if scored else None
            for level, attempt in levels:
                yield NoisySample(image, source, reference, level, attempt)

    def _finish(self, block: Block, group: list[NoisySample]) -> list[tuple[Row, Picture | None]]:
        """The rows of a group: ok, or an error for each sample that cannot be denoised on its own either."""
        stage = "noise"
        try:
            started = time.perf_counter()
            with block.timed(stage):
                for sample in group:
                    self.add_noise(sample)
            stage = "denoise"
            with block.timed(stage):
                denoised = self.denoise(group)
            stage = "score"
            with block.timed(stage):
                rows = [self.score(sample, image) for sample, image in zip(group, denoised, strict=True)]
        # UserError: the level that was found in an image is beyond the model's.
        except (MemoryError, FloatingPointError, UserError) as error:
            failure = _failure(stage, error)
        else:
            elapsed = time.perf_counter() - started
            total = sum(sample.size for sample in group)
            for row, sample in zip(rows, group, strict=True):
                row[schema.SECONDS] = elapsed * sample.size / total
            pictures = [replace(s.picture, pixels=image) for s, image in zip(group, denoised, strict=True)]
            return list(zip(rows, pictures, strict=True))
        # Outside of `except`, whose traceback would keep the failed attempt's arrays alive.
        if len(group) > 1:
            return [row for sample in group for row in self._finish(block, [sample])]
        return [(group[0].row() | failure, None)]

    def add_noise(self, sample: NoisySample) -> None:
        """Sets `noisy` and `sigma`: synthetic noise; in restoration mode the image itself and its (estimated) level."""
        source = sample.picture.pixels
        if self._noise is not None:
            assert sample.level is not None
            sample.sigma = sample.level
            sample.noisy = self._noise.add(source, sample.image[schema.IMAGE_ID], sample.sigma, self._config.seed)
        else:
            scale = np.float32(pixels.WHITE[source.dtype] / 255)
            sample.noisy = (source / scale).astype(np.float32, copy=False)
            sample.sigma = estimate_sigma(sample.noisy) if sample.level is None else sample.level

    def denoise(self, samples: Sequence[NoisySample]) -> list[np.ndarray]:
        """Estimates of the clean images, of the pictures' type and channels; the noise's known mean is taken off first.

        Raises FloatingPointError for an estimate that is not finite, MemoryError for one that does not fit.
        """
        offset = self._noise.offset if self._noise else 0.0
        # The network sees a grey image three times over.
        noisy = [pixels.to_tensor(s.noisy - np.float32(offset)).expand(3, -1, -1) for s in samples]
        estimates = self._denoiser(noisy, [sample.sigma for sample in samples])
        if not all(bool(estimate.isfinite().all()) for estimate in estimates):
            raise FloatingPointError("the model's estimate is not finite")
        sources = [sample.picture.pixels for sample in samples]
        return [
            pixels.to_pixels(estimate[: source.shape[2]], source.dtype)
            for estimate, source in zip(estimates, sources, strict=True)
        ]

    def score(self, sample: NoisySample, denoised: np.ndarray) -> Row:
        """The sample's ok row, but for its time and output. Without synthetic noise nothing to score against."""
        row = sample.row() | {schema.STATUS: schema.OK, schema.TIMESTEP: self._restorer.timestep(sample.sigma)}
        if sample.reference is None:
            row[schema.SIGMA_ESTIMATED] = sample.sigma if sample.level is None else None
            return row
        for name, metric in METRICS.items():
            row[schema.noisy(name)] = metric.measure(sample.reference, sample.noisy)
            row[name] = metric.measure(sample.reference, denoised)
        return row


# What a row of a block holds beside pictures and their bytes.
_ABOUT_IMAGE = [*blocks.WORK_SCHEMA.names, schema.STAGE, schema.REASON]


def _row(image: dict[str, Any], level: float | None, attempt: int) -> Row:
    return {
        schema.IMAGE_ID: image[schema.IMAGE_ID],
        schema.URI: reading.origin(image),
        schema.SIGMA: level,
        schema.ATTEMPT: attempt,
    }


def _failure(stage: str, error: Exception) -> Row:
    return {schema.STATUS: schema.ERROR, schema.STAGE: stage, schema.REASON: str(error)}
