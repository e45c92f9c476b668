"""Groups of images: what a thread, or the device, works on at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from imagewizard.bulk.block import LARGE_PIXELS
from imagewizard.bulk.samples import NoisySample, Row

# Fewer images would be mostly overhead, more would wait for
# each other where a block is small.
IMAGES = 16


@dataclass
class Group:
    """Samples of one shape, which go through the steps together; or what takes no part in them."""

    samples: list[NoisySample]
    rows: list[Row] = field(default_factory=list)
    """In the end, and of an image that came to nothing."""
    large: int | None = None
    """The number of an image in the block that is too large to go with others; `pixels` says how large."""
    pixels: int = 0
    estimates: list[Tensor] = field(default_factory=list)
    failure: Row | None = None
    """What a step has raised; none was tried after it."""
    seconds: float = 0.0
    """Of all steps."""


def formed(found: Iterable[NoisySample | Group], images: int) -> Iterator[Group]:
    """Groups of up to `images` samples of equal shape, each as soon as it is full; a Group comes as it is, at once.

    The samples that wait for others of their shape have no more than LARGE_PIXELS together.
    """
    waiting: dict[Any, list[NoisySample]] = {}
    size = 0
    for sample in found:
        if isinstance(sample, Group):
            yield sample
            continue
        while waiting and size + sample.size > LARGE_PIXELS:
            oldest = waiting.pop(next(iter(waiting)))
            size -= sum(each.size for each in oldest)
            yield Group(oldest)
        shape = sample.picture.pixels.shape, sample.picture.pixels.dtype
        waiting.setdefault(shape, []).append(sample)
        size += sample.size
        if len(waiting[shape]) >= images:
            full = waiting.pop(shape)
            size -= sum(each.size for each in full)
            yield Group(full)
    yield from map(Group, waiting.values())
