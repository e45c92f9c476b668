"""What becomes of a group's images before and after the model, on the model's device: noise, pixels and scores."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from imagewizard.bulk.groups import Group
from imagewizard.bulk.lanes import Lanes
from imagewizard.diffusion import pixels
from imagewizard.metrics import METRICS, Reference
from imagewizard.metrics import device as device_metrics
from imagewizard.noise.synthetic import Independent, Noise

Scores = dict[str, float | None]
"""Of one image, by the names of METRICS."""


class GroupSteps:
    """Steps for groups whose images have one shape and one noise. Thread-safe."""

    def __init__(self, device: torch.device, seed: int) -> None:
        """`seed`: of the run."""
        self._device, self._seed = device, seed
        self._by_numba = device.type == "cpu"
        self._lanes = Lanes(device, ("before", "after"))

    def prepare(self, group: Group) -> None:
        """Sets the group's `clean`, `noisy` and `inputs`. A known mean of the noise is taken off the inputs."""
        images = [sample.planes for sample in group.samples]
        noise = group.samples[0].noise
        with self._lanes.lane("before"):
            group.clean = self._lanes.sent(torch.from_numpy(np.stack(images)), self._device)
            group.noisy = self._noisy(group, images, noise)
            offset = noise.offset if noise else 0.0
            group.inputs = pixels.to_network(group.noisy - float(np.float32(offset)) if offset else group.noisy)
            group.ready = self._lanes.mark()

    def _noisy(self, group: Group, images: list[np.ndarray], noise: Noise | None) -> Tensor:
        """The images with their noise, or in restoration mode themselves: float32 (N, H, W, C), 0-255 scale."""
        if noise is None:
            return group.clean.float() / (pixels.WHITE[images[0].dtype] / 255)
        ids = [sample.image_id for sample in group.samples]
        if isinstance(noise, Independent) and not self._by_numba:
            return noise.add_batch(group.clean, ids, self._seed)
        noisy = [noise.add(image, image_id, self._seed) for image, image_id in zip(images, ids, strict=True)]
        return self._lanes.sent(torch.from_numpy(np.stack(noisy)), self._device)

    def noisy(self, group: Group) -> Sequence[np.ndarray]:
        """The group's `noisy` in the CPU's memory, of each sample: float32 (H, W, 1 or 3)."""
        with self._lanes.lane("before"):
            [found] = self._lanes.fetched(group.noisy)
        return list(found.numpy())

    def begin(self, group: Group) -> None:
        """To be called before the model gets the group's `inputs`, in the same thread."""
        self._lanes.wait(group.ready, group.inputs)

    def end(self, group: Group) -> None:
        """To be called after the model has given the group's `estimates`, in the same thread."""
        group.ready = self._lanes.mark()

    def set_pixels(self, group: Group) -> None:
        """Sets the group's `denoised`, of the pictures' type and channels.

        Raises FloatingPointError if an estimate is not finite.
        """
        dtype = group.samples[0].picture.pixels.dtype
        with self._lanes.lane("after"):
            self._lanes.wait(group.ready, *group.estimates)
            estimates = torch.stack([each[: group.clean.shape[3]] for each in group.estimates])
            group.estimates = []
            group.denoised = pixels.to_levels(estimates, dtype)
            [is_finite] = self._lanes.fetched(estimates.isfinite().all())
            group.ready = self._lanes.mark()
        if not is_finite:
            raise FloatingPointError("the model's estimate is not finite")

    def scores(self, group: Group) -> list[tuple[Scores, Scores]]:
        """Of each noisy image and its denoised one against the clean one."""
        with self._lanes.lane("after"):
            self._lanes.wait(group.ready, group.clean, group.noisy)
            if self._by_numba:
                clean, noisy, denoised = (each.numpy() for each in (group.clean, group.noisy, group.denoised))
                references = map(Reference, clean)
                return [(r.scores(n), r.scores(d)) for r, n, d in zip(references, noisy, denoised, strict=True)]
            both = [device_metrics.scores(group.clean, images) for images in (group.noisy, group.denoised)]
            [table] = self._lanes.fetched(torch.stack([found[name] for found in both for name in METRICS]))
        rows = [[None if np.isnan(value) else value for value in row] for row in table.T.tolist()]
        halves = ((row[: len(METRICS)], row[len(METRICS) :]) for row in rows)
        return [(_by_name(noisy), _by_name(denoised)) for noisy, denoised in halves]

    def images(self, group: Group) -> list[np.ndarray]:
        """The denoised images with as many channels as their pictures have."""
        with self._lanes.lane("after"):
            [denoised] = self._lanes.fetched(group.denoised)
        channels = group.samples[0].picture.pixels.shape[2]
        return [np.repeat(image, channels // image.shape[2], axis=2) for image in denoised.numpy()]


def _by_name(values: list[float | None]) -> Scores:
    return dict(zip(METRICS, values, strict=True))
