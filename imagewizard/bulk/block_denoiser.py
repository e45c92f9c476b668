"""What an actor does with its blocks: noise → denoise → score → encode, and a result row for each image.

The device denoises one group of images after the other. Meanwhile threads give the next ones their noise, and score and
encode the last ones; so do blocks that are in the actor at the same time. One bad image costs a row, never the block.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from imagewizard import schema
from imagewizard.bulk import block as blocks
from imagewizard.bulk import groups, outputs, overlap, samples
from imagewizard.bulk.block import Block
from imagewizard.bulk.groups import Group
from imagewizard.bulk.memory import Memory, machine_bytes
from imagewizard.bulk.samples import NoisySample, Row
from imagewizard.bulk.turns import Turns
from imagewizard.config.denoise import ActorConfig
from imagewizard.diffusion import pixels, two_scales
from imagewizard.diffusion.denoiser import Denoiser, default_device
from imagewizard.errors import UserError
from imagewizard.images import picture
from imagewizard.images.errors import ImageError, TooLargeError
from imagewizard.images.picture import Picture
from imagewizard.metrics import METRICS, Reference
from imagewizard.models import files as model_files
from imagewizard.models import restorers
from imagewizard.noise import synthetic
from imagewizard.noise.level import find
from imagewizard.noise.synthetic import Noise

# Groups of one block that are begun before the device wants them, and that are scored after it had them.
GROUPS_AHEAD = 2


Denoise = Callable[[Sequence[torch.Tensor], Sequence[float]], list[torch.Tensor]]
"""Noisy float32 (3, H, W) in [-1, 1] and their sigmas → estimates."""


class BlockDenoiser:
    """Holds a loaded model on one device; call it with blocks of decoded images, get blocks of result rows.

    Thread-safe: several blocks share the device, and the first to come has it first.
    """

    def __init__(self, config: ActorConfig, denoiser: Denoise | None = None) -> None:
        """`denoiser`: what stands in for the model's Denoiser, where all the rest is to be measured."""
        files = model_files.find(config.model)
        if files.fingerprint != config.fingerprint:
            raise RuntimeError(f"model {config.model} is not the same on this node as where the job was started")
        self._restorer = restorers.load(files, config.denoise)
        self._denoiser = denoiser or Denoiser(self._restorer, config.denoise, config.batch_size)
        self._noises = [] if config.noise is None else synthetic.make(config.noise.kind, config.noise.settings)
        self._device = default_device()
        self._turns = Turns()
        self._memory = Memory(machine_bytes())
        # One thread of torch in each: the device, where it is the CPU, has its own.
        self._pool = ThreadPoolExecutor(config.threads, "stage", initializer=partial(torch.set_num_threads, 1))
        self._config = config
        self._group_images = max(groups.IMAGES, config.batch_size)
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
        images = block.images.select(_ABOUT_IMAGE).to_pylist()
        number, rows, large = self._turns.number(), list[Row](), list[Group]()
        for group in self._overlapped(block, images, number):
            if group.large is not None:
                large.append(group)
            rows += self._rows(block, number, group)
        for group in large:
            rows += self._large_rows(block, images, number, group)
        places = {image[schema.IMAGE_ID]: place for place, image in enumerate(images)}
        rows.sort(key=lambda row: places[row[schema.IMAGE_ID]])
        constant = self._constant | {schema.FINISHED_AT: datetime.now(UTC)}
        table = pa.Table.from_pylist([row | constant for row in rows], schema=blocks.DENOISED_SCHEMA)
        return replace(block, images=table)

    def _overlapped(self, block: Block, images: list[dict[str, Any]], number: int) -> Iterator[Group]:
        """The block's groups after all steps, of which the device takes one at a time and threads the others."""
        starts = range(0, len(images), self._group_images)
        parts = [range(start, min(start + self._group_images, len(images))) for start in starts]
        decode = partial(self._samples, block, images, max_pixels=min(blocks.LARGE_PIXELS, self._config.max_pixels))
        found = overlap.ahead(self._pool, decode, parts, GROUPS_AHEAD)
        formed = groups.formed(chain.from_iterable(found), self._group_images)
        prepared = overlap.ahead(self._pool, partial(self._prepare, block), formed, GROUPS_AHEAD)
        denoised = map(partial(self._denoise, block, number), prepared)
        return overlap.ahead(self._pool, partial(self._finish, block), denoised, GROUPS_AHEAD)

    def _samples(
        self, block: Block, images: list[dict[str, Any]], part: Sequence[int], max_pixels: int
    ) -> list[NoisySample | Group]:
        """What the rows of some images are to be made of.

        Groups for images that cannot be read, decoded or restored, and for those of over `max_pixels`, if the job's
        limit allows them.
        """
        found: list[NoisySample | Group] = []
        for index in part:
            image = images[index]
            given = samples.given_level(image[schema.LEVEL_FIELD.name], self._config.denoise)
            level = None if isinstance(given, ImageError) else given
            stage = image[schema.STAGE] or "decode"
            try:
                source = self._picture(block, index, image[schema.REASON], max_pixels)
                if isinstance(given, ImageError):
                    stage = "noise"
                    raise given
            except ImageError as error:
                if isinstance(error, TooLargeError) and error.pixels <= self._config.max_pixels:
                    found.append(Group([], large=index, pixels=error.pixels))
                else:
                    found.append(Group([], self._failures(image, stage, error)))
                continue
            reference = Reference(source.pixels) if self._noises else None
            found += [NoisySample(image, source, reference, *each) for each in self._tries(image, level)]
        return found

    def _tries(self, image: dict[str, Any], level: float | None) -> list[tuple[Noise | None, float | None, int]]:
        """For each row that is to be made of an image: the noise, the level as far as it is known, and the attempt."""
        tries = zip(image[blocks.SETTINGS], image[blocks.ATTEMPTS], strict=True)
        if not self._noises:
            return [(None, level, attempt) for _, attempt in tries]
        return [(self._noises[i], self._noises[i].sigma, attempt) for i, attempt in tries]

    def _failures(self, image: dict[str, Any], stage: str, error: Exception) -> list[Row]:
        """The rows of an image that came to nothing."""
        given = samples.given_level(image[schema.LEVEL_FIELD.name], self._config.denoise)
        level = None if isinstance(given, ImageError) else given
        return [samples.about(image, *each) | samples.failure(stage, error) for each in self._tries(image, level)]

    def _large_rows(self, block: Block, images: list[dict[str, Any]], number: int, group: Group) -> list[Row]:
        """The rows of an image that goes through the steps alone, as soon as the machine has room for it."""
        assert group.large is not None, "an image that is too large for others"
        rows: list[Row] = []
        try:
            with self._memory.room(group.pixels):
                found = self._samples(block, images, [group.large], self._config.max_pixels)
                while found:  # not a loop over it, which would keep each sample's arrays
                    each = found.pop(0)
                    done = each if isinstance(each, Group) else self._steps(block, number, Group([each]))
                    rows += self._rows(block, number, done)
        except ImageError as error:
            return self._failures(images[group.large], "decode", error)
        return rows

    def _picture(self, block: Block, index: int, reason: str | None, max_pixels: int) -> Picture:
        """An image of the block. Raises ImageError, also for the `reason` that it came without."""
        if reason is not None:
            raise ImageError(reason)
        source = blocks.picture_at(block.images, index)
        if source is None:  # beyond what the decoding stage may hold
            with block.times.timed("decode"):
                data = block.images[blocks.DATA][index].as_buffer()
                source = picture.decode(data, max_pixels, keep=not self._noises)
        return source

    def _steps(self, block: Block, number: int, group: Group) -> Group:
        """The group after all steps, one after the other."""
        return self._finish(block, self._denoise(block, number, self._prepare(block, group)))

    def _rows(self, block: Block, number: int, group: Group) -> list[Row]:
        """The rows of a group: ok, or an error for each sample that does not come through the steps alone either."""
        if group.failure is None:
            return group.rows
        if len(group.samples) == 1:
            return [group.samples[0].row() | group.failure]
        singles = (self._steps(block, number, Group([sample])) for sample in group.samples)
        return [row for single in singles for row in self._rows(block, number, single)]

    @contextmanager
    def _step(self, block: Block, group: Group, stage: str) -> Iterator[None]:
        """A step of a group: takes its time, and notes what it fails for."""
        started = perf_counter()
        try:
            with block.times.timed(stage):
                yield
        # UserError: the level that was found in an image is beyond the model's.
        except (MemoryError, FloatingPointError, UserError) as error:
            group.failure = samples.failure(stage, error)
        group.seconds += perf_counter() - started

    def _prepare(self, block: Block, group: Group) -> Group:
        if group.samples:
            with self._step(block, group, "noise"):
                for sample in group.samples:
                    self.add_noise(sample)
        return group

    def _denoise(self, block: Block, number: int, group: Group) -> Group:
        if group.samples and group.failure is None:
            with self._turns.turn(number), self._step(block, group, "denoise"):
                group.estimates = self.denoise(group.samples)
        return group

    def _finish(self, block: Block, group: Group) -> Group:
        if not group.samples or group.failure is not None:
            return group
        denoised: list[np.ndarray] = []
        with self._step(block, group, "denoise"):
            denoised = [self.pixels(*each) for each in zip(group.samples, group.estimates, strict=True)]
        group.estimates = []
        if group.failure is None:
            with self._step(block, group, "score"):
                group.rows = [self.score(*each) for each in zip(group.samples, denoised, strict=True)]
        if group.failure is not None:
            return group
        if self._config.images is not None:
            with block.times.timed("encode"):
                for row, sample, image in zip(group.rows, group.samples, denoised, strict=True):
                    outputs.encode(replace(sample.picture, pixels=image), row, self._config.images)
        total = sum(sample.size for sample in group.samples)
        for row, sample in zip(group.rows, group.samples, strict=True):
            row[schema.SECONDS] = group.seconds * sample.size / total
        return group

    def add_noise(self, sample: NoisySample) -> None:
        """Sets `noisy`, the image with its noise or in restoration mode itself; `sigma`, `found` and `inputs`."""
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
        offset = np.float32(sample.noise.offset if sample.noise else 0.0)
        # The network sees a grey image three times over.
        sample.inputs = pixels.to_tensor(sample.noisy - offset if offset else sample.noisy).expand(3, -1, -1)

    def denoise(self, group: Sequence[NoisySample]) -> list[Tensor]:
        """Estimates of the clean images, as the Denoiser returns them; the noise's known mean is taken off first.

        Raises MemoryError for one that does not fit.
        """
        torch.set_num_threads(self._config.threads)  # each thread has a setting of its own
        smeared = [sample.found is not None and sample.found.is_smeared for sample in group]
        inputs, sigmas = [sample.inputs for sample in group], [sample.sigma for sample in group]
        return two_scales.denoise(self._denoiser, inputs, sigmas, smeared)

    def pixels(self, sample: NoisySample, estimate: Tensor) -> np.ndarray:
        """An estimate of the picture's type and channels. Raises FloatingPointError if it is not finite."""
        if not bool(estimate.isfinite().all()):
            raise FloatingPointError("the model's estimate is not finite")
        source = sample.picture.pixels
        return pixels.to_pixels(estimate[: source.shape[2]], source.dtype)

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
