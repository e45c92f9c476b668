"""The config of `imagewizard evaluate`."""

from typing import Annotated

from pydantic import Field, model_validator

from imagewizard.config.denoise import DenoiseSection
from imagewizard.config.loading import Section


class EvaluateConfig(Section):
    """How noisy images with clean partners are restored; each key means what it means in a bulk job."""

    model: str = "embedded"
    """embedded, a folder in diffusers' layout (local or s3://), or a hub id."""
    denoise: DenoiseSection = DenoiseSection()
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    """An image with more pixels is not scored."""

    @model_validator(mode="after")
    def _no_manifest(self) -> "EvaluateConfig":
        if self.denoise.level_column is not None:
            raise ValueError("denoise.sigma must be a level or auto: there is no manifest with columns here")
        return self
