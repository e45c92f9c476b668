"""The denoiser: takes noisy images of any size, returns denoised ones, with any restorer, device and batch size.

It handles tiles, batches and lack of memory; the Restorer makes the estimate.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from imagewizard.config.denoise import DenoiseSection
from imagewizard.diffusion import tiling

CLIPPED = 0.001
"""An image is clipped if more than this share of its values is exactly black or white.

Clipping moves a clipped value by 0.8 sigma on average, so a smaller share moves the mean by at most 0.06 grey levels
(at sigma 75).
"""


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """The fastest type with results within 0.01 dB of float32: bfloat16 if the hardware supports it."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


class Restorer(Protocol):
    """Estimates clean images from noisy ones of suitable size. models/restorers.py lists the kinds."""

    multiple: int
    """Height and width of its images must be multiples of this many pixels."""
    max_sigma: float
    """The highest noise level that it supports, 0-255 scale."""

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Moves it to `device`; from then on it computes in `dtype`."""

    def estimate(self, noisy: Tensor, sigmas: list[float]) -> Tensor:
        """Estimates of the clean images, unclamped: float32, (N, 3, H, W), [-1, 1] scale, like `noisy`.

        `sigmas`: the level of each image, > 0, 0-255 scale. Raises UserError for a level above `max_sigma`.
        """

    def best_batch(self, tile: torch.Size) -> int:
        """How many tiles of shape (3, H, W) to estimate at once where it is; measured. Raises what `estimate` does."""

    def timestep(self, sigma: float) -> float | None:
        """The timestep of a level in a DDPM's schedule (0-based, fractional); None for level 0 or other restorers."""


class Denoiser:
    """A restorer with the options of the `denoise` section, loaded on one device, for images of any size.

    Call it with noisy images (float32, (3, H, W), [-1, 1] scale, unclipped, any size from 1x1) and their noise levels
    (0-255 scale). It returns estimates of the clean images, with the same shapes, unclamped, on the device that the
    images are on. If that is the restorer's own, nothing waits for it. An image with sigma 0 is returned unchanged. The
    estimate of a grey image, with three equal planes, is grey. An estimate has the noisy image's mean colour, unless
    its noise was clipped. Not thread-safe.
    """

    def __init__(
        self,
        restorer: Restorer,
        options: DenoiseSection,
        batch_size: int | None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """`batch_size`: images or tiles at once; None: as many as the restorer measures to be best."""
        self.restorer = restorer
        self.device = device or default_device()
        self.dtype = dtype or default_dtype(self.device)
        self.restorer.to(self.device, self.dtype)
        self.options = options
        self.batch_size = batch_size
        self._batch_pixels: int | None = None
        """Pixels of a batch whose size was measured. Work and memory grow with them, so one measurement serves tiles of
        all shapes."""

    @torch.inference_mode()
    def __call__(self, noisy: Sequence[Tensor], sigmas: Sequence[float]) -> list[Tensor]:
        """See the class. Raises UserError if a sigma is too high, MemoryError if a tile does not fit into memory."""
        layouts = [
            tiling.plan(image.shape[1], image.shape[2], self.restorer.multiple, self.options.tile, self.options.overlap)
            for image in noisy
        ]
        tiles = [tiling.split(image, layout) for image, layout in zip(noisy, layouts, strict=True)]
        for batch in self._batches(tiles, sigmas):
            inputs = torch.stack([tiles[image][tile] for image, tile in batch])
            outputs = self._within_memory(inputs, [sigmas[image] for image, _ in batch])
            for (image, tile), output in zip(batch, outputs, strict=True):
                tiles[image][tile] = output
        estimates = [tiling.join(parts, layout) for parts, layout in zip(tiles, layouts, strict=True)]
        return [
            _matched(estimate, image) if sigma > 0 else estimate
            for estimate, image, sigma in zip(estimates, noisy, sigmas, strict=True)
        ]

    def _batches(self, tiles: list[list[Tensor]], sigmas: Sequence[float]) -> Iterator[list[tuple[int, int]]]:
        """Batches of (image, tile) indices; tiles of one shape share batches across images."""
        by_shape: dict[torch.Size, list[tuple[int, int]]] = defaultdict(list)
        for image, parts in enumerate(tiles):
            if sigmas[image] > 0:
                for tile, part in enumerate(parts):
                    by_shape[part.shape].append((image, tile))
        for shape, members in by_shape.items():
            size = self._size_of(shape)
            for start in range(0, len(members), size):
                yield members[start : start + size]

    def images_at_once(self, height: int, width: int) -> int:
        """How many images of this size fill a batch; 1 if one has more tiles than a batch. May measure that first."""
        options = self.options
        layout = tiling.plan(height, width, self.restorer.multiple, options.tile, options.overlap)
        tiles = len(layout.tops) * len(layout.lefts)
        return max(1, self._size_of(torch.Size((3, layout.tile_height, layout.tile_width))) // tiles)

    def _size_of(self, tile: torch.Size) -> int:
        """How many tiles of shape (3, H, W) make a batch."""
        if self.batch_size is not None:
            return self.batch_size
        pixels = tile[1] * tile[2]
        if self._batch_pixels is None:
            self._batch_pixels = self.restorer.best_batch(tile) * pixels
        return max(1, self._batch_pixels // pixels)

    def _within_memory(self, noisy: Tensor, sigmas: list[float]) -> Tensor:
        """Denoises a batch. If it does not fit into memory, denoises its halves and keeps the smaller batch size."""
        try:
            return self._denoise(noisy.to(self.device), sigmas).to(noisy.device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        height, width = noisy.shape[2:]
        if len(sigmas) == 1:
            raise MemoryError(f"a tile of {width}x{height} does not fit into the {self.device.type}'s memory")
        # Outside of `except`: its traceback would keep the failed attempt's tensors alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = (len(sigmas) + 1) // 2
        if self.batch_size is None:
            self._batch_pixels = half * height * width
        else:
            self.batch_size = min(self.batch_size, half)
        return torch.cat([self._within_memory(noisy[s], sigmas[s]) for s in (slice(half), slice(half, None))])

    def _denoise(self, noisy: Tensor, sigmas: list[float]) -> Tensor:
        if not self.options.ensemble:
            return self.restorer.estimate(noisy, sigmas)
        # Estimates all eight flips and quarter turns, undoes each, and averages.
        total = torch.zeros_like(noisy)
        for turns in range(4):
            for flip in (False, True):
                view = torch.rot90(noisy.flip(3) if flip else noisy, turns, (2, 3))
                estimate = torch.rot90(self.restorer.estimate(view, sigmas), -turns, (2, 3))
                total += estimate.flip(3) if flip else estimate
        return total / 8.0


def _matched(estimate: Tensor, noisy: Tensor) -> Tensor:
    """The estimate, grey if `noisy` is grey, and with its mean colour; both (3, H, W). It is changed in place.

    White noise has no mean, so the mean over a noisy image is the best estimate of the clean one's. A network's own is
    some tenths of a grey level beside it. Noise that was clipped has a mean, and the estimate keeps its own. The
    choices are made on the tensors' device, so that Python does not wait for it.
    """
    is_grey = (noisy[1:] == noisy[:1]).all()
    torch.where(is_grey, estimate.mean(0, keepdim=True), estimate, out=estimate)
    shift = noisy.mean((1, 2), keepdim=True) - estimate.mean((1, 2), keepdim=True)
    shift = torch.where(is_grey, shift[:1], shift)  # sums of equal planes may be rounded differently
    at_ends = torch.count_nonzero(noisy == -1.0) + torch.count_nonzero(noisy == 1.0)
    return estimate.add_(shift.masked_fill_(at_ends > CLIPPED * noisy.numel(), 0.0))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out. On the CPU, torch has no exception class for it, so the text decides."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
