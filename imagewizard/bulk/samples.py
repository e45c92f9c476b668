"""The rows of an image on their way through noise, denoise and score."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imagewizard import schema
from imagewizard.bulk import block as blocks
from imagewizard.config.denoise import DenoiseSection
from imagewizard.config.noise import MOST_SIGMA
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import Picture
from imagewizard.noise import synthetic
from imagewizard.noise.level import Found
from imagewizard.noise.synthetic import Noise
from imagewizard.sources import reading

Row = dict[str, Any]
"""A result row, or what of it is known."""

NO_LEVEL = "no noise level could be found, because too little of the image varies: it is as it was"


@dataclass
class NoisySample:
    """One row of an image on its way through the steps."""

    image: dict[str, Any]
    picture: Picture
    """The image as it was decoded: clean, or in restoration mode the noisy one."""
    noise: Noise | None
    """What is added; None in restoration mode."""
    level: float | None
    """The level that is added or given; None: to be found."""
    attempt: int
    sigma: float = 0.0
    """The level that the model is told: `denoise.strength` times the one that is known or found."""
    found: Found | None = None
    """What was found of the noise; None where nobody looked, because the level is known."""
    is_grey: bool = field(init=False)
    """Whether the picture's planes are all equal: then it is denoised and scored as one."""

    def __post_init__(self) -> None:
        self.is_grey = synthetic.is_grey(self.picture.pixels)

    @property
    def image_id(self) -> str:
        return str(self.image[schema.IMAGE_ID])

    @property
    def kind(self) -> tuple[Any, ...]:
        """What samples have in common that go through the steps together."""
        pixels = self.picture.pixels
        return pixels.shape, pixels.dtype, self.is_grey, self.noise

    @property
    def planes(self) -> np.ndarray:
        """The picture's pixels, (H, W, 1 or 3): one plane where it is grey."""
        return self.picture.pixels[:, :, :1] if self.is_grey else self.picture.pixels

    def with_its_channels(self, planes: np.ndarray) -> np.ndarray:
        """An image like `planes`, with as many channels as the picture has."""
        channels = self.picture.pixels.shape[2]
        return planes if planes.shape[2] == channels else planes.repeat(channels, axis=2)

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
        return about(self.image, self.noise, self.level, self.attempt) | known

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


def about(image: dict[str, Any], noise: Noise | None, level: float | None, attempt: int) -> Row:
    """What each row of an image (by blocks.WORK_SCHEMA) says of the work, ok or not."""
    return {
        schema.IMAGE_ID: image[schema.IMAGE_ID],
        schema.URI: reading.origin(image),
        schema.NOISE_KIND: noise and noise.kind,
        schema.NOISE_PARAMS: noise.params() if noise else "{}",
        schema.SIGMA: level,
        schema.ATTEMPT: attempt,
    }


def failure(stage: str, error: Exception) -> Row:
    """What the row of an image says that came to nothing."""
    return {schema.STATUS: schema.ERROR, schema.STAGE: stage, schema.REASON: str(error)}
