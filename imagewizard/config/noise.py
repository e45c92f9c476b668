"""The parameters of each kind of synthetic noise; the code is in imagewizard/noise."""

import itertools
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from imagewizard.config.loading import Section

MOST_SIGMA = 1000
MOST_SMOOTHING = 3
Sigma = Annotated[float, Field(ge=0, le=MOST_SIGMA)]


def _one_or_many(values: object) -> object:
    return values if isinstance(values, list) else [values]


def _distinct(values: list[Any]) -> list[Any]:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"must be one or more different values, as 25 or [15, 25, 50] (got {values})")
    return values


Value = TypeVar("Value")
Several = Annotated[list[Value], BeforeValidator(_one_or_many), AfterValidator(_distinct)]
"""One value or a list of different ones."""
Levels = Several[Sigma]
Factor = Annotated[float, Field(gt=0, le=16)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Noise(Section):
    """Synthetic noise, added to clean images. Results are scored against the clean images."""

    kind: str

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The parameters of each row of an image: one of each list, in all combinations, the last list's fastest.

        They are the fields of the kind's class in noise.synthetic.
        """
        values = self.model_dump(exclude={"kind"})
        lists = [value if isinstance(value, list) else [value] for value in values.values()]
        return [dict(zip(values, each, strict=True)) for each in itertools.product(*lists)]


class GaussianNoise(_Noise):
    """White Gaussian noise."""

    kind: Literal["gaussian"] = "gaussian"
    """Kind of noise."""
    sigma: Levels = [25.0]
    """Noise levels, 0-255 scale; one or a list. An image is read once and gives one row a level."""
    mean: Annotated[float, Field(ge=-255, le=255)] = 0.0
    """Mean of the noise, 0-255 scale; it is known and therefore subtracted before denoising."""


class PoissonGaussianNoise(_Noise):
    """Noise that grows with brightness, as a sensor's: Gaussian, of the variance a x + b for the clean value x (0-255
    scale). Each key holds one value or a list; an image gives one row for each combination. The level is found in the
    noisy image, as in a restoration."""

    kind: Literal["poisson-gaussian"] = "poisson-gaussian"
    """Kind of noise."""
    a: Several[Annotated[float, Field(ge=0, le=1000)]] = [0.5]
    """Variance a grey level of brightness, 0-255 scale."""
    b: Several[Annotated[float, Field(ge=0, le=1_000_000)]] = [4.0]
    """Variance in black, 0-255 scale."""

    @model_validator(mode="after")
    def _some_noise(self) -> "PoissonGaussianNoise":
        if 0 in self.a and 0 in self.b:
            raise ValueError("a and b are both 0, which is no noise; give one of them above 0")
        return self


class CameraNoise(_Noise):
    """Noise as a camera leaves it: the image is taken back to a sensor's values, gets shot and read noise there, and is
    developed again: demosaicing, white balance, colours, tone curve, smoothing, JPEG. Each key holds one value or a
    list; an image gives one row for each combination. The level is found in the noisy image, as in a restoration."""

    kind: Literal["camera"] = "camera"
    """Kind of noise."""
    gain: Several[Annotated[float, Field(ge=0, le=4096)]] = [16.0]
    """Sensitivity: about ISO / 100. 0: no noise but that of JPEG."""
    red: Several[Factor] = [2.0]
    """White balance: factor of the sensor's red."""
    blue: Several[Factor] = [1.6]
    """White balance: factor of the sensor's blue."""
    contrast: Several[Share] = [1.0]
    """Share of an S curve (3x² - 2x³) behind sRGB's gamma."""
    smoothing: Several[Annotated[float, Field(ge=0, le=MOST_SMOOTHING)]] = [0.5]
    """How often the camera averages the noise's luma over 5x5 pixels; 0.5: half of the noise, once."""
    colour_smoothing: Several[Share] = [0.7]
    """Share of the noise's colours that the camera removes."""
    quality: Several[Annotated[int, Field(ge=1, le=100)]] = [92]
    """Of the JPEG."""
    subsampling: Several[Literal["4:4:4", "4:2:2", "4:2:0"]] = ["4:2:2"]
    """Resolution of the JPEG's colours."""


def _kind(section: Any) -> str:
    """A config may leave `kind` out, which means gaussian."""
    return str(section.get("kind", "gaussian") if isinstance(section, dict) else getattr(section, "kind", "gaussian"))


NoiseSection = Annotated[
    Annotated[GaussianNoise, Tag("gaussian")]
    | Annotated[PoissonGaussianNoise, Tag("poisson-gaussian")]
    | Annotated[CameraNoise, Tag("camera")],
    Discriminator(_kind),
]
"""One of the sections, told apart by `kind`."""
