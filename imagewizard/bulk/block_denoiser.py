"""What an actor does with a block: noise → denoise → score, image by image, and a result row for each.

One bad image costs a row, never the block. The three steps are methods of their own; they share a process so that
pixels need not leave it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
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
from imagewizard.config.denoise import ActorConfig, DenoiseSection
from imagewizard.config.noise import MOST_SIGMA
from imagewizard.diffusion import pixels, two_scales
from imagewizard.diffusion.denoiser import Denoiser, default_device
from imagewizard.errors import UserError
from imagewizard.images import picture
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import Picture
from imagewizard.metrics import METRICS, Reference
from imagewizard.models import files as model_files
from imagewizard.models import restorers
from imagewizard.noise import synthetic
from imagewizard.noise.level import Found, find
from imagewizard.noise.synthetic import Noise
from imagewizard.sources import reading

# Images are denoised in groups, so that equal shapes meet in a batch; a group holds no more pixels than this, which
# bounds its float copies to about half a gigabyte.
GROUP_PIXELS = 16_000_000

Row = dict[str, Any]
"""A result row, or what of it is known."""


@dataclass
class NoisySample:
    """One row of an image on its way through the steps."""

    image: dict[str, Any]
    picture: Picture
    """The image as it was decoded: clean, or in restoration mode the noisy one."""
    reference: Reference | None
    """The clean image with what scoring against it needs, shared by the image's rows; None in restoration mode."""
    noise: Noise | None
    """What is added; None in restoration mode."""
    level: float | None
    """The level that is added or given; None: to be found."""
    attempt: int
    sigma: float = 0.0
    """The level that the model is told: `denoise.strength` times the one that is known or found."""
    found: Found | None = None
    """What was found of the noise; None where nobody looked, because the level is known."""
    noisy: np.ndarray = field(default_factory=lambda: np.empty(0))
    """float32, (H, W, 1 or 3), 0-255 scale, unclipped."""

    @property
    def size(self) -> int:
        """In pixels."""
        return self.picture.pixels.shape[0] * self.picture.pixels.shape[1]

    def row(self) -> Row:
        """What its result row says of the image."""
        height, width = self.picture.pixels.shape[:2]
        notes = blocks.joined_notes(
            *self.picture.notes, *([NO_LEVEL] if self.found and self.found.level is None else [])
        )
        known = {schema.WIDTH: width, schema.HEIGHT: height, schema.NOTES: notes}
        return _row(self.image, self.noise, self.level, self.attempt) | known

    def findings(self) -> Row:
        """What its ok row says of the noise that was found; nothing where none was looked for or no level was found."""
        if self.found is None or self.found.level is None:
            return {}
        return {
            schema.SIGMA_ESTIMATED: self.sigma,
            schema.NOISE_STD: self.found.std,
            schema.NOISE_FOUND: self.found.kind,
            schema.NOISE_GAIN: self.found.gain,
        }


@dataclass(frozen=True)
class ErrorRow:
    """A row of an image that came to nothing."""

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
        self._noises = [] if config.noise is None else synthetic.make(config.noise.kind, config.noise.settings)
        self._device = default_device()
        self._config = config
        self._constant: Row = {
            schema.SCHEMA: schema.SCHEMA_VERSION,
            schema.SEED: config.seed,
            schema.STEPS: 1 if config.denoise.mode == "mmse" else config.denoise.steps,
            schema.MODE: config.denoise.mode,
            schema.STRENGTH: config.denoise.strength,
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
        """What the block's rows are to be made of; error rows for images that cannot be read, decoded or restored."""
        config, table = self._config, block.images
        scored = bool(self._noises)
        for index, image in enumerate(table.select(_ABOUT_IMAGE).to_pylist()):
            given = given_level(image[schema.LEVEL_FIELD.name], config.denoise)
            level = None if isinstance(given, ImageError) else given
            tries = list(zip(image[blocks.SETTINGS], image[blocks.ATTEMPTS], strict=True))
            rows = [(self._noises[i], self._noises[i].sigma, n) if scored else (None, level, n) for i, n in tries]
            stage = image[schema.STAGE] or "decode"
            try:
                if image[schema.REASON] is not None:
                    raise ImageError(image[schema.REASON])
                source = blocks.picture_at(table, index)
                if source is None:  # beyond what the decoding stage may hold
                    with block.timed("decode"):
                        data = table[blocks.DATA][index].as_buffer()
                        source = picture.decode(data, config.max_pixels, keep=not scored)
                if isinstance(given, ImageError):
                    stage = "noise"
                    raise given
            except ImageError as error:
                failure = _failure(stage, error)
                for row in rows:
                    yield ErrorRow(_row(image, *row) | failure)
                continue
            reference = Reference(source.pixels) if scored else None
            for row in rows:
                yield NoisySample(image, source, reference, *row)

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
        """Sets `noisy`, the image with its noise or in restoration mode itself; and `sigma`, with what was `found`."""
        source, level = sample.picture.pixels, sample.level
        if sample.noise is not None:
            sample.noisy = sample.noise.add(source, sample.image[schema.IMAGE_ID], self._config.seed)
        else:
            scale = np.float32(pixels.WHITE[source.dtype] / 255)
            sample.noisy = (source / scale).astype(np.float32, copy=False)
        if level is None:
            sample.found = find(sample.noisy, sample.picture.alpha, self._device)
            level = sample.found.level or 0.0
        sample.sigma = level * self._config.denoise.strength

    def denoise(self, samples: Sequence[NoisySample]) -> list[np.ndarray]:
        """Estimates of the clean images, of the pictures' type and channels; the noise's known mean is taken off first.

        Raises FloatingPointError for an estimate that is not finite, MemoryError for one that does not fit.
        """
        offsets = [np.float32(s.noise.offset if s.noise else 0.0) for s in samples]
        # The network sees a grey image three times over.
        noisy = [pixels.to_tensor(s.noisy - o).expand(3, -1, -1) for s, o in zip(samples, offsets, strict=True)]
        smeared = [sample.found is not None and sample.found.is_smeared for sample in samples]
        estimates = two_scales.denoise(self._denoiser, noisy, [sample.sigma for sample in samples], smeared)
        if not all(bool(estimate.isfinite().all()) for estimate in estimates):
            raise FloatingPointError("the model's estimate is not finite")
        sources = [sample.picture.pixels for sample in samples]
        return [
            pixels.to_pixels(estimate[: source.shape[2]], source.dtype)
            for estimate, source in zip(estimates, sources, strict=True)
        ]

    def score(self, sample: NoisySample, denoised: np.ndarray) -> Row:
        """The sample's ok row, but for its time and output. Without synthetic noise nothing to score against."""
        row = sample.row() | sample.findings()
        row |= {schema.STATUS: schema.OK, schema.TIMESTEP: self._restorer.timestep(sample.sigma)}
        if sample.reference is None:
            return row
        for name, metric in METRICS.items():
            row[schema.noisy(name)] = metric.measure(sample.reference, sample.noisy)
            row[name] = metric.measure(sample.reference, denoised)
        return row


# What a row of a block holds beside pictures and their bytes.
_ABOUT_IMAGE = [*blocks.WORK_SCHEMA.names, schema.STAGE, schema.REASON]

NO_LEVEL = "no noise level could be found, because too little of the image varies: it is as it was"


def given_level(value: str | None, section: DenoiseSection) -> float | ImageError | None:
    """The level that an image to be restored was given; None: it is to be found.

    `value`: what the image has in the column that `denoise.sigma` names; an ImageError if that is no level.
    """
    if section.level_column is None:
        return None if section.sigma == "auto" else float(section.sigma)
    with suppress(ValueError):
        if value is not None and 0 <= float(value) <= MOST_SIGMA:
            return float(value)
    held = "is null" if value is None else f"holds {value!r}"
    return ImageError(f"column {section.level_column} {held}, which is no noise level from 0 to {MOST_SIGMA}")


def _row(image: dict[str, Any], noise: Noise | None, level: float | None, attempt: int) -> Row:
    return {
        schema.IMAGE_ID: image[schema.IMAGE_ID],
        schema.URI: reading.origin(image),
        schema.NOISE_KIND: noise and noise.kind,
        schema.NOISE_PARAMS: noise.params() if noise else "{}",
        schema.SIGMA: level,
        schema.ATTEMPT: attempt,
    }


def _failure(stage: str, error: Exception) -> Row:
    return {schema.STATUS: schema.ERROR, schema.STAGE: stage, schema.REASON: str(error)}
