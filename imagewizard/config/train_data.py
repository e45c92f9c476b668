"""The images that a training names in its config."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from imagewizard.config.loading import Section


class PairsSection(Section):
    """Photographs with real noise and the same ones without: two folders, searched recursively, local or s3://.

    Partners have the same path below their folders, but for the suffix and an ending: `_real`, `_noisy`, `_mean`,
    `_clean` or `_gt`. Both folders may be one.
    """

    noisy: str
    """The folder of the noisy images."""
    clean: str
    """The folder of the clean ones."""


class DataSection(Section):
    """Training and validation images."""

    train: str | list[str] | None = None
    """Clean images, to which training adds white noise: a folder (searched recursively), a list of files, or a Parquet
    manifest; local or s3://. null: none; then give `pairs`."""
    pairs: PairsSection | None = None
    """Images with their own noise, which are trained on beside those of `train` or in their place; null: none. A pair
    of two sizes is skipped and counted."""
    validation: str | list[str] | None = None
    """Clean images as in `train`, but different ones; the best checkpoint is the one that denoises these best. null:
    none; then give `validation.pairs`."""
    crop: Annotated[int, Field(ge=16, multiple_of=8)] = 96
    """Side of the square training crops, in pixels; each epoch takes one crop of each image."""
    small: Literal["pad", "skip"] = "pad"
    """Images with a side below `crop` are reflect-padded (pad), or skipped and counted (skip)."""
    grey: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the crops that become grey, with the same noise in all three channels."""
    camera: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the crops of `train` that have a camera's noise in the place of white noise. Each image is photographed
    four times, by cameras at random, which takes four times its memory on top."""

    @property
    def sources(self) -> list[str]:
        """Folders and files of the training images."""
        train = [self.train] if isinstance(self.train, str) else self.train or []
        return train if self.pairs is None else [*train, self.pairs.noisy, self.pairs.clean]

    @model_validator(mode="after")
    def _something_to_train_on(self) -> "DataSection":
        if self.train is None and self.pairs is None:
            raise ValueError("names no images to train on: give train (clean ones) or pairs (noisy and clean ones)")
        if self.train is None and self.camera:
            raise ValueError("camera is a share of the crops of train: give train, or leave camera out")
        return self
