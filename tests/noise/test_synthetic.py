"""Synthetic noise: the same bits everywhere, with the given level."""

import hashlib
import json
import multiprocessing

import numpy as np
import pytest

from imagewizard import schema, seeding
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.noise import normal, synthetic
from imagewizard.noise.camera import Development
from imagewizard.noise.synthetic import Camera, Gaussian, Noise, PoissonGaussian

FLAT = np.full((200, 300, 3), 128, np.uint8)
FLAT[0, 0, 0] = 129  # so that it is a colour image
EACH_KIND = [Gaussian(25.0, 3.0), PoissonGaussian(0.5, 4.0), Camera(gain=32.0)]


def noise_of(image_id: str = "a/b.png", sigma: float = 25, mean: float = 0, seed: int = 0) -> np.ndarray:
    return Gaussian(sigma, mean).add(FLAT, image_id, seed)


def added(noise: Noise) -> np.ndarray:
    return noise.add(FLAT[:40, :50], "a/b.png", 3)


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


# --- all kinds


def test_noise_bits_have_not_changed():
    """If a hash changes, old and new rows of a run are not comparable: raise RESULTS_VERSION, SAME_NOISE_SINCE."""
    assert sha256(noise_of()) == "c88b3159305ed3100edccb4f84f42af5f636e83ca0b782459b004aeaa3ff7349"
    ramp = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    found = PoissonGaussian(0.5, 4.0).add(ramp, "a/b.png", 0)
    assert sha256(found) == "048b1e6843c841de6ca29a769822c129117b7d672188a7a1f7f57738979ca797"


def test_the_noise_is_normal_values_of_the_keys_words():
    """A product, then two sums, each rounded by itself: numpy's, torch's and numba's operations agree on that."""

    def normals(*key: str | float) -> np.ndarray:
        return normal.standard_normal(seeding.words(seeding.key(*key), FLAT.size // 2)).reshape(FLAT.shape)

    expected = normals(3, "x", "gaussian", 12.3) * np.float32(12.3) + np.float32(40.7) + FLAT
    assert np.array_equal(Gaussian(12.3, 40.7).add(FLAT, "x", 3), expected)
    deviation = np.sqrt(np.float32(0.37) * FLAT.astype(np.float32) + np.float32(4.1))
    expected = normals(3, "x", "poisson-gaussian", 0.37, 4.1) * deviation + FLAT
    assert np.array_equal(PoissonGaussian(0.37, 4.1).add(FLAT, "x", 3), expected)


@pytest.mark.parametrize("noise", EACH_KIND, ids=lambda noise: noise.kind)
def test_another_process_draws_the_same_bits(noise):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(added, (noise,)), added(noise))


@pytest.mark.parametrize("noise", EACH_KIND, ids=lambda noise: noise.kind)
def test_noise_does_not_depend_on_earlier_draws(noise):
    first = added(noise)
    np.random.seed(1)
    noise.add(FLAT, "y.png", 3)
    assert np.array_equal(added(noise), first)
    assert not np.array_equal(noise.add(FLAT[:40, :50], "y.png", 3), first)
    assert not np.array_equal(noise.add(FLAT[:40, :50], "a/b.png", 4), first)


@pytest.mark.parametrize("noise", EACH_KIND, ids=lambda noise: noise.kind)
def test_a_grey_image_gets_one_plane_of_noise(noise):
    before = FLAT.copy()
    plane = noise.add(FLAT[:, :, 1:2], "a/b.png", 0)
    assert plane.shape == (200, 300, 1) and plane.dtype == np.float32
    assert np.array_equal(noise.add(FLAT[:, :, 1], "a/b.png", 0), plane[:, :, 0])
    three = noise.add(FLAT[:, :, [1, 1, 1]], "a/b.png", 0)
    assert three.shape == FLAT.shape and three.dtype == np.float32 and three.flags.writeable
    assert np.array_equal(three, plane.repeat(3, axis=2))
    colour = noise.add(FLAT, "a/b.png", 0)
    assert colour.shape == FLAT.shape and not np.array_equal(colour[:, :, 0], colour[:, :, 1])
    assert np.array_equal(FLAT, before)


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_every_kind_has_a_config_section_and_is_rebuilt_from_its_row(kind):
    assert schema.SAME_NOISE_SINCE[kind] <= schema.RESULTS_VERSION
    section = DenoiseConfig.model_validate({"input": "in", "output": "out", "noise": {"kind": kind}}).noise
    [noise] = synthetic.make(section.kind, section.settings)
    assert type(noise) is synthetic.KINDS[kind]
    assert synthetic.of_row(kind, noise.params(), noise.sigma) == noise
    assert json.dumps(json.loads(noise.params()), sort_keys=True) == noise.params()
    assert noise.add(FLAT, "x", 0).mean() - 128 == pytest.approx(noise.offset, abs=0.5)


def test_noises_describe_themselves_and_their_parameters_are_canonical():
    noise = Gaussian(25.0, 40.5)
    assert (noise.describe(), noise.params(), noise.offset) == ("Gaussian, mean 40.5", '{"mean": 40.5}', 40.5)
    assert (noise.sigma, noise.setting) == (25.0, ('{"mean": 40.5}', 25.0))
    assert (Gaussian(25.0).describe(), Gaussian(25.0).params()) == ("Gaussian", '{"mean": 0.0}')
    noise = PoissonGaussian(b=4.0, a=0.5)
    assert (noise.describe(), noise.params(), noise.offset) == ("Poisson-Gaussian", '{"a": 0.5, "b": 4.0}', 0.0)
    assert noise.sigma is None and Camera().sigma is None
    assert Camera().describe() == "camera" and json.loads(Camera(gain=3.0).params())["gain"] == 3.0


def test_settings_are_named_by_what_tells_them_apart():
    def names(*noises: Noise) -> list[str]:
        return synthetic.names([(each.kind, *each.setting) for each in noises])

    assert names(Gaussian(15.0, 3.0), Gaussian(25.5, 3.0)) == ["sigma 15", "sigma 25.5"]
    assert names(PoissonGaussian(0.5, 4.0), PoissonGaussian(1.0, 4.0)) == ["a 0.5, b 4", "a 1, b 4"]
    assert names(Camera()) == ["gain 16"]
    assert names(Camera(quality=80), Camera(quality=95)) == ["gain 16, quality 80", "gain 16, quality 95"]
    assert synthetic.names([(None, "{}", None)]) == [""]
    assert synthetic.names([(None, "{}", 12.0)]) == ["sigma 12"]
    assert synthetic.names([("a later kind", '{"x": 1.0}', None), ("a later kind", '{"x": 2.0}', None)]) == [
        "x 1",
        "x 2",
    ]


# --- gaussian


def test_bits_of_grey_noise_have_not_changed():
    plane = Gaussian(25).add(FLAT[:, :, 1:2], "a/b.png", 0)
    assert sha256(plane) == "f1ce2970c5c9de206eb212620198e3b9ba46e3b173c40db67df22e7f5ffa8dfc"


def test_integer_and_float_levels_give_the_same_noise():
    assert np.array_equal(noise_of(sigma=25), noise_of(sigma=25.0))
    assert np.array_equal(noise_of(seed=3), Gaussian(25).add(FLAT, "a/b.png", 3.0))


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


@pytest.mark.parametrize("noise", EACH_KIND[:2], ids=lambda noise: noise.kind)
def test_the_noisy_image_is_float_neither_clipped_nor_rounded(noise):
    noisy = noise.add(np.full((100, 100, 3), 255, np.uint8), "white", 0) - noise.offset
    assert noisy.dtype == np.float32
    assert noisy.shape == (100, 100, 3)
    assert (noisy > 255).mean() == pytest.approx(0.5, abs=0.02)
    assert (noisy != np.rint(noisy)).mean() > 0.99


def test_level_zero_returns_the_image_and_the_input_is_unchanged():
    clean = np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    before = clean.copy()
    assert np.array_equal(Gaussian(0).add(clean, "x", 0), clean)
    Gaussian(50).add(clean, "x", 0)
    assert np.array_equal(clean, before)


# --- poisson-gaussian


@pytest.mark.parametrize(("a", "b"), [(0.5, 4.0), (2.0, 0.0), (0.0, 100.0)])
@pytest.mark.parametrize("grey", [False, True])
def test_the_variance_grows_with_brightness_as_told(a, b, grey):
    """Each of five brightnesses has 120,000 values a channel, whose variance is known to 0.4 %."""
    values = np.repeat(np.array([0, 10, 64, 128, 255], np.uint8), 400)[:, None, None]
    clean = np.broadcast_to(values, (2000, 300, 1 if grey else 3)).copy()
    if not grey:
        clean[:, :, 2] = clean[::-1, :, 2]
    noise = PoissonGaussian(a, b).add(clean, "x", 0).astype(float) - clean
    for value in (0, 10, 64, 128, 255):
        part = noise[clean == value]
        assert part.var() == pytest.approx(a * value + b, rel=0.02)
        assert part.mean() == pytest.approx(0, abs=5 * np.sqrt((a * value + b) / part.size) + 1e-12)


def test_negative_values_of_a_float_image_have_no_negative_variance():
    noisy = PoissonGaussian(1.0, 4.0).add(np.full((50, 50, 3), -30.0, np.float32), "x", 0)
    assert np.array_equal(noisy, np.full((50, 50, 3), -30.0, np.float32))


# --- camera


def test_a_camera_gives_whole_numbers_and_more_noise_at_a_higher_gain():
    low, high = (Camera(gain=gain).add(FLAT, "x", 0) for gain in (2.0, 64.0))
    for noisy in (low, high):
        assert np.array_equal(noisy, np.rint(noisy)) and noisy.min() >= 0 and noisy.max() <= 255
    assert high.std() > 3 * low.std()


def test_the_generator_of_a_camera_depends_on_all_its_settings():
    """In the order of the fields; noise.camera's tests hold the bits for a generator."""
    parts = (3.0, 2.0, 1.6, 1.0, 0.5, 0.7, 92, "4:2:2")
    expected = Development(gain=3.0).expose(FLAT, seeding.generator(7, "x", "camera", *parts))
    assert np.array_equal(Camera(gain=3.0).add(FLAT, "x", 7), expected)


def test_each_setting_of_a_camera_draws_noise_of_its_own():
    """As each level of Gaussian noise does: rows of an image are independent samples."""
    one, other = (Camera(quality=quality, smoothing=0.0).add(FLAT, "x", 0) - FLAT for quality in (100, 99))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("place", [(0, 0, 1), (0, 0, 2), (5, 3, 1), (8, 6, 2), None])
def test_an_image_is_grey_if_all_its_planes_are_equal(place: tuple[int, int, int] | None) -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 1), dtype=np.uint8).repeat(3, axis=2)
    assert synthetic.is_grey(image[:, :, :1]) and synthetic.is_grey(image)
    if place is not None:
        image[place] += 1
        assert not synthetic.is_grey(image)


def test_equal_noises_keep_their_own_texts() -> None:
    """A whole number and its float are equal, but not as JSON."""
    assert [Gaussian(25.0, mean=mean).params() for mean in (4, 4.0, 4)] == [
        '{"mean": 4}',
        '{"mean": 4.0}',
        '{"mean": 4}',
    ]
