"""Noise, pixels and scores of a group on a GPU: images cross the bus once each way, as integers.

Copies, noise and scores have streams of their own beside the model's, and no thread waits but for its results.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from imagewizard.bulk.groups import Group, Scores
from imagewizard.bulk.lanes import Lanes
from imagewizard.bulk.stage_times import StageTimes
from imagewizard.diffusion import pixels
from imagewizard.metrics import METRICS
from imagewizard.metrics import device as device_metrics
from imagewizard.noise.synthetic import Independent


class GpuSteps:
    """The GroupSteps of a GPU. Its operations run on a CPU too, more slowly than those of CpuSteps."""

    def __init__(self, device: torch.device, seed: int) -> None:
        """`seed`: of the run."""
        self._device, self._seed = device, seed
        self._lanes = Lanes(device, ("before", "after"))

    def prepare(self, group: Group, times: StageTimes) -> None:
        noise = group.samples[0].noise
        with self._lanes.lane("before"):
            group.clean = self._lanes.sent(_stack([sample.planes for sample in group.samples]), self._device)
            group.noisy = self._noisy(group)
            offset = float(np.float32(noise.offset)) if noise else 0.0
            group.inputs = list(pixels.to_network(group.noisy - offset if offset else group.noisy))
            group.ready = self._lanes.mark()

    def _noisy(self, group: Group) -> Tensor:
        """float32 (N, H, W, 1 or 3), 0-255 scale."""
        noise, images = group.samples[0].noise, [sample.planes for sample in group.samples]
        if noise is None:
            return group.clean.float() / (pixels.WHITE[images[0].dtype] / 255)
        ids = [sample.image_id for sample in group.samples]
        if isinstance(noise, Independent):
            return noise.add_batch(group.clean, ids, self._seed)
        # A camera's noise goes through a JPEG, which the CPU writes.
        noisy = [noise.add(*each, self._seed) for each in zip(images, ids, strict=True)]
        return self._lanes.sent(_stack(noisy), self._device)

    def noisy(self, group: Group) -> Sequence[np.ndarray]:
        with self._lanes.lane("before"):
            [found] = self._lanes.fetched(group.noisy)
        return list(found.numpy())

    def begin(self, group: Group) -> None:
        self._lanes.wait(group.ready, *group.inputs)

    def end(self, group: Group) -> None:
        group.ready = self._lanes.mark()

    def set_pixels(self, group: Group) -> None:
        with self._lanes.lane("after"):
            self._lanes.wait(group.ready, *group.estimates)
            estimates = torch.stack([each[: group.clean.shape[3]] for each in group.estimates])
            group.denoised = pixels.to_levels(estimates, group.samples[0].planes.dtype)
            [is_finite] = self._lanes.fetched(estimates.isfinite().all())
        if not is_finite:
            raise FloatingPointError("the model's estimate is not finite")

    def scores(self, group: Group) -> list[tuple[Scores, Scores]]:
        with self._lanes.lane("after"):
            self._lanes.wait(group.ready, group.clean, group.noisy)
            both = [device_metrics.scores(group.clean, images) for images in (group.noisy, group.denoised)]
            [table] = self._lanes.fetched(torch.stack([found[name] for found in both for name in METRICS]))
        rows = [[None if np.isnan(value) else value for value in row] for row in table.T.tolist()]
        return [(_by_name(row[: len(METRICS)]), _by_name(row[len(METRICS) :])) for row in rows]

    def images(self, group: Group) -> list[np.ndarray]:
        with self._lanes.lane("after"):
            [denoised] = self._lanes.fetched(group.denoised)
        pairs = zip(group.samples, denoised.numpy(), strict=True)
        return [sample.with_its_channels(image) for sample, image in pairs]


def _stack(images: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images))


def _by_name(values: list[float | None]) -> Scores:
    return dict(zip(METRICS, values, strict=True))
