"""The level finder's network and the arithmetic around it."""

import torch

from imagewizard.noise.finder import CELL, CellNoise, LevelFinder, cell_share, varied


def test_each_cell_has_an_estimate():
    found = LevelFinder()(torch.rand(2, 3, 5 * CELL, 3 * CELL) * 255)
    assert all(part.shape == (2, 5, 3) and part.isfinite().all() for part in found)


def test_pooling_trusts_cells_without_doubt_and_ignores_those_that_do_not_count():
    std = torch.tensor([[[1.0, 3.0, 9.0]]])
    doubt = torch.tensor([[[0.0, -1.0, -2.0]]])
    share = torch.tensor([[[1.0, 1.0, 0.0]]])
    pooled = CellNoise(std, 2 * std, doubt).pooled(share)
    sure = torch.exp(torch.tensor(2.0))
    assert torch.allclose(pooled.std, (1.0 + 3.0 * sure) / (1.0 + sure))
    assert torch.allclose(pooled.level, 2 * pooled.std)
    assert torch.allclose(torch.exp(-2.0 * pooled.doubt), (1.0 + sure) / 2)
    assert all(part.isfinite().all() for part in CellNoise(std, std, doubt).pooled(0 * share))


def test_flat_pixels_do_not_vary_and_their_neighbours_do():
    image = torch.zeros(1, 3, 8, 8)
    image[0, 1, 4, 4] = 0.5
    found = varied(image)[0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[4, 3:6] = expected[3:6, 4] = True
    assert torch.equal(found, expected)
    assert cell_share(varied(image)).item() == 5 / 64
