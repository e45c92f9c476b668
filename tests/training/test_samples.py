"""Training samples are a function of seed, epoch and image alone; each epoch draws each image once."""

import itertools

import numpy as np
import pytest

from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.training.samples import LEVELS, crop, key, levels, places, version
from tests.support.models import LINEAR

SCHEDULE = NoiseSchedule.from_config(LINEAR)


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def views(patch: np.ndarray) -> dict[tuple[int, bool], np.ndarray]:
    """All eight turns and flips of an image."""
    turned = {turns: np.rot90(patch, turns) for turns in range(4)}
    return {(k, flip): view[:, ::-1] if flip else view for k, view in turned.items() for flip in (False, True)}


# --- order


def test_each_epoch_draws_each_image_once_in_its_own_order() -> None:
    numbers, indices = places(0, 10, 0, 60)
    assert numbers.tolist() == [position // 10 for position in range(60)]
    epochs = [tuple(indices[start : start + 10].tolist()) for start in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(epochs)) == 6


def test_order_depends_on_the_seed_but_not_on_the_first_position() -> None:
    epochs, indices = places(3, 7, 0, 28)
    for first, count in ((0, 1), (5, 9), (27, 1), (13, 15)):
        found = places(3, 7, first, count)
        assert np.array_equal(found[0], epochs[first : first + count])
        assert np.array_equal(found[1], indices[first : first + count])
    assert not np.array_equal(places(4, 7, 0, 28)[1], indices)


# --- crops


def test_all_positions_turns_and_flips_occur() -> None:
    picture = image(20, 30)
    known = {}
    for top, left in itertools.product(range(5), range(15)):
        for (turns, flip), view in views(picture[top : top + 16, left : left + 16]).items():
            known[view.tobytes()] = (top, left, turns, flip)
    crops = [crop(picture, 16, key(0, "a"), epoch) for epoch in range(500)]
    assert all(patch.shape == (16, 16, 3) and patch.dtype == np.uint8 for patch in crops)
    found = [known[patch.tobytes()] for patch in crops]
    for what, count in enumerate((5, 15, 4, 2)):  # every row, column, turn and flip occurs about equally often
        times = np.bincount([drawn[what] for drawn in found])
        assert len(times) == count and times.min() > 0.4 * 500 / count


def test_crop_depends_on_seed_epoch_and_image() -> None:
    picture = image(60, 60)
    wanted = [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]
    crops = [crop(picture, 16, key(seed, image_id), epoch).tobytes() for seed, epoch, image_id in wanted]
    assert len(set(crops)) == 4
    again = [crop(picture, 16, key(seed, image_id), epoch).tobytes() for seed, epoch, image_id in wanted[::-1]]
    assert again == crops[::-1]


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 10), (10, 10), (5, 3), (1, 1)])
def test_smaller_images_are_reflected(height: int, width: int) -> None:
    picture = image(height, width)
    found = crop(picture, 16, key(0, "a"), 0)
    assert found.shape == (16, 16, 3)
    padded = np.pad(picture, ((0, max(0, 16 - height)), (0, max(0, 16 - width)), (0, 0)), mode="reflect")
    places = itertools.product(range(padded.shape[0] - 15), range(padded.shape[1] - 15))
    windows = [padded[top : top + 16, left : left + 16] for top, left in places]
    assert any(np.array_equal(view, window) for view in views(found).values() for window in windows)


# --- noisy versions


def test_version_is_a_share_and_all_occur() -> None:
    found = [version(0.4, 4, key(0, "a"), epoch) for epoch in range(1000)]
    counts = {number: found.count(number) for number in (None, 0, 1, 2, 3)}
    assert sum(counts.values()) == 1000 and 540 < counts[None] < 660
    assert all(65 < counts[number] < 140 for number in range(4))
    assert found == [version(0.4, 4, key(0, "a"), epoch) for epoch in range(1000)]
    assert found != [version(0.4, 4, key(0, "b"), epoch) for epoch in range(1000)]
    assert {version(1.0, 1, key(0, "a"), epoch) for epoch in range(1000)} == {0}
    assert {version(0.0, 0, key(0, "a"), epoch) for epoch in range(1000)} == {None}


# --- noise levels


def distance_from_uniform(values: np.ndarray, least: float, greatest: float) -> float:
    """Kolmogorov-Smirnov statistic: the greatest difference between the distribution functions."""
    assert least <= values.min() and values.max() <= greatest
    expected = (np.sort(values) - least) / (greatest - least)
    return float(np.abs(expected - np.linspace(0, 1, len(values))).max())


def test_levels_are_uniform_in_sigma_or_in_the_timestep() -> None:
    wide = (2.0, 1000.0)  # up to 60 both are nearly the same
    assert distance_from_uniform(levels(wide), *wide) < 1e-3
    sigmas = levels(wide, SCHEDULE)
    assert len(sigmas) == LEVELS and distance_from_uniform(sigmas, *wide) > 0.2
    steps = np.array([SCHEDULE.timestep(sigma) for sigma in sigmas])
    assert distance_from_uniform(steps, *(SCHEDULE.timestep(sigma) for sigma in wide)) < 1e-3


@pytest.mark.parametrize("timesteps_of", [None, SCHEDULE], ids=["sigma", "timestep"])
@pytest.mark.parametrize("sigma", [(25.0, 25.0), (0.5, 1.0), (0.5, 60.0)])  # the schedule's lowest level is 1.28
def test_level_stays_in_its_range(sigma: tuple[float, float], timesteps_of: NoiseSchedule | None) -> None:
    sigmas = levels(sigma, timesteps_of)
    assert sigma[0] <= sigmas.min() and sigmas.max() <= sigma[1]
