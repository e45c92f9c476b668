"""What an actor does with a block: noise → denoise → score, image by image, and a result row for each.

One bad image costs a row, never the block. The three steps are methods of their own; they share a process so that
pixels need not leave it.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from imagewizard import blocks, images, model, model_files, pixels, storage
from imagewizard.denoiser import Denoiser
from imagewizard.job_config import ActorConfig
from imagewizard.metrics import Reference
from imagewizard.noise import add_gaussian
from imagewizard.noise_level import estimate_sigma
from imagewizard.schema import ERROR, OK, RESULT_SCHEMA, SCHEMA_VERSION

# Images are denoised in groups, so that equal shapes meet in a batch; a group holds no more pixels than this, which
# bounds its float copies to about half a gigabyte.
GROUP_PIXELS = 16_000_000


@dataclass
class Sample:
    """One (image, level) on its way through the steps."""

    image: dict[str, Any]
    clean: np.ndarray
    """uint8, (H, W, 3): the image as it was decoded; in restoration mode it is the noisy one."""
    reference: Reference
    """`clean` with what scoring against it needs, shared by the image's levels."""
    level: float | None
    """The sigma asked for; None: to be estimated."""
    sigma: float = 0.0
    """The sigma used."""
    noisy: np.ndarray = field(default_factory=lambda: np.empty(0))
    """float32, (H, W, 3), 0-255 scale, unclipped."""


class BlockDenoiser:
    """Holds a loaded model on one device; call it with packed blocks of decoded images, get packed result rows."""

    def __init__(self, config: ActorConfig) -> None:
        torch.set_num_threads(config.threads)
        files = model_files.find(config.model)
        if files.fingerprint != config.fingerprint:
            raise RuntimeError(f"model {config.model} is not the same on this node as where the job was started")
        unet, self._schedule = model.load(files)
        self._denoiser = Denoiser(unet, self._schedule, config.denoise, config.batch_size)
        self._config = config
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

    def __call__(self, row: pa.Table) -> pa.Table:
        """One packed block of decoded images (blocks.DECODED_SCHEMA) → its packed rows (schema.RESULT_SCHEMA)."""
        block, table = blocks.unpack(row)
        rows: list[dict[str, Any]] = []
        group: list[Sample] = []
        for sample in self._samples(table, rows):
            if group and sum(s.clean.size // 3 for s in group) + sample.clean.size // 3 > GROUP_PIXELS:
                rows += self._finish(group)
                group = []
            group.append(sample)
        rows += self._finish(group)
        now = datetime.now(UTC)
        for result in rows:
            result |= self._constant | {"attempt": block.attempt, "finished_at": now}
        return blocks.pack(block, pa.Table.from_pylist(rows, schema=RESULT_SCHEMA))

    def _samples(self, table: pa.Table, rows: list[dict[str, Any]]) -> Iterator[Sample]:
        """The block's (image, level) pairs; images that could not be read or decoded become error `rows` instead."""
        pixels, data = table["pixels"], table["data"]
        for index, image in enumerate(table.drop_columns(["pixels", "data"]).to_pylist()):
            levels = image["sigmas"]
            try:
                if image["error"] is not None:
                    raise images.ImageError(image["error"])
                if pixels[index].is_valid:
                    shape = (image["height"], image["width"], 3)
                    clean = np.frombuffer(pixels[index].as_buffer(), np.uint8).reshape(shape)
                else:  # beyond what the decoding stage may hold
                    clean = images.decode(data[index].as_py(), self._config.max_pixels)
            except images.ImageError as error:
                stage = image["stage"] or "decode"
                rows += [_result(image, level, None) | _failure(stage, str(error)) for level in levels]
                continue
            reference = Reference(clean)
            for level in levels:
                yield Sample(image, clean, reference, level)

    def _finish(self, group: list[Sample]) -> list[dict[str, Any]]:
        """The rows of a group: ok, or an error for each sample that cannot be denoised on its own either."""
        try:
            started = time.perf_counter()
            for sample in group:
                self.add_noise(sample)
            denoised = self.denoise(group)
            rows = [self.score(sample, image) for sample, image in zip(group, denoised, strict=True)]
            pixels = sum(sample.clean.size for sample in group)
            elapsed = time.perf_counter() - started
            for row, sample in zip(rows, group, strict=True):
                row["seconds"] = elapsed * sample.clean.size / pixels
            return [self._written(row, sample, image) for row, sample, image in zip(rows, group, denoised, strict=True)]
        except (MemoryError, FloatingPointError) as error:
            if len(group) > 1:
                return [row for sample in group for row in self._finish([sample])]
            return [_result(s.image, s.level, s.clean) | _failure("denoise", str(error)) for s in group]

    def add_noise(self, sample: Sample) -> None:
        """Sets `noisy` and `sigma`: synthetic noise; in restoration mode the image itself and its (estimated) level."""
        noise = self._config.noise
        if noise is not None:
            assert sample.level is not None
            sample.sigma = sample.level
            sample.noisy = add_gaussian(
                sample.clean, sample.image["image_id"], sample.sigma, noise.mean, self._config.seed
            )
        else:
            sample.sigma = estimate_sigma(sample.clean) if sample.level is None else sample.level
            sample.noisy = sample.clean.astype(np.float32)

    def denoise(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        """uint8 (H, W, 3) estimates of the clean images; the noise's known mean is taken off first.

        Raises FloatingPointError for an estimate that is not finite, MemoryError for one that does not fit.
        """
        mean = self._config.noise.mean if self._config.noise else 0.0
        noisy = [pixels.to_tensor(sample.noisy - np.float32(mean)) for sample in samples]
        estimates = self._denoiser(noisy, [sample.sigma for sample in samples])
        if not all(bool(estimate.isfinite().all()) for estimate in estimates):
            raise FloatingPointError("the model's estimate is not finite")
        return [pixels.to_uint8(estimate) for estimate in estimates]

    def score(self, sample: Sample, denoised: np.ndarray) -> dict[str, Any]:
        """The sample's ok row, but for its time and output. Without synthetic noise nothing to score against."""
        row = _result(sample.image, sample.level, sample.clean) | {"status": OK}
        row["timestep"] = self._schedule.timestep(sample.sigma) if sample.sigma > 0 else None
        if self._config.noise is None:
            row["sigma_estimated"] = sample.sigma if sample.level is None else None
            return row
        return row | {
            "psnr_noisy": sample.reference.psnr(sample.noisy),
            "ssim_noisy": sample.reference.ssim(sample.noisy),
            "psnr": sample.reference.psnr(denoised),
            "ssim": sample.reference.ssim(denoised),
        }

    def _written(self, row: dict[str, Any], sample: Sample, denoised: np.ndarray) -> dict[str, Any]:
        """The row with `output_uri`, once its image lies under <output>/images (a folder a level, if noise was added).

        A disk or server that refuses to write stops the job: it would refuse the next image too.
        """
        section = self._config.images
        if section is None:
            return row
        folder = [] if self._config.noise is None else [f"sigma{sample.sigma:g}"]
        name = images.output_name(sample.image["image_id"], section.format)
        uri = storage.join(self._config.run, "images", *folder, name)
        try:
            data = images.encode(denoised, section.format, section.quality)
        except images.ImageError as error:  # a side longer than the format can hold
            return _result(sample.image, sample.level, sample.clean) | _failure("write", str(error))
        storage.write_whole(uri, data, storage.join(self._config.run, "_tmp"))
        return row | {"output_uri": uri}


def _result(image: dict[str, Any], level: float | None, clean: np.ndarray | None) -> dict[str, Any]:
    height, width = (None, None) if clean is None else clean.shape[:2]
    return {"image_id": image["image_id"], "uri": image["uri"], "sigma": level, "width": width, "height": height}


def _failure(stage: str, error: str) -> dict[str, Any]:
    return {"status": ERROR, "stage": stage, "error": error}
