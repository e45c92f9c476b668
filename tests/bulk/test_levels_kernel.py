"""The compiled conversion gives what torch gives, for both layouts, and tells what is not finite."""

import numpy as np
import pytest
import torch

from imagewizard.bulk import levels_kernel
from imagewizard.diffusion import pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("by_pixels", [False, True])
def test_it_rounds_and_clamps_as_torch_does(dtype: type, channels: int, by_pixels: bool) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.8, (channels, 40, 56)).astype(np.float32)
    ties = (np.arange(40 * 56, dtype=np.float32).reshape(40, 56) % 510 / 255 - 1) + np.float32(1 / 510)
    values[0] = ties  # halves of a level, as far as float32 holds them
    if by_pixels:
        values = np.moveaxis(np.moveaxis(values, 0, -1).copy(), -1, 0)
    out = np.empty((40, 56, channels), dtype)
    assert levels_kernel.write(values, pixels.WHITE[out.dtype], out)
    np.testing.assert_array_equal(out, pixels.to_levels(torch.from_numpy(values), out.dtype).numpy())
    assert {0, pixels.WHITE[out.dtype]} <= set(out.ravel().tolist()) or channels == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_told(bad: float) -> None:
    values = np.zeros((3, 4, 5), np.float32)
    values[1, 2, 3] = bad
    out = np.empty((4, 5, 3), np.uint8)
    assert not levels_kernel.write(values, 255, out)
    np.testing.assert_array_equal(out, pixels.to_levels(torch.from_numpy(values), out.dtype).numpy())
