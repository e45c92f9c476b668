"""Noise, pixels and scores of a group on a CPU: image by image, so that each stays in the processor's cache."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from imagewizard.bulk import levels_kernel
from imagewizard.bulk.groups import Group, Scores
from imagewizard.bulk.samples import NoisySample
from imagewizard.bulk.stage_times import StageTimes
from imagewizard.diffusion import pixels
from imagewizard.metrics import Reference
from imagewizard.noise import kernel
from imagewizard.noise.synthetic import Independent


class CpuSteps:
    """The GroupSteps of a CPU, on one core."""

    def __init__(self, seed: int) -> None:
        """`seed`: of the run."""
        self._seed = seed
        self._load_kernels()

    def _load_kernels(self) -> None:
        """Has numba load all that it has compiled, or compile it, before the first block wants it."""
        clean = np.zeros((8, 8, 3), np.uint8)
        noisy, network = kernel.add(clean, 0, np.float32(1), 0.0)
        levels_kernel.write(network.transpose(2, 0, 1), 255, clean.copy())
        for image in (noisy, clean):
            Reference(clean).scores(image)

    def prepare(self, group: Group, times: StageTimes) -> None:
        group.noisy, group.noisy_scores, group.inputs = [], [], []
        for sample in group.samples:
            noisy, network = self._noisy(sample)
            group.inputs.append(network)
            if sample.level is None:  # as that of the whole group
                group.noisy.append(noisy)
            if sample.noise is not None:
                with times.timed("score"):
                    group.noisy_scores.append(Reference(sample.planes).scores(noisy))

    def _noisy(self, sample: NoisySample) -> tuple[np.ndarray, Tensor]:
        """With its noise: (H, W, 1 or 3), and the network's input."""
        if sample.noise is None:
            scale = np.float32(pixels.WHITE[sample.planes.dtype] / 255)
            noisy, offset = (sample.planes / scale).astype(np.float32, copy=False), np.float32(0)
        elif isinstance(sample.noise, Independent):
            key, deviation = sample.noise.key(sample.image_id, self._seed), sample.noise.deviation(sample.planes)
            noisy, network = kernel.add(sample.planes, key, deviation, sample.noise.offset)
            return noisy, torch.from_numpy(network).movedim(-1, -3)
        else:
            noisy = sample.noise.add(sample.planes, sample.image_id, self._seed)
            offset = np.float32(sample.noise.offset)
        return noisy, pixels.to_network(torch.from_numpy(noisy - offset))

    def noisy(self, group: Group) -> Sequence[np.ndarray]:
        return group.noisy

    def begin(self, group: Group) -> None:
        """The CPU does one thing after the other."""

    def end(self, group: Group) -> None:
        """The CPU does one thing after the other."""

    def set_pixels(self, group: Group) -> None:
        group.denoised = []
        for sample, estimate in zip(group.samples, group.estimates, strict=True):
            planes = sample.planes
            denoised = np.empty(planes.shape, planes.dtype)
            if not levels_kernel.write(estimate[: planes.shape[2]].numpy(), pixels.WHITE[planes.dtype], denoised):
                raise FloatingPointError("the model's estimate is not finite")
            group.denoised.append(denoised)

    def scores(self, group: Group) -> list[tuple[Scores, Scores]]:
        images = zip(group.samples, group.denoised, strict=True)
        denoised = [Reference(sample.planes).scores(image) for sample, image in images]
        return list(zip(group.noisy_scores, denoised, strict=True))

    def images(self, group: Group) -> list[np.ndarray]:
        pairs = zip(group.samples, group.denoised, strict=True)
        return [sample.with_its_channels(image) for sample, image in pairs]
