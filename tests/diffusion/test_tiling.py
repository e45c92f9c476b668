"""Tile weights sum to 1 at every pixel for any image size, and joined tiles give the image back."""

import itertools

import pytest
import torch

from imagewizard.diffusion import tiling

SIZES = [1, 2, 7, 8, 63, 64, 65, 100, 129, 200, 333]


@pytest.mark.parametrize(("height", "width"), list(itertools.product(SIZES, SIZES[::3])))
def test_split_and_join_give_the_image_back(height: int, width: int) -> None:
    image = torch.randn(3, height, width, generator=torch.Generator().manual_seed(0))
    layout = tiling.plan(height, width, multiple=8, tile=64, overlap=16)
    tiles = tiling.split(image, layout)
    assert {tile.shape for tile in tiles} == {(3, layout.tile_height, layout.tile_width)}
    assert layout.tile_height <= 64 and layout.tile_height % 8 == 0
    torch.testing.assert_close(tiling.join(tiles, layout), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [65, 100, 127, 500, 2001])
def test_neighbours_overlap_as_configured_with_the_fewest_tiles(length: int) -> None:
    layout = tiling.plan(length, 1, multiple=8, tile=64, overlap=16)
    for first, second in itertools.pairwise(layout.tops):
        assert first + layout.tile_height - second >= 16
        assert second % 8 == 0
    assert layout.tops[-1] + layout.tile_height >= length
    assert len(layout.tops) == -(-(-(-length // 8) - 2) // (8 - 2))  # each tile after the first adds 48 new pixels


def test_an_image_within_the_tile_is_one_tile_without_waste() -> None:
    layout = tiling.plan(321, 481, multiple=8, tile=512, overlap=48)
    assert (layout.tile_height, layout.tile_width) == (328, 488)
    assert layout.tops == layout.lefts == (0,)


def test_edges_are_reflected_without_repeating_the_edge_pixel() -> None:
    image = torch.arange(3.0).view(1, 1, 3)
    (tile,) = tiling.split(image, tiling.plan(1, 3, multiple=8, tile=64, overlap=0))
    assert tile[0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert (tile[0] == tile[0, 0]).all()  # a single row reflects itself


def test_tiles_fade_into_each_other() -> None:
    """Two constant tiles of different values blend in a ramp, without a step."""
    layout = tiling.plan(8, 112, multiple=8, tile=64, overlap=16)
    tiles = [torch.full((1, layout.tile_height, layout.tile_width), value) for value in (0.0, 1.0)]
    row = tiling.join(tiles, layout)[0, 0]
    steps = row.diff()
    assert row[0] == 0.0 and row[-1] == 1.0
    assert steps.min() >= 0.0
    assert steps.max() <= 1.0 / 16 + 1e-6
