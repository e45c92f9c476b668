"""The level of noise that is not white, in the terms of white noise."""

import numpy as np
import pytest

from imagewizard.noise.effective import effective_level


def white(sigma: float, *shape: int) -> np.ndarray:
    return sigma * np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("sigma", [2.0, 25.0])
@pytest.mark.parametrize("shape", [(240, 301, 3), (300, 241, 1)])
def test_of_white_noise_it_is_the_deviation(sigma: float, shape: tuple[int, int, int]) -> None:
    assert effective_level(white(sigma, *shape)) == pytest.approx(sigma, rel=0.02)


def test_of_smeared_noise_it_is_more_than_the_deviation() -> None:
    noise = white(10.0, 301, 301, 3)
    smeared = (noise[1:, 1:] + noise[:-1, 1:] + noise[1:, :-1] + noise[:-1, :-1]) / 4
    assert smeared.std() == pytest.approx(5.0, rel=0.02)
    # A block's sum has the weights (1 2 2 1) x (1 2 2 1) / 4 on pixels of white noise.
    assert effective_level(smeared) == pytest.approx(10.0 * 10 / 4 / 3, rel=0.03)
    assert effective_level(np.kron(white(5.0, 90, 90, 3), np.ones((3, 3, 1), np.float32))) == pytest.approx(
        15, rel=0.03
    )


def test_channels_that_share_their_noise_count_as_others() -> None:
    assert effective_level(np.repeat(white(10.0, 200, 200, 1), 3, axis=2)) == pytest.approx(10.0, rel=0.03)


def test_of_an_image_too_small_for_a_block_it_is_the_deviation() -> None:
    noise = white(10.0, 2, 50, 3)
    assert effective_level(noise) == pytest.approx(float(noise.std()), rel=1e-6)
    assert effective_level(np.zeros((50, 50, 3), np.float32)) == 0.0
