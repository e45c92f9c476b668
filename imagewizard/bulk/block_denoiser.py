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

import torch
from torch import Tensor

from imagewizard import schema
from imagewizard.bulk import block as blocks
from imagewizard.bulk import groups, outputs, overlap, samples
from imagewizard.bulk.block import Block
from imagewizard.bulk.group_steps import GroupSteps
from imagewizard.bulk.groups import Group
from imagewizard.bulk.memory import Memory, machine_bytes
from imagewizard.bulk.samples import NoisySample, Row
from imagewizard.bulk.turns import Turns
from imagewizard.config.denoise import ActorConfig
from imagewizard.diffusion import two_scales
from imagewizard.diffusion.denoiser import Denoiser, default_device
from imagewizard.errors import UserError
from imagewizard.images import picture
from imagewizard.images.errors import ImageError, TooLargeError
from imagewizard.images.picture import Picture
from imagewizard.models import files as model_files
from imagewizard.models import restorers
from imagewizard.noise import synthetic
from imagewizard.noise.level import find
from imagewizard.noise.synthetic import Noise

# Of the images on which the best size of a batch is measured.
USUAL_SIDE = 256
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
        self._at_once: Callable[[int, int], int] = lambda height, width: config.batch_size or 1
        if isinstance(self._denoiser, Denoiser):
            self._at_once = self._denoiser.images_at_once
            self._at_once(USUAL_SIDE, USUAL_SIDE)  # which measures, now that nothing else uses the device
        self._noises = [] if config.noise is None else synthetic.make(config.noise.kind, config.noise.settings)
        self._device = default_device()
        self._group_steps = _steps_of(self._device, config.seed)
        self._turns = Turns()
        self._memory = Memory(machine_bytes())
        # One thread of torch in each: the device, where it is the CPU, has its own.
        self._pool = ThreadPoolExecutor(config.threads, "stage", initializer=partial(torch.set_num_threads, 1))
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
        """A block after reading → its rows, which have their images' files if these are to be written."""
        number, rows, large = self._turns.number(), list[Row](), list[Group]()
        for group in self._overlapped(block, number):
            if group.large is not None:
                large.append(group)
            rows += self._rows(block, number, group)
        for group in large:
            rows += self._large_rows(block, number, group)
        places = {image[schema.IMAGE_ID]: place for place, image in enumerate(block.images)}
        rows.sort(key=lambda row: places[row[schema.IMAGE_ID]])
        constant = self._constant | {schema.FINISHED_AT: datetime.now(UTC)}
        return replace(block, images=[row | constant for row in rows])

    def _overlapped(self, block: Block, number: int) -> Iterator[Group]:
        """The block's groups after all steps, of which the device takes one at a time and threads the others."""
        count, size = len(block.images), groups.IMAGES
        parts = [range(start, min(start + size, count)) for start in range(0, count, size)]
        decode = partial(self._samples, block, max_pixels=min(blocks.LARGE_PIXELS, self._config.max_pixels))
        found = overlap.ahead(self._pool, decode, parts, GROUPS_AHEAD)
        formed = groups.formed(chain.from_iterable(found), self._at_once)
        prepared = overlap.ahead(self._pool, partial(self._prepare, block), formed, GROUPS_AHEAD)
        denoised = map(partial(self._denoise, block, number), prepared)
        return overlap.ahead(self._pool, partial(self._finish, block), denoised, GROUPS_AHEAD)

    def _samples(self, block: Block, part: Sequence[int], max_pixels: int) -> list[NoisySample | Group]:
        """What the rows of some images are to be made of.

        Groups for images that cannot be read, decoded or restored, and for those of over `max_pixels`, if the job's
        limit allows them.
        """
        found: list[NoisySample | Group] = []
        for index in part:
            image = block.images[index]
            given = self._given_level(image)
            stage = image[schema.STAGE] or "decode"
            try:
                source = self._picture(block, image, max_pixels)
                if isinstance(given, ImageError):
                    stage = "noise"
                    raise given
            except ImageError as error:
                if isinstance(error, TooLargeError) and error.pixels <= self._config.max_pixels:
                    found.append(Group([], large=index, pixels=error.pixels))
                else:
                    found.append(Group([], self._failures(image, stage, error)))
                continue
            found += [NoisySample(image, source, *each) for each in self._tries(image)]
        return found

    def _given_level(self, image: dict[str, Any]) -> float | ImageError | None:
        return samples.given_level(image[schema.LEVEL_FIELD.name], self._config.denoise)

    def _tries(self, image: dict[str, Any]) -> list[tuple[Noise | None, float | None, int]]:
        """For each row that is to be made of an image: the noise, the level as far as it is known, and the attempt."""
        tries = zip(image[blocks.SETTINGS], image[blocks.ATTEMPTS], strict=True)
        if not self._noises:
            given = self._given_level(image)
            return [(None, None if isinstance(given, ImageError) else given, attempt) for _, attempt in tries]
        return [(self._noises[i], self._noises[i].sigma, attempt) for i, attempt in tries]

    def _failures(self, image: dict[str, Any], stage: str, error: Exception) -> list[Row]:
        """The rows of an image that came to nothing."""
        return [samples.about(image, *each) | samples.failure(stage, error) for each in self._tries(image)]

    def _large_rows(self, block: Block, number: int, group: Group) -> list[Row]:
        """The rows of an image that goes through the steps alone, as soon as the machine has room for it."""
        assert group.large is not None, "an image that is too large for others"
        rows: list[Row] = []
        try:
            with self._memory.room(group.pixels):
                found = self._samples(block, [group.large], self._config.max_pixels)
                while found:  # not a loop over it, which would keep each sample's arrays
                    each = found.pop(0)
                    done = each if isinstance(each, Group) else self._steps(block, number, Group([each]))
                    rows += self._rows(block, number, done)
        except ImageError as error:
            return self._failures(block.images[group.large], "decode", error)
        return rows

    def _picture(self, block: Block, image: dict[str, Any], max_pixels: int) -> Picture:
        """The picture of an image. Raises ImageError, also for the reason that it came without."""
        if image[schema.REASON] is not None:
            raise ImageError(image[schema.REASON])
        found: Picture | None = image[blocks.PICTURE]
        if found is None:  # beyond what the decoding stage may hold
            with block.times.timed("decode"):
                found = picture.decode(image[blocks.DATA], max_pixels, keep=not self._noises)
        return found

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
                self._group_steps.prepare(group, block.times)
                self.find_levels(group)
        return group

    def _denoise(self, block: Block, number: int, group: Group) -> Group:
        if group.samples and group.failure is None:
            with self._turns.turn(number), self._step(block, group, "denoise"):
                group.estimates = self.denoise(group)
        return group

    def _finish(self, block: Block, group: Group) -> Group:
        if not group.samples or group.failure is not None:
            return group
        rows = [self.row(sample) for sample in group.samples]
        with self._step(block, group, "denoise"):
            self._group_steps.set_pixels(group)
        if group.failure is None and self._noises:
            with self._step(block, group, "score"):
                self.score(group, rows)
        if group.failure is not None:
            return group
        if self._config.images is not None:
            with block.times.timed("encode"):
                for row, sample, image in zip(rows, group.samples, self._group_steps.images(group), strict=True):
                    outputs.encode(replace(sample.picture, pixels=image), row, self._config.images)
        total = sum(sample.size for sample in group.samples)
        for row, sample in zip(rows, group.samples, strict=True):
            row[schema.SECONDS] = group.seconds * sample.size / total
        return Group(group.samples, rows)  # without the tensors

    def find_levels(self, group: Group) -> None:
        """Sets each sample's `sigma`, and `found` where its level is not known."""
        noisy = self._group_steps.noisy(group) if any(sample.level is None for sample in group.samples) else []
        for index, sample in enumerate(group.samples):
            level = sample.level
            if level is None:
                sample.found = find(noisy[index], sample.picture.alpha, self._device)
                level = sample.found.level or 0.0
            sample.sigma = level * self._config.denoise.strength

    def denoise(self, group: Group) -> list[Tensor]:
        """Estimates of the clean images, as the Denoiser returns them. Raises MemoryError for one that does not fit."""
        torch.set_num_threads(self._config.threads)  # each thread has a setting of its own
        self._group_steps.begin(group)
        smeared = [sample.found is not None and sample.found.is_smeared for sample in group.samples]
        # The network sees a grey image three times over.
        inputs = [each.expand(3, -1, -1) for each in group.inputs]
        found = two_scales.denoise(self._denoiser, inputs, [sample.sigma for sample in group.samples], smeared)
        self._group_steps.end(group)
        return found

    def row(self, sample: NoisySample) -> Row:
        """The sample's ok row, but for its scores, time and output."""
        known = {schema.STATUS: schema.OK, schema.TIMESTEP: self._restorer.timestep(sample.sigma)}
        return sample.row() | sample.findings() | known

    def score(self, group: Group, rows: list[Row]) -> None:
        """Sets the scores of the rows."""
        for row, scores in zip(rows, self._group_steps.scores(group), strict=True):
            row |= schema.score_columns(*scores)


def _steps_of(device: torch.device, seed: int) -> GroupSteps:
    if device.type == "cpu":
        from imagewizard.bulk.cpu_steps import CpuSteps  # numba, of which a GPU has no need

        return CpuSteps(seed)
    from imagewizard.bulk.gpu_steps import GpuSteps

    return GpuSteps(device, seed)
