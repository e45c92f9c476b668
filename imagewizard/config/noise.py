"""The parameters of each kind of synthetic noise; the code is in imagewizard/noise."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from imagewizard.config.loading import Section

Sigma = Annotated[float, Field(ge=0, le=1000)]


def _one_or_many(sigma: object) -> object:
    return sigma if isinstance(sigma, list) else [sigma]


def _distinct(sigma: list[float]) -> list[float]:
    if not sigma or len(set(sigma)) < len(sigma):
        raise ValueError(f"must be one or more different levels, as 25 or [15, 25, 50] (got {sigma})")
    return sigma


Levels = Annotated[list[Sigma], BeforeValidator(_one_or_many), AfterValidator(_distinct)]


class _Noise(Section):
    """Synthetic noise, added to clean images. Results are scored against the clean images."""

    kind: str
    sigma: Levels = [25.0]
    """Noise levels, 0-255 scale; one or a list. An image is read once and gives one row a level."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of this kind alone: the fields of its class in noise.synthetic."""
        return self.model_dump(exclude={"kind", "sigma"})


class GaussianNoise(_Noise):
    """White Gaussian noise."""

    kind: Literal["gaussian"] = "gaussian"
    """Kind of noise."""
    mean: Annotated[float, Field(ge=-255, le=255)] = 0.0
    """Mean of the noise, 0-255 scale; it is known and therefore subtracted before denoising."""


# With a second kind this becomes a union. A function as pydantic Discriminator then picks the class by `kind`, because
# a config may leave `kind` out, which means gaussian.
NoiseSection = GaussianNoise
