"""Fits images of any size to a network: reflected edges, and overlapping tiles with feathered blending.

The layout depends only on the image's size, the network and the `denoise` section. So the result does not depend on
batch, device or memory.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The tiles of one image of `height` x `width`; all tiles are `tile_height` x `tile_width`."""

    height: int
    width: int
    tile_height: int
    tile_width: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]


def plan(height: int, width: int, multiple: int, tile: int, overlap: int) -> Layout:
    """The layout of an image in pixels: the fewest tiles of at most `tile` a side that overlap by `overlap` or more.

    Tiles are as small as their number allows, which saves up to half of the work of fixed-size tiles. Images of the
    same size, the usual case, still share one tile shape. Positions are multiples of `multiple`, so that the network's
    strides have the same phase in a tile as in the whole image.
    """
    tile_height, tops = _axis(height, multiple, tile, overlap)
    tile_width, lefts = _axis(width, multiple, tile, overlap)
    return Layout(height, width, tile_height, tile_width, tops, lefts)


def _axis(length: int, multiple: int, tile: int, overlap: int) -> tuple[int, tuple[int, ...]]:
    padded = math.ceil(length / multiple)  # in units of `multiple` from here on
    largest, shared = max(1, tile // multiple), math.ceil(overlap / multiple)
    if padded <= largest:
        return padded * multiple, (0,)
    shared = min(shared, largest // 2)
    count = math.ceil((padded - shared) / (largest - shared))
    size = math.ceil((padded + (count - 1) * shared) / count)
    starts = tuple(i * (padded - size) // (count - 1) * multiple for i in range(count))
    return size * multiple, starts


def split(image: Tensor, layout: Layout) -> list[Tensor]:
    """(C, height, width) → the tiles, row by row, each (C, tile_height, tile_width); the edges are reflected."""
    rows = _reflected(layout.height, layout.tops[-1] + layout.tile_height, image.device)
    columns = _reflected(layout.width, layout.lefts[-1] + layout.tile_width, image.device)
    padded = image.index_select(1, rows).index_select(2, columns)
    return [
        padded[:, top : top + layout.tile_height, left : left + layout.tile_width]
        for top in layout.tops
        for left in layout.lefts
    ]


def join(tiles: list[Tensor], layout: Layout) -> Tensor:
    """The inverse of `split`: (C, height, width); neighbouring tiles fade into each other across their overlap."""
    if len(tiles) == 1:
        return tiles[0][:, : layout.height, : layout.width]
    shape = (layout.tops[-1] + layout.tile_height, layout.lefts[-1] + layout.tile_width)
    total = torch.zeros(tiles[0].shape[0], *shape, device=tiles[0].device)
    weight = torch.zeros(shape, device=tiles[0].device)
    row_weights = _feather(layout.tile_height, layout.tops, total.device)
    column_weights = _feather(layout.tile_width, layout.lefts, total.device)
    remaining = iter(tiles)
    for top, rows in zip(layout.tops, row_weights, strict=True):
        for left, columns in zip(layout.lefts, column_weights, strict=True):
            window = torch.outer(rows, columns)
            area = (slice(top, top + layout.tile_height), slice(left, left + layout.tile_width))
            total[:, *area] += next(remaining) * window
            weight[area] += window
    return (total / weight)[:, : layout.height, : layout.width]


def _reflected(length: int, padded: int, device: torch.device) -> Tensor:
    """Indices 0 … padded-1, reflected into 0 … length-1 as often as needed; edge pixels are not repeated."""
    if length == 1:
        return torch.zeros(padded, dtype=torch.long, device=device)
    period = 2 * (length - 1)
    index = torch.arange(padded, device=device) % period
    return torch.minimum(index, period - index)


def _feather(size: int, starts: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """One weight profile per tile: 1 inside, and a linear ramp across each overlap; the two ramps there sum to 1."""
    profiles = []
    for index, start in enumerate(starts):
        profile = torch.ones(size, device=device)
        if index > 0:
            shared = starts[index - 1] + size - start
            profile[:shared] = (torch.arange(shared, device=device) + 0.5) / shared
        if index + 1 < len(starts):
            shared = start + size - starts[index + 1]
            profile[size - shared :] *= 1.0 - (torch.arange(shared, device=device) + 0.5) / shared
        profiles.append(profile)
    return profiles
