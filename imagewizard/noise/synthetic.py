"""Synthetic noise: a function of (run seed, image id, kind, parameters) alone, and bit-identical on every machine."""

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from imagewizard import seeding
from imagewizard.noise import draws
from imagewizard.noise.camera import Development

if TYPE_CHECKING:
    from torch import Tensor


class Noise(ABC):
    """A kind of noise with its parameters, which are the fields of a dataclass."""

    kind: ClassVar[str]
    """The word of a config (`noise.kind`) and of result rows."""

    @abstractmethod
    def add(self, clean: np.ndarray, image_id: str, seed: int) -> np.ndarray:
        """Returns `clean` (uint8 or float, 0-255 scale) with the noise: float32, 0-255 scale.

        `clean` is (H, W, 3), (H, W, 1) or (H, W). A grey image, of one channel or of three equal ones, gets one plane
        of noise. Whether the result is clipped and rounded is a matter of the kind. All machines and devices draw
        the same bits.
        """

    sigma: float | None = None
    """Its level, 0-255 scale, if it has one to tell the denoiser; None: it is to be found in the noisy image."""
    named: ClassVar[tuple[str, ...]]
    """The parameters that its short name always holds; others only where they tell settings of a job apart."""

    @property
    def offset(self) -> float:
        """Mean of the noise, 0-255 scale; it is known and therefore subtracted before denoising."""
        return 0.0

    @abstractmethod
    def describe(self) -> str:
        """The noise without what its short name says, as plans and reports show it: `Gaussian, mean 40`."""

    @property
    def setting(self) -> tuple[str, float | None]:
        """What tells its rows from those of the job's other noises: noise_params and sigma."""
        return self.params(), self.sigma

    def params(self) -> str:
        """The parameters but for sigma as canonical JSON, for the column noise_params."""
        return self._params

    @functools.cached_property  # each row of a job has it
    def _params(self) -> str:
        values = asdict(self)  # type: ignore[call-overload]  # each kind is a dataclass
        return json.dumps({name: value for name, value in values.items() if name != "sigma"}, sort_keys=True)


def is_grey(image: np.ndarray) -> bool:
    """Whether all planes of an image, (H, W, C), are equal."""
    # The first row tells it of nearly every image in colour.
    return all(
        np.array_equal(rows[:, :, 0], rows[:, :, i]) for rows in (image[:1], image) for i in range(1, image.shape[2])
    )


def noise_shape(clean: np.ndarray) -> tuple[int, ...]:
    """The shape of the noise for an image: its own, or (H, W, 1) if it is grey in three equal planes."""
    return (*clean.shape[:2], 1) if clean.ndim == 3 and is_grey(clean) else clean.shape


class Independent(Noise):
    """Normally distributed noise, independent in each sample; the image is neither clipped nor rounded.

    Only kinds of this class have `add_batch`: a caller asks isinstance(noise, Independent).
    """

    @abstractmethod
    def key(self, image_id: str, seed: int) -> int:
        """Of the random numbers for an image (seeding.key)."""

    @abstractmethod
    def deviation(self, clean: np.ndarray) -> np.ndarray | np.float32:
        """Standard deviation of the noise on samples `clean`, 0-255 scale: float32, for each or one for all."""

    def add(self, clean: np.ndarray, image_id: str, seed: int) -> np.ndarray:
        shape = noise_shape(clean)
        seen = clean[:, :, :1] if shape != clean.shape else clean
        noise = draws.standard_normal(self.key(image_id, seed), seen.size).reshape(shape)
        noise *= self.deviation(seen)
        if self.offset:
            noise += np.float32(self.offset)
        return np.add(noise, clean, out=noise if shape == clean.shape else None, dtype=np.float32)

    def add_batch(self, clean: "Tensor", image_ids: Sequence[str], seed: int) -> "Tensor":
        """`add` for a batch on any device, bit for bit: float32 (N, H, W, C), 0-255 scale, for uint8 (N, H, W, C).

        Nothing waits for the device. Call it outside of torch.compile, which may fuse a product and a sum into one
        rounding.
        """
        from imagewizard.noise import device  # torch, which adding noise to an array does without

        keys = [self.key(image_id, seed) for image_id in image_ids]
        deviations = np.broadcast_to(self.deviation(np.arange(256, dtype=np.uint8)), 256)
        return device.add(clean, keys, deviations, self.offset)


@dataclass(frozen=True)
class Gaussian(Independent):
    """White noise, of the same level in each channel."""

    kind = "gaussian"
    named = ("sigma",)
    sigma: float = field()  # without field(), the None of the class above would be its default
    """Standard deviation, 0-255 scale."""
    mean: float = 0.0

    def key(self, image_id: str, seed: int) -> int:
        return seeding.key(seed, image_id, self.kind, self.sigma)

    def deviation(self, clean: np.ndarray) -> np.float32:
        return np.float32(self.sigma)

    @property
    def offset(self) -> float:
        return self.mean

    def describe(self) -> str:
        return f"Gaussian, mean {self.mean:g}" if self.mean else "Gaussian"


@dataclass(frozen=True)
class PoissonGaussian(Independent):
    """Noise of a sensor: Gaussian with the variance a x + b for the clean value x.

    The heteroscedastic approximation of Foi, Trimeche, Katkovnik, Egiazarian, "Practical Poissonian-Gaussian noise
    modeling and fitting for single-image raw-data" (TIP 2008), equation 9.
    """

    kind = "poisson-gaussian"
    named = ("a", "b")
    a: float
    b: float

    def key(self, image_id: str, seed: int) -> int:
        return seeding.key(seed, image_id, self.kind, self.a, self.b)

    def deviation(self, clean: np.ndarray) -> np.ndarray:
        variance = np.float32(self.a) * clean.astype(np.float32) + np.float32(self.b)
        # A float image may hold negative values.
        return np.sqrt(np.maximum(variance, np.float32(0.0), out=variance), out=variance)

    def describe(self) -> str:
        return "Poisson-Gaussian"


@dataclass(frozen=True)
class Camera(Development, Noise):
    """Noise as a camera with these settings leaves it. The image is a JPEG's: clipped and whole numbers."""

    kind = "camera"
    named = ("gain",)

    def add(self, clean: np.ndarray, image_id: str, seed: int) -> np.ndarray:
        rng = seeding.generator(seed, image_id, self.kind, *asdict(self).values())
        planes = clean[:, :, np.newaxis] if clean.ndim == 2 else clean
        seen = planes[:, :, :1] if noise_shape(planes)[2] == 1 else planes
        noisy = self.expose(seen, rng)
        return noisy.repeat(planes.shape[2] // seen.shape[2], axis=2).reshape(clean.shape)

    def describe(self) -> str:
        return "camera"


# By the words of a config (`noise.kind`) and of result rows. A new kind needs an entry here and a section in
# config/noise.py with the same parameters as fields.
KINDS: dict[str, type[Noise]] = {each.kind: each for each in (Gaussian, PoissonGaussian, Camera)}


def make(kind: str, settings: Iterable[Mapping[str, Any]]) -> list[Noise]:
    """The noises of a job from its config section: one for each of the settings."""
    return [KINDS[kind](**setting) for setting in settings]


def of_row(kind: str, params: str, sigma: float | None) -> Noise:
    """The noise that a result row has in noise_kind (one of KINDS), noise_params and sigma."""
    return KINDS[kind](**_values(params, sigma))


def names(settings: Sequence[tuple[str | None, str | None, float | None]]) -> list[str]:
    """Short names of settings, each given as noise_kind, noise_params and sigma: `sigma 25`, `a 0.5, b 4`, `gain 16`.

    Empty for a restoration whose level is found or differs from image to image. noise_params is None in the totals of
    older runs.
    """
    values = [_values(params or "{}", sigma) for _, params, sigma in settings]
    told = {name for each in values for name in each if any(each[name] != other.get(name) for other in values)}
    return [
        ", ".join(
            f"{name} {value_text(each[name])}"
            for name in sorted(each, key=lambda name: name not in _named(kind))
            if name in told or name in _named(kind)
        )
        for (kind, _, _), each in zip(settings, values, strict=True)
    ]


def _named(kind: str | None) -> tuple[str, ...]:
    return KINDS[kind].named if kind in KINDS else ("sigma",)


def _values(params: str, sigma: float | None) -> dict[str, Any]:
    return json.loads(params) | ({} if sigma is None else {"sigma": sigma})


def value_text(value: float | str) -> str:
    """A parameter in names of settings and folders: `4` for 4.0."""
    from imagewizard.schema import level_text  # it imports pyarrow, which adding noise does without

    return value if isinstance(value, str) else level_text(value)
