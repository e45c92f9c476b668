"""Training samples: a function of seed, epoch and image alone, and each image once an epoch."""

import itertools

import numpy as np
import pytest

from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.training.samples import TrainingBatch, add_noise, crop, draw_sigma, place
from tests.support.models import LINEAR

SIGMA = (2.0, 60.0)
SCHEDULE = NoiseSchedule.from_config(LINEAR)


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def views(patch: np.ndarray) -> dict[tuple[int, bool], np.ndarray]:
    """The eight ways to turn and flip it."""
    turned = {turns: np.rot90(patch, turns) for turns in range(4)}
    return {(k, flip): view[:, ::-1] if flip else view for k, view in turned.items() for flip in (False, True)}


# --- order


def test_each_epoch_draws_each_image_once_in_an_order_of_its_own() -> None:
    places = [place(0, 10, position) for position in range(60)]
    assert [epoch for epoch, _ in places] == [position // 10 for position in range(60)]
    epochs = [tuple(index for _, index in places[start : start + 10]) for start in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(epochs)) == 6


def test_order_hangs_on_the_seed_and_on_nothing_that_came_before() -> None:
    places = [place(3, 7, position) for position in range(28)]
    assert [place(3, 7, position) for position in reversed(range(28))] == places[::-1]
    assert [place(4, 7, position) for position in range(28)] != places


# --- crops


def test_crop_is_anywhere_turned_and_flipped() -> None:
    picture = image(20, 30)
    known = {}
    for top, left in itertools.product(range(5), range(15)):
        for (turns, flip), view in views(picture[top : top + 16, left : left + 16]).items():
            known[view.tobytes()] = (top, left, turns, flip)
    crops = [crop(picture, 16, (0, epoch, "a")) for epoch in range(500)]
    assert all(patch.shape == (16, 16, 3) and patch.dtype == np.uint8 for patch in crops)
    found = [known[patch.tobytes()] for patch in crops]
    for what, count in enumerate((5, 15, 4, 2)):  # every row, column, turn and flip comes up, about equally often
        times = np.bincount([drawn[what] for drawn in found])
        assert len(times) == count and times.min() > 0.4 * 500 / count


def test_crop_hangs_on_each_part_of_its_key() -> None:
    picture = image(60, 60)
    keys = [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]
    crops = [crop(picture, 16, key).tobytes() for key in keys]
    assert len(set(crops)) == 4
    assert [crop(picture, 16, key).tobytes() for key in reversed(keys)] == crops[::-1]


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 10), (10, 10), (5, 3), (1, 1)])
def test_smaller_images_are_reflected(height: int, width: int) -> None:
    picture = image(height, width)
    found = crop(picture, 16, (0, 0, "a"))
    assert found.shape == (16, 16, 3)
    padded = np.pad(picture, ((0, max(0, 16 - height)), (0, max(0, 16 - width)), (0, 0)), mode="reflect")
    places = itertools.product(range(padded.shape[0] - 15), range(padded.shape[1] - 15))
    windows = [padded[top : top + 16, left : left + 16] for top, left in places]
    assert any(np.array_equal(view, window) for view in views(found).values() for window in windows)


# --- noise and its level


def drawn_sigmas(timesteps_of: NoiseSchedule | None, sigma: tuple[float, float]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([draw_sigma(rng, sigma, timesteps_of) for _ in range(2000)])


def distance_from_uniform(values: np.ndarray, least: float, greatest: float) -> float:
    """Kolmogorov-Smirnov's: the greatest difference of the distribution functions; above 0.036 once in a hundred."""
    assert least <= values.min() and values.max() <= greatest
    expected = (np.sort(values) - least) / (greatest - least)
    return float(np.abs(expected - np.linspace(0, 1, len(values))).max())


def test_level_is_uniform_in_sigma_or_in_the_timestep() -> None:
    wide = (2.0, 1000.0)  # up to 60 the two are nearly the same
    assert distance_from_uniform(drawn_sigmas(None, wide), *wide) < 0.036
    sigmas = drawn_sigmas(SCHEDULE, wide)
    assert distance_from_uniform(sigmas, *wide) > 0.2
    steps = np.array([SCHEDULE.timestep(sigma) for sigma in sigmas])
    assert distance_from_uniform(steps, *(SCHEDULE.timestep(sigma) for sigma in wide)) < 0.036


@pytest.mark.parametrize("timesteps_of", [None, SCHEDULE], ids=["sigma", "timestep"])
@pytest.mark.parametrize("sigma", [(25.0, 25.0), (0.5, 1.0), (0.5, 60.0)])  # the schedule's least level is 1.28
def test_level_is_never_out_of_its_range(sigma: tuple[float, float], timesteps_of: NoiseSchedule | None) -> None:
    sigmas = drawn_sigmas(timesteps_of, sigma)
    assert sigma[0] <= sigmas.min() and sigmas.max() <= sigma[1]


def noisy(ids: list[str], seed: int = 0, epoch: int = 0, size: int = 16) -> TrainingBatch:
    clean = np.stack([np.full((size, size, 3), ord(image_id), np.uint8) for image_id in ids])
    return add_noise(clean, [(seed, epoch, image_id) for image_id in ids], SIGMA)


def test_noise_and_level_hang_on_the_key_whatever_else_is_in_the_batch() -> None:
    ids = ["a", "b", "c", "d", "e"]
    whole = noisy(ids)
    for others in (["c"], ["e", "c"], ["c", "a", "b"], ["c", "c"]):
        part, at = noisy(others), others.index("c")
        assert np.array_equal(part.clean[at], whole.clean[2])
        assert np.array_equal(part.noise[at], whole.noise[2])
        assert part.sigmas[at] == whole.sigmas[2]
    assert len({noise.tobytes() for noise in whole.noise}) == len(set(whole.sigmas)) == 5


def test_noise_and_level_are_new_for_each_seed_and_epoch() -> None:
    drawn = [noisy(["a"], seed, epoch) for seed in range(5) for epoch in range(10)]
    assert len({batch.noise.tobytes() for batch in drawn}) == 50
    assert len({float(batch.sigmas[0]) for batch in drawn}) == 50


def test_noise_is_standard_normal() -> None:
    batch = noisy([chr(65 + i) for i in range(50)], size=32)
    assert (batch.clean.dtype, batch.noise.dtype, batch.sigmas.dtype) == (np.uint8, np.float32, np.float64)
    assert batch.noise.shape == batch.clean.shape == (50, 32, 32, 3) and batch.sigmas.shape == (50,)
    assert abs(batch.noise.mean()) < 0.01 and abs(batch.noise.std() - 1) < 0.01
    assert abs((np.abs(batch.noise) < 1).mean() - 0.6827) < 0.01
    for noise, level in zip(batch.noise, batch.sigmas, strict=True):
        assert abs(noise.std() - 1) < 0.06 and SIGMA[0] <= level <= SIGMA[1]


def test_schedule_reaches_the_batch() -> None:
    keys = [(0, 0, "a"), (0, 0, "b")]
    clean = np.zeros((2, 16, 16, 3), np.uint8)
    by_sigma, by_step = add_noise(clean, keys, SIGMA), add_noise(clean, keys, SIGMA, SCHEDULE)
    assert np.array_equal(by_sigma.noise, by_step.noise)
    edges = [SCHEDULE.timestep(sigma) for sigma in SIGMA]
    share = (by_sigma.sigmas - SIGMA[0]) / (SIGMA[1] - SIGMA[0])
    expected = edges[0] + share * (edges[1] - edges[0])
    assert [SCHEDULE.timestep(sigma) for sigma in by_step.sigmas] == pytest.approx(expected)
