"""What an actor does with a block: noise → denoise → score, image by image, and a result row for each.

One bad image costs a row, never the block. The three steps are methods of their own; they share a process so that
pixels need not leave it.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from imagewizard.bulk import block as blocks
from imagewizard.bulk import outputs
from imagewizard.bulk.block import Block
from imagewizard.config.denoise import ActorConfig
from imagewizard.diffusion import pixels
from imagewizard.diffusion.denoiser import Denoiser
from imagewizard.images import picture
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import Picture
from imagewizard.metrics import Reference
from imagewizard.models import files as model_files
from imagewizard.models import network
from imagewizard.noise.level import estimate_sigma
from imagewizard.noise.synthetic import add_gaussian
from imagewizard.schema import ERROR, OK, SCHEMA_VERSION
from imagewizard.sources import reading

# Images are denoised in groups, so that equal shapes meet in a batch; a group holds no more pixels than this, which
# bounds its float copies to about half a gigabyte.
GROUP_PIXELS = 16_000_000


@dataclass
class Sample:
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
    """float32, (H, W, 3), 0-255 scale, unclipped."""

    @property
    def size(self) -> int:
        """In pixels."""
        return self.picture.pixels.shape[0] * self.picture.pixels.shape[1]


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
        unet, self._schedule = network.load(files)
        self._denoiser = denoiser or Denoiser(unet, self._schedule, config.denoise, config.batch_size)
        self._config = config
        self._carried = 0
        params = {} if config.noise is None else {"mean": config.noise.mean}
        self._constant = {
            "schema_version": SCHEMA_VERSION,
            "noise_kind": config.noise.kind if config.noise else None,
            "noise_params": json.dumps(params, sort_keys=True),
            "seed": config.seed,
            "steps": 1 if config.denoise.mode == "mmse" else config.denoise.steps,
            "mode": config.denoise.mode,
            "model": config.fingerprint,
        }

    def __call__(self, block: Block) -> Block:
        """A block of decoded images (blocks.DECODED_SCHEMA) → its rows (blocks.DENOISED_SCHEMA)."""
        rows: list[dict[str, Any]] = []
        group: list[Sample] = []
        self._carried = 0
        for sample in self._samples(block, rows):
            if group and sum(s.size for s in group) + sample.size > GROUP_PIXELS:
                rows += self._finish(block, group)
                group = []
            group.append(sample)
        rows += self._finish(block, group)
        now = datetime.now(UTC)
        for result in rows:
            result |= self._constant | {"finished_at": now}
        return replace(block, images=pa.Table.from_pylist(rows, schema=blocks.DENOISED_SCHEMA))

    def _samples(self, block: Block, rows: list[dict[str, Any]]) -> Iterator[Sample]:
        """The block's (image, level) pairs; images that could not be read or decoded become error `rows` instead."""
        config, table = self._config, block.images
        scored = config.noise is not None
        for index, image in enumerate(table.select(_ABOUT_IMAGE).to_pylist()):
            try:
                if image["error"] is not None:
                    raise ImageError(image["error"])
                source = blocks.picture_at(table, index)
                if source is None:  # beyond what the decoding stage may hold
                    with block.timed("decode"):
                        source = picture.decode(table["data"][index].as_buffer(), config.max_pixels, keep=not scored)
            except ImageError as error:
                failure = _failure(image["stage"] or "decode", str(error))
                rows += [
                    _result(image, level, attempt, None) | failure
                    for level, attempt in zip(image["sigmas"], image["attempts"], strict=True)
                ]
                continue
            reference = Reference(source.pixels) if scored else None
            for level, attempt in zip(image["sigmas"], image["attempts"], strict=True):
                yield Sample(image, source, reference, level, attempt)

    def _finish(self, block: Block, group: list[Sample]) -> list[dict[str, Any]]:
        """The rows of a group: ok, or an error for each sample that cannot be denoised on its own either."""
        try:
            started = time.perf_counter()
            with block.timed("noise"):
                for sample in group:
                    self.add_noise(sample)
            with block.timed("denoise"):
                denoised = self.denoise(group)
            with block.timed("score"):
                rows = [self.score(sample, image) for sample, image in zip(group, denoised, strict=True)]
            total = sum(sample.size for sample in group)
            elapsed = time.perf_counter() - started
            for row, sample, image in zip(rows, group, denoised, strict=True):
                row["seconds"] = elapsed * sample.size / total
                self._attach(block, row, replace(sample.picture, pixels=image))
            return rows
        except (MemoryError, FloatingPointError) as error:
            if len(group) > 1:
                return [row for sample in group for row in self._finish(block, [sample])]
            return [_result(s.image, s.level, s.attempt, s.picture) | _failure("denoise", str(error)) for s in group]

    def add_noise(self, sample: Sample) -> None:
        """Sets `noisy` and `sigma`: synthetic noise; in restoration mode the image itself and its (estimated) level."""
        noise, source = self._config.noise, sample.picture.pixels
        if noise is not None:
            assert sample.level is not None
            sample.sigma = sample.level
            sample.noisy = add_gaussian(source, sample.image["image_id"], sample.sigma, noise.mean, self._config.seed)
        else:
            scale = np.float32(pixels.WHITE[source.dtype] / 255)
            sample.noisy = np.broadcast_to(source / scale, (*source.shape[:2], 3)).astype(np.float32)
            sample.sigma = estimate_sigma(sample.noisy) if sample.level is None else sample.level

    def denoise(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        """Estimates of the clean images, of the pictures' type and channels; the noise's known mean is taken off first.

        Raises FloatingPointError for an estimate that is not finite, MemoryError for one that does not fit.
        """
        mean = self._config.noise.mean if self._config.noise else 0.0
        noisy = [pixels.to_tensor(sample.noisy - np.float32(mean)) for sample in samples]
        estimates = self._denoiser(noisy, [sample.sigma for sample in samples])
        if not all(bool(estimate.isfinite().all()) for estimate in estimates):
            raise FloatingPointError("the model's estimate is not finite")
        found = []
        for sample, estimate in zip(samples, estimates, strict=True):
            source = sample.picture.pixels
            grey = source.shape[2] == 1  # the network saw it three times over
            found.append(pixels.to_pixels(estimate.mean(0, keepdim=True) if grey else estimate, source.dtype))
        return found

    def score(self, sample: Sample, denoised: np.ndarray) -> dict[str, Any]:
        """The sample's ok row, but for its time and output. Without synthetic noise nothing to score against."""
        row = _result(sample.image, sample.level, sample.attempt, sample.picture) | {"status": OK}
        row["timestep"] = self._schedule.timestep(sample.sigma) if sample.sigma > 0 else None
        if sample.reference is None:
            row["sigma_estimated"] = sample.sigma if sample.level is None else None
            return row
        return row | {
            "psnr_noisy": sample.reference.psnr(sample.noisy),
            "ssim_noisy": sample.reference.ssim(sample.noisy),
            "psnr": sample.reference.psnr(denoised),
            "ssim": sample.reference.ssim(denoised),
        }

    def _attach(self, block: Block, row: dict[str, Any], denoised: Picture) -> None:
        """Puts the denoised image into its row: as pixels, encoded side by side later; beyond a limit as a file."""
        if self._config.images is None:
            return
        if self._carried > blocks.PIXEL_BYTES:
            with block.timed("encode"):
                outputs.encode_early(denoised, row, self._config.images)
        else:
            row |= blocks.picture_columns(denoised, "picture_")
            self._carried += denoised.pixels.nbytes


# What a row of a block holds beside pictures and their bytes.
_ABOUT_IMAGE = [*blocks.WORK_SCHEMA.names, "stage", "error"]


def _result(image: dict[str, Any], level: float | None, attempt: int, source: Picture | None) -> dict[str, Any]:
    height, width = (None, None) if source is None else source.pixels.shape[:2]
    about = {"image_id": image["image_id"], "uri": reading.origin(image), "sigma": level, "attempt": attempt}
    return about | {"width": width, "height": height}


def _failure(stage: str, error: str) -> dict[str, Any]:
    return {"status": ERROR, "stage": stage, "error": error}
