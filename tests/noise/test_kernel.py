"""The compiled draws equal numpy's, bit for bit."""

import numpy as np
import pytest
import torch

from imagewizard import seeding
from imagewizard.diffusion import pixels
from imagewizard.noise import kernel, normal
from imagewizard.noise.synthetic import Gaussian, Independent, PoissonGaussian

KEYS = [seeding.key(1, "a"), 0, 1, 2**64 - 1, 2**64, 2**127 + 5, 2**128 - 1]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 8191, 8192, 8193, 100_000])
def test_values_equal_numpys(key: int, count: int) -> None:
    """Counts around a block of eight and around the blocks that are drawn at a time."""
    found = kernel.standard_normal(key, count)
    words = seeding.words(key, -(-count // 2))
    assert found.dtype == np.float32 and found.shape == (count,)
    assert found.tobytes() == normal.standard_normal(words)[:count].tobytes()


def test_the_ends_of_the_table() -> None:
    """The likeliest and the rarest tails, of both signs, which no short stream holds."""
    bits = np.array([0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1, 0x7FFFFF00], np.uint32)
    tails, values = np.empty(len(bits), np.float32), np.empty(len(bits), np.float32)
    kernel._find_tails(bits, tails)
    kernel._look_up(bits, tails.view(np.uint32), *normal.table(), values)
    assert values.tobytes() == normal.standard_normal(bits.view("<u8")).tobytes()


@pytest.mark.parametrize("noise", [Gaussian(25.0), Gaussian(3.0, mean=-4.7), PoissonGaussian(a=0.7, b=30.0)])
@pytest.mark.parametrize("shape", [(0, 5, 3), (1, 1, 1), (3, 3, 1), (51, 57, 3), (64, 43, 3), (128, 64, 1)])
def test_noise_for_an_image_equals_that_of_each_step(noise: Independent, shape: tuple[int, ...]) -> None:
    """Sizes around the samples that are drawn at a time, which are 8192."""
    clean = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    noisy, network = kernel.add(clean, noise.key("a", 5), noise.deviation(clean), noise.offset)
    expected = noise.add(clean, "a", 5)
    assert noisy.tobytes() == expected.tobytes()
    tensor = pixels.to_network(torch.from_numpy(expected - np.float32(noise.offset)))
    assert torch.equal(torch.from_numpy(network).movedim(-1, -3), tensor)


def test_a_plane_of_an_image_gets_its_noise() -> None:
    """Its samples are three bytes apart."""
    clean, noise = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)[:, :, :1], Gaussian(25.0)
    noisy, _ = kernel.add(clean, noise.key("a", 5), noise.deviation(clean), 0.0)
    assert np.array_equal(noisy, noise.add(clean, "a", 5))
