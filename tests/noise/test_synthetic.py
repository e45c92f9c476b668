"""Synthetic noise: the same bits everywhere, with the given level."""

import hashlib
import json
import multiprocessing

import numpy as np
import pytest

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.noise import synthetic
from imagewizard.noise.synthetic import Gaussian

FLAT = np.full((200, 300, 3), 128, np.uint8)
FLAT[0, 0, 0] = 129  # so that it is a colour image


def noise_of(image_id: str = "a/b.png", sigma: float = 25, mean: float = 0, seed: int = 0) -> np.ndarray:
    return Gaussian(mean).add(FLAT, image_id, sigma, seed)


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def test_noise_bits_have_not_changed():
    """If this hash changes, old and new rows of a run are not comparable: raise RESULTS_VERSION."""
    assert sha256(noise_of()) == "ba03ab810f1751a3ef9d32e2e62a203669447fae90ac9f79c14cab81ad3e314b"


def test_a_grey_image_gets_one_plane_of_noise():
    plane = Gaussian().add(FLAT[:, :, 1:2], "a/b.png", 25, 0)
    assert sha256(plane) == "8284fa2a8611ed0a6fd7c16964c35a9b237cf65d0c2a3caa0772f26c01d730ea"
    assert np.array_equal(Gaussian().add(FLAT[:, :, 1], "a/b.png", 25, 0), plane[:, :, 0])
    three = Gaussian().add(FLAT[:, :, [1, 1, 1]], "a/b.png", 25, 0)
    assert three.shape == FLAT.shape and three.dtype == np.float32
    assert np.array_equal(three, plane.repeat(3, axis=2))
    assert not np.array_equal(noise_of()[:, :, 0], noise_of()[:, :, 1])


def test_another_process_draws_the_same_bits():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(noise_of), noise_of())


def test_integer_and_float_levels_give_the_same_noise():
    assert np.array_equal(noise_of(sigma=25), noise_of(sigma=25.0))
    assert np.array_equal(noise_of(seed=3), Gaussian().add(FLAT, "a/b.png", 25, 3.0))


def test_noise_does_not_depend_on_earlier_draws():
    first = noise_of("x.png")
    np.random.seed(1)
    noise_of("y.png")
    assert np.array_equal(noise_of("x.png"), first)


@pytest.mark.parametrize("other", [{"image_id": "a/b.jpg"}, {"sigma": 25.5}, {"seed": 1}], ids=str)
def test_each_part_of_the_key_changes_the_noise(other):
    ours = (noise_of() - 128).ravel() / 25
    theirs = (noise_of(**other) - 128).ravel() / other.get("sigma", 25)
    correlation = float(np.corrcoef(ours, theirs)[0, 1])
    assert abs(correlation) < 5 / np.sqrt(FLAT.size)


def test_a_mean_only_shifts_the_noise():
    assert np.allclose(noise_of(mean=10) - noise_of(), 10, atol=1e-4)


@pytest.mark.parametrize("sigma", [1, 25, 100])
@pytest.mark.parametrize("mean", [0, -20.5])
def test_the_noise_has_the_given_mean_and_deviation(sigma, mean):
    noise = noise_of(sigma=sigma, mean=mean).astype(float) - 128
    count = noise.size
    assert noise.mean() == pytest.approx(mean, abs=5 * sigma / np.sqrt(count))
    assert noise.std() == pytest.approx(sigma, rel=5 / np.sqrt(2 * count))


def test_the_noise_is_gaussian_and_white():
    noise = (noise_of().astype(float) - 128) / 25
    count = noise.size
    assert (noise**3).mean() == pytest.approx(0, abs=5 * np.sqrt(15 / count))
    assert (noise**4).mean() == pytest.approx(3, abs=5 * np.sqrt(96 / count))
    assert (np.abs(noise) < 1).mean() == pytest.approx(0.682689, abs=5 * np.sqrt(0.22 / count))
    for neighbour in (noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1], noise[..., 1:] * noise[..., :-1]):
        assert neighbour.mean() == pytest.approx(0, abs=5 / np.sqrt(neighbour.size))


def test_the_noisy_image_is_float_neither_clipped_nor_rounded():
    noisy = Gaussian().add(np.full((100, 100, 3), 255, np.uint8), "white", 25, 0)
    assert noisy.dtype == np.float32
    assert noisy.shape == (100, 100, 3)
    assert (noisy > 255).mean() == pytest.approx(0.5, abs=0.02)
    assert (noisy != np.rint(noisy)).mean() > 0.99


def test_level_zero_returns_the_image_and_the_input_is_unchanged():
    clean = np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    before = clean.copy()
    assert np.array_equal(Gaussian().add(clean, "x", 0, 0), clean)
    Gaussian().add(clean, "x", 50, 0)
    assert np.array_equal(clean, before)


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_every_kind_has_a_config_section_and_is_rebuilt_from_its_row(kind):
    section = DenoiseConfig.model_validate({"input": "in", "output": "out", "noise": {"kind": kind}}).noise
    noise = synthetic.make(section.kind, section.params)
    assert type(noise) is synthetic.KINDS[kind]
    assert synthetic.make(kind, json.loads(noise.params())) == noise
    assert noise.add(FLAT, "x", 25, 0).mean() - 128 == pytest.approx(noise.offset, abs=0.5)


def test_gaussian_noise_describes_itself_and_its_parameters_are_canonical():
    noise = synthetic.make("gaussian", {"mean": 40.5})
    assert (noise.describe(), noise.params(), noise.offset) == ("Gaussian, mean 40.5", '{"mean": 40.5}', 40.5)
    assert (synthetic.DEFAULT.describe(), synthetic.DEFAULT.params()) == ("Gaussian", '{"mean": 0.0}')
