"""Adds noise to images in memory, denoises and scores them.

An image is an array or a PIL image. An array is uint8 (0-255), uint16 (0-65535) or float (0-255 scale, unclipped) of
shape (H, W, 3), (H, W, 1) or (H, W). A PIL image has mode L, RGB or I;16. Noise levels, sigma, are on the 0-255 scale
for every type of image. Any other input raises UserError.
"""

import functools
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np

from imagewizard import config
from imagewizard.config.denoise import DenoiseSection, NoiseSection, ResourcesSection
from imagewizard.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image as PILImage

Image = TypeVar("Image", np.ndarray, "PILImage")
Mode = Literal["mmse", "ddim", "blend"]


class _Added(config.Section):
    noise: NoiseSection


def add_noise(
    image: "np.ndarray | PILImage",
    sigma: float | None = None,
    seed: int = 0,
    key: str = "",
    mean: float = 0.0,
    *,
    kind: str = "gaussian",
    **parameters: Any,
) -> np.ndarray:
    """`image` with noise: float32, with the image's shape, 0-255 scale.

    gaussian takes `sigma` and `mean`, poisson-gaussian `a` and `b`; both are neither clipped nor rounded. camera takes
    `gain` and others, and gives whole numbers. They are the keys of a config's section `noise`, each with one value. A
    grey image, of one channel or of three equal ones, gets one plane of noise. The noise is a function of (seed, key,
    kind, parameters), the same on every machine. A bulk job uses the image id as `key`. Raises UserError for a wrong
    parameter.
    """
    from imagewizard.noise import synthetic

    noise: synthetic.Noise
    if kind == "gaussian" and not parameters:
        _check_level(sigma, needed=True)
        noise = synthetic.Gaussian(float(sigma or 0.0), mean)
    else:
        given = ({} if sigma is None else {"sigma": sigma}) | ({"mean": mean} if mean else {})
        section = config.check(_Added, {"noise": {"kind": kind, **given, **parameters}}).noise
        noise, *others = synthetic.make(section.kind, section.settings)
        if others:
            raise UserError(f"these are {1 + len(others)} settings of the noise", "give one value for each", "noise")
    return noise.add(_scaled(_array(image)), key, seed)


def estimate_sigma(image: "np.ndarray | PILImage") -> float:
    """Standard deviation of the noise in `image`, 0-255 scale; 0 where too little of it varies to find any.

    This is the noise before any clipping.
    """
    from imagewizard.noise import level

    return level.find(_rgb(_array(image))).std or 0.0


def psnr(image: "np.ndarray | PILImage", reference: "np.ndarray | PILImage") -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels, at most 100. Does not clip or round.

    The peak is 255. Raises ValueError if the shapes differ.
    """
    from imagewizard import metrics

    return metrics.psnr(_scaled(_array(image)), _scaled(_array(reference)))


def ssim(image: "np.ndarray | PILImage", reference: "np.ndarray | PILImage") -> float | None:
    """Structural similarity in scikit-image's default form (7x7 window, mean over channels). Does not clip or round.

    None if a side is shorter than the window. Raises ValueError if the shapes differ.
    """
    from imagewizard import metrics

    return metrics.Reference(_scaled(_array(reference))).ssim(_scaled(_array(image)))


def denoise(image: Image, sigma: float | None = None, strength: float = 1.0) -> Image:
    """Denoises `image` of noise level `sigma` (None: found) with the embedded model; returns the posterior mean.

    The level is multiplied by `strength`, from 0 to 4: less than 1 leaves grain, more smooths.

    The result has the type and shape of `image`. Integers are rounded and clipped to their range; a float array becomes
    float32, neither clipped nor rounded. The model is loaded once and kept. Raises UserError if `image` is no image, or
    if the level is too high for the model.
    """
    return _embedded()(image, sigma, strength)


class Denoiser:
    """A model, loaded on a device. Call it with noisy images. Several threads may share it; calls run one at a time."""

    def __init__(self, denoiser: Callable[..., "list[torch.Tensor]"], strength: float = 1.0) -> None:
        """`denoiser`: a diffusion.denoiser.Denoiser; users call `from_pretrained`."""
        self._denoiser, self._strength = denoiser, strength
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<imagewizard.Denoiser on {getattr(self._denoiser, 'device', 'no device')}>"

    @classmethod
    def from_pretrained(
        cls,
        model: str = "embedded",
        mode: Mode = "mmse",
        device: str | None = None,
        *,
        batch_size: int | None = None,
        **options: Any,
    ) -> "Denoiser":
        """Loads `model`: `embedded`, a folder in diffusers' layout (local or s3://) or a hub id.

        `mode`: mmse computes the posterior mean in one step, for the best PSNR; ddim takes `steps` steps to a sample,
        which is sharper; blend mixes the two. `device`: cuda, cpu, …; None: a GPU if there is one. `batch_size`: images
        per forward pass. `options`: other keys of the config section `denoise` (steps, blend_lambda, ensemble, tile,
        overlap, strength). Raises UserError if the model or the device cannot be used, or if an option is wrong.
        """
        section = config.check(DenoiseSection, {"mode": mode, **options})

        from imagewizard.diffusion import denoiser
        from imagewizard.models import files, restorers

        place = denoiser.default_device() if device is None else _device(device)
        size = batch_size or ResourcesSection().images_a_forward(on_gpu=place.type == "cuda")
        return cls(
            denoiser.Denoiser(restorers.load(files.find(model), section), section, size, place), section.strength
        )

    @overload
    def __call__(self, image: Image, sigma: float | None = None, strength: float | None = None) -> Image: ...

    @overload
    def __call__(
        self,
        image: Sequence[Image],
        sigma: float | Sequence[float | None] | None = None,
        strength: float | None = None,
    ) -> list[Image]: ...

    def __call__(self, image: Any, sigma: Any = None, strength: float | None = None) -> Any:
        """Denoises an image, or each image of a list. Results are as in `denoise`.

        `sigma`: the noise level, or one for each image of a list; None: found. `strength` None: that of
        `from_pretrained`. Images of one size share batches.
        """
        several = isinstance(image, list | tuple)
        images = list(image) if several else [image]
        sigmas = list(sigma) if isinstance(sigma, list | tuple | np.ndarray) else [sigma] * len(images)
        if len(sigmas) != len(images):
            raise UserError(f"{len(sigmas)} levels for {len(images)} images", "give one for all, or one each", "sigma")
        arrays = [_array(each) for each in images]
        factor = self._strength if strength is None else config.check(DenoiseSection, {"strength": strength}).strength
        estimates = self._estimate([_rgb(array) for array in arrays], sigmas, factor)
        found = [
            _like(each, _pixels(estimate, array))
            for each, array, estimate in zip(images, arrays, estimates, strict=True)
        ]
        return found if several else found[0]

    def _estimate(self, noisy: list[np.ndarray], sigmas: list[float | None], strength: float) -> "list[torch.Tensor]":
        """Images (H, W, 3) on the 0-255 scale → estimates, float32 (3, H, W) on the [-1, 1] scale, unclipped."""
        from imagewizard.diffusion import pixels, two_scales
        from imagewizard.noise import level

        for sigma in sigmas:
            _check_level(sigma)
        device = getattr(self._denoiser, "device", None)
        found = [level.find(n, device=device) if s is None else None for n, s in zip(noisy, sigmas, strict=True)]
        levels = [strength * float((s if f is None else f.level) or 0.0) for f, s in zip(found, sigmas, strict=True)]
        smeared = [each is not None and each.is_smeared for each in found]
        with self._lock:
            tensors = [pixels.to_tensor(each) for each in noisy]
            estimates = two_scales.denoise(self._denoiser, tensors, levels, smeared)
        if not all(bool(each.isfinite().all()) for each in estimates):
            raise FloatingPointError("the model's estimate is not finite")
        return estimates


def _check_level(sigma: object, needed: bool = False) -> None:
    """Raises UserError unless it is a noise level, or None where one is not `needed`."""
    try:
        is_level = (sigma is None and not needed) or float(sigma) >= 0.0  # type: ignore[arg-type]  # what is no number is caught
    except (TypeError, ValueError):
        is_level = False
    if not is_level:
        raise UserError(f"{sigma!r} is no noise level", "give a number from 0 on, 0-255 scale", "sigma")


def _device(name: str) -> "torch.device":
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"{name!r} is no device of torch", "give cpu, cuda or cuda:1, for example", "device") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("torch finds no CUDA GPU here", "give cpu, or leave it out", "device")
    return device


@functools.cache
def _embedded() -> Denoiser:
    return Denoiser.from_pretrained()


def _array(image: "np.ndarray | PILImage") -> np.ndarray:
    """The pixels of an image as the module's docstring defines it. Raises UserError for anything else."""
    if not isinstance(image, np.ndarray):
        from PIL import Image

        if not isinstance(image, Image.Image):
            raise _no_image(f"is a {type(image).__name__}")
        if image.mode not in ("L", "RGB", "I;16"):
            raise _no_image(f"is of PIL's mode {image.mode}")
        return np.asarray(image)
    is_float = np.issubdtype(image.dtype, np.floating)
    known = image.dtype in (np.uint8, np.uint16) or is_float
    flat = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    if not known or not flat or 0 in image.shape:
        raise _no_image(f"is {image.dtype} of shape {image.shape}")
    if is_float and not np.isfinite(image).all():
        raise UserError("the image has values that are not finite", "replace them", "image")
    if image.size > 100 and is_float and image.min() >= 0 and image.max() <= 1:
        warnings.warn("a float image is on the 0-255 scale, and this one has no value above 1", stacklevel=3)
    return image


def _no_image(what: str) -> UserError:
    fix = "give uint8, uint16 or float (H, W, 3), (H, W, 1) or (H, W), or a PIL image of mode L, RGB or I;16"
    return UserError(f"the image {what}", fix, "image")


def _scaled(array: np.ndarray) -> np.ndarray:
    """The array on the 0-255 scale: uint8 unchanged, other types as float32."""
    if array.dtype == np.uint16:
        return array / np.float32(257)
    return array if array.dtype == np.uint8 else array.astype(np.float32)


def _rgb(array: np.ndarray) -> np.ndarray:
    """(H, W, 3) on the 0-255 scale; a grey image is repeated in all three channels."""
    planes = array[:, :, None] if array.ndim == 2 else array
    return np.broadcast_to(_scaled(planes), (*planes.shape[:2], 3))


def _pixels(estimate: "torch.Tensor", source: np.ndarray) -> np.ndarray:
    """Converts an estimate (3, H, W) to the source's shape and integer type; floats become float32."""
    from imagewizard.diffusion import pixels

    if source.ndim == 2 or source.shape[2] == 1:
        estimate = estimate[:1]  # the network saw it three times over
    integer = source.dtype in (np.uint8, np.uint16)
    found = pixels.to_pixels(estimate, source.dtype) if integer else pixels.to_float(estimate)
    return (found[:, :, 0] if source.ndim == 2 else found).copy()


def _like(image: Any, array: np.ndarray) -> Any:
    """The array as the type that the user passed."""
    if isinstance(image, np.ndarray):
        return array
    from PIL import Image

    found = Image.fromarray(array)
    found.info = dict(image.info)
    return found
