"""What becomes of a group before and after the model: noise, pixels and scores, computed where the model is."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from imagewizard.bulk.groups import Group, Scores
from imagewizard.bulk.stage_times import StageTimes


class GroupSteps(Protocol):
    """Steps for groups whose images have one shape and one noise, in this order. Thread-safe."""

    def prepare(self, group: Group, times: StageTimes) -> None:
        """Adds the noise, and sets the group's `inputs`, without the noise's known mean.

        `times`: of the block. What it does of another stage counts there.
        """

    def noisy(self, group: Group) -> Sequence[np.ndarray]:
        """The images with their noise, or in restoration mode themselves: float32 (H, W, 1 or 3), 0-255 scale.

        To find their level: where it is known there may be none.
        """

    def begin(self, group: Group) -> None:
        """Before the model gets the group's `inputs`, in the same thread."""

    def end(self, group: Group) -> None:
        """After the model has given the group's `estimates`, in the same thread."""

    def set_pixels(self, group: Group) -> None:
        """Sets the group's `denoised`. Raises FloatingPointError if an estimate is not finite."""

    def scores(self, group: Group) -> list[tuple[Scores, Scores]]:
        """Of each noisy image and of its denoised one, compared with the clean one."""

    def images(self, group: Group) -> list[np.ndarray]:
        """The denoised images, of the type and channels of their pictures."""
