"""Samples for the level finder: noise of many kinds, and the truth about it."""

import numpy as np
import pytest

from imagewizard.noise.effective import BLOCK, effective_level
from imagewizard.training import level_samples
from tests.support.scenes import scene

SIDE, CELL = 96, 8


@pytest.fixture(scope="module")
def samples():
    images = [scene(), scene(300, 200)]
    return [level_samples.draw(images, np.random.default_rng(seed), SIDE, CELL) for seed in range(200)]


def test_samples_have_one_shape_and_finite_truths(samples):
    for noisy, std, level in samples:
        assert noisy.shape == (SIDE, SIDE, 3) and noisy.dtype == np.float32
        assert std.shape == level.shape == (SIDE // CELL, SIDE // CELL)
        assert np.isfinite(noisy).all() and (std >= 0).all() and np.isfinite(level).all()


def test_there_is_white_noise_smeared_noise_and_none(samples):
    levels = np.array([[std.mean(), level.mean()] for _, std, level in samples])
    none = levels[:, 0] == 0
    white = ~none & (levels[:, 0] == levels[:, 1])
    smeared = levels[:, 1] > 1.5 * levels[:, 0]
    assert all(0.05 < kind.mean() < 0.6 for kind in (none, white, smeared))


def test_a_sample_is_a_function_of_the_generator():
    first, again = (level_samples.draw([scene()], np.random.default_rng(3), SIDE, CELL) for _ in range(2))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))


def test_the_truth_around_a_cell_is_that_of_the_noise_there():
    noise = np.random.default_rng(0).standard_normal((SIDE, SIDE, 3)).astype(np.float32)
    noise[:, SIDE // 2 :] *= 9
    for block in (1, BLOCK):
        found = level_samples.around(noise, block, CELL)
        assert found[:, :2] == pytest.approx(1.0, rel=0.2)
        assert found[:, -2:] == pytest.approx(9.0, rel=0.2)


def test_the_level_is_that_which_training_on_pairs_tells():
    smeared = np.cumsum(np.random.default_rng(0).standard_normal((SIDE, SIDE, 3)), axis=1).astype(np.float32)
    smeared = smeared[:, 3:] - smeared[:, :-3]
    smeared = np.pad(smeared, ((0, 0), (0, 3), (0, 0)), "wrap")
    found = level_samples.around(smeared, BLOCK, CELL)
    assert np.sqrt(np.square(found).mean()) == pytest.approx(effective_level(smeared), rel=0.1)


def test_what_a_jpeg_does_to_the_picture_is_no_noise():
    clean = scene(SIDE, SIDE)
    for seed in range(20):
        same, again = level_samples._compressed(np.random.default_rng(seed), clean, clean)
        assert np.array_equal(same, again) and not np.array_equal(same, clean)


def test_a_framed_piece_ends_at_an_edge():
    piece = np.random.default_rng(0).uniform(1, 254, (64, 64, 3)).astype(np.float32)
    for seed in range(20):
        framed = level_samples._framed(piece, np.random.default_rng(seed))
        share = (framed == framed.round()).all(2).mean()
        assert 0 < share <= 0.75 and framed.shape == piece.shape
