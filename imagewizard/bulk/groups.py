"""Groups of images: what a thread, or the device, works on at a time."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from imagewizard.bulk.block import LARGE_PIXELS
from imagewizard.bulk.samples import NoisySample, Row

# Fewer images would be mostly overhead, more would wait for each other where a block is small.
IMAGES = 16

Scores = dict[str, float | None]
"""Of one image, by the names of METRICS."""


@dataclass
class Group:
    """Samples of one shape and one noise, which go through the steps together; or what takes no part in them.

    What a step has made is where the steps of the device (GroupSteps) want it: on a GPU tensors of all N samples, on a
    CPU lists of arrays.
    """

    samples: list[NoisySample]
    rows: list[Row] = field(default_factory=list)
    """In the end, and of an image that came to nothing."""
    large: int | None = None
    """The number of an image in the block that is too large to go with others; `pixels` says how large."""
    pixels: int = 0
    clean: Any = None
    """The pictures' samples on a GPU: uint8 or uint16, (H, W, 1 or 3) each."""
    noisy: Any = None
    """float32, (H, W, 1 or 3) each, 0-255 scale, unclipped."""
    noisy_scores: list[Scores] = field(default_factory=list)
    """On a CPU, which compares a noisy image with the clean one while it is in the cache."""
    inputs: list[Tensor] = field(default_factory=list)
    """`noisy` for the model, without the noise's known mean: float32, (1 or 3, H, W), [-1, 1] scale."""
    estimates: list[Tensor] = field(default_factory=list)
    """What the model makes of them: (3, H, W)."""
    denoised: Any = None
    """The estimates as the pictures' samples are."""
    ready: torch.cuda.Event | None = None
    """On a GPU the end of the work on the tensors."""
    failure: Row | None = None
    """What a step has raised; none was tried after it."""
    seconds: float = 0.0
    """Of all steps."""


def formed(found: Iterable[NoisySample | Group], at_once: Callable[[int, int], int]) -> Iterator[Group]:
    """Groups of samples of one shape and noise, each as soon as it is full; a Group comes at once.

    `at_once`: how many images of a height and width fill a batch; a group has as many whole batches as IMAGES need. The
    samples that wait for others of their kind have no more pixels together than LARGE_PIXELS or than a group.
    """
    waiting: dict[Any, list[NoisySample]] = {}
    size = 0
    for sample in found:
        if isinstance(sample, Group):
            yield sample
            continue
        batch = at_once(*sample.picture.pixels.shape[:2])
        images = batch * math.ceil(IMAGES / batch)
        while waiting and size + sample.size > max(LARGE_PIXELS, images * sample.size):
            oldest = waiting.pop(next(iter(waiting)))
            size -= sum(each.size for each in oldest)
            yield Group(oldest)
        waiting.setdefault(sample.kind, []).append(sample)
        size += sample.size
        if len(waiting[sample.kind]) >= images:
            full = waiting.pop(sample.kind)
            size -= sum(each.size for each in full)
            yield Group(full)
    yield from map(Group, waiting.values())
