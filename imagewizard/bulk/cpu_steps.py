"""Noise, pixels and scores of a group on a CPU: image by image, so that each stays in the processor's cache."""

from collections.abc import Sequence

import numpy as np
import torch

from imagewizard.bulk import levels_kernel
from imagewizard.bulk.group_steps import Scores
from imagewizard.bulk.groups import Group
from imagewizard.diffusion import pixels
from imagewizard.metrics import Reference
from imagewizard.noise import kernel
from imagewizard.noise.synthetic import Independent


class CpuSteps:
    """The GroupSteps of a CPU, on one core."""

    def __init__(self, seed: int) -> None:
        """`seed`: of the run."""
        self._seed = seed

    def prepare(self, group: Group) -> None:
        group.noisy, group.inputs = [], []
        for sample in group.samples:
            if sample.noise is None:
                scale = np.float32(pixels.WHITE[sample.planes.dtype] / 255)
                noisy = (sample.planes / scale).astype(np.float32, copy=False)
                network = pixels.to_network(torch.from_numpy(noisy))
            elif isinstance(sample.noise, Independent):
                key, deviation = sample.noise.key(sample.image_id, self._seed), sample.noise.deviation(sample.planes)
                noisy, samples = kernel.add(sample.planes, key, deviation, sample.noise.offset)
                network = torch.from_numpy(samples).movedim(-1, -3)
            else:
                noisy = sample.noise.add(sample.planes, sample.image_id, self._seed)
                network = pixels.to_network(torch.from_numpy(noisy - np.float32(sample.noise.offset)))
            group.noisy.append(noisy)
            group.inputs.append(network)

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
        found = []
        for sample, noisy, denoised in zip(group.samples, group.noisy, group.denoised, strict=True):
            reference = Reference(sample.planes)
            found.append((reference.scores(noisy), reference.scores(denoised)))
        return found

    def images(self, group: Group) -> list[np.ndarray]:
        pairs = zip(group.samples, group.denoised, strict=True)
        return [sample.with_its_channels(image) for sample, image in pairs]
