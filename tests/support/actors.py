"""Actors without Ray: what they are given, and what comes out."""

from pathlib import Path

import numpy as np

from imagewizard.bulk import block as blocks
from imagewizard.bulk.block import Block
from imagewizard.bulk.block_denoiser import BlockDenoiser
from imagewizard.bulk.stage_times import StageTimes
from imagewizard.config.denoise import ActorConfig, DenoiseConfig
from imagewizard.images.picture import Picture, decode
from imagewizard.models import files as model_files
from imagewizard.runs.results import BlockFile


def actor(model: Path | str, **config: object) -> BlockDenoiser:
    job = DenoiseConfig.model_validate({"input": "in", "output": "out", "model": str(model), **config})
    fingerprint = model_files.find(job.model).fingerprint
    return BlockDenoiser(
        ActorConfig(job.model, fingerprint, job.noise, job.denoise, job.images, job.seed, job.max_pixels, 4, threads=1)
    )


def block(*images: np.ndarray, rows: int = 1) -> Block:
    return pictures(*map(Picture, images), rows=rows)


def pictures(*images: Picture, rows: int = 1, levels: list[str | None] | None = None) -> Block:
    """A block with `rows` rows of each image to be made; `levels`: what a manifest holds of each image."""
    work = dict.fromkeys(blocks.WORK_SCHEMA.names) | {"settings": list(range(rows)), "attempts": [1] * rows}
    read = [
        work
        | {"image_id": str(number), "uri": f"/{number}", "sigma": levels and levels[number]}
        | {"stage": None, "error": None, "picture": image}
        for number, image in enumerate(images)
    ]
    return Block(BlockFile(0, 0, 1), read, StageTimes({"read": 1.0}))


def rows_of(denoised: Block) -> list[dict]:
    """By RESULT_SCHEMA, with each image's file."""
    rows = blocks.rows_table(denoised).to_pylist()
    return [row | {"encoded": image.get("encoded")} for row, image in zip(rows, denoised.images, strict=True)]


def picture_of(denoised: Block, index: int = 0) -> Picture:
    return decode(rows_of(denoised)[index]["encoded"], 10**6, keep=True)
