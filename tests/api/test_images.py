"""Images in memory: what goes in comes back as the same type and shape, and the numbers are the bulk job's."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import imagewizard as iw
from imagewizard.noise import level, synthetic
from tests.support.models import tiny_model
from tests.support.sample_files import photo

CLEAN = photo(48, 64, 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> "iw.Denoiser":
    """A network of random weights: results mean nothing, but everything runs, in milliseconds."""
    return iw.Denoiser.from_pretrained(str(tiny_model(tmp_path_factory.mktemp("tiny"), k=2)), device="cpu")


class Halver:
    """A stand-in for the network: moves every pixel halfway to black, beyond the range for values outside of it."""

    def __init__(self) -> None:
        self.sigmas: list[float] = []
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, noisy: list[Any], sigmas: list[float]) -> list[Any]:
        self.sigmas += sigmas
        self.shapes += [tuple(each.shape) for each in noisy]
        return [(each - 1.0) / 2.0 for each in noisy]


def test_denoising_with_the_embedded_model_brings_an_image_closer_to_the_clean_one() -> None:
    noisy = iw.add_noise(CLEAN, 25.0)
    denoised = iw.denoise(noisy, 25.0)
    assert denoised.dtype == np.float32 and denoised.shape == CLEAN.shape
    assert iw.psnr(denoised, CLEAN) > iw.psnr(noisy, CLEAN) + 2.0
    assert iw.psnr(iw.denoise(noisy), CLEAN) > iw.psnr(noisy, CLEAN) + 1.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(20, 30, 3), (20, 30, 1), (20, 30)])
def test_type_and_shape_come_back(tiny: "iw.Denoiser", dtype: Any, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    found = tiny(image, 20.0)
    assert (found.dtype, found.shape) == (np.dtype(dtype), shape)
    assert found.flags.owndata and found.flags.writeable and not np.shares_memory(found, image)


def test_values_are_scaled_there_and_back() -> None:
    halve = iw.Denoiser(Halver())
    assert halve(np.full((4, 5, 3), 200, np.uint8), 5.0).flat[0] == 100
    assert halve(np.full((4, 5, 3), 60000, np.uint16), 5.0).flat[0] == 30000
    assert halve(np.full((4, 5, 3), 200.5, np.float32), 5.0).flat[0] == pytest.approx(100.25, abs=1e-4)


def test_integers_are_clipped_and_floats_are_not() -> None:
    doubled = iw.Denoiser(lambda noisy, sigmas: [2.0 * each + 1.0 for each in noisy])
    assert doubled(np.full((4, 4), 200, np.uint8), 5.0).max() == 255
    found = doubled(np.array([[-30.5, 200.0]], np.float32), 5.0)
    assert found.tolist() == [[pytest.approx(-61.0, abs=1e-3), pytest.approx(400.0, abs=1e-3)]]


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_pil_images_come_back_as_pil_images_of_their_mode(tiny: "iw.Denoiser", mode: str) -> None:
    image = Image.fromarray((CLEAN[:, :, 0].astype(np.uint16) * 257) if mode == "I;16" else CLEAN)
    image = image if image.mode == mode else image.convert(mode)
    image.info["dpi"] = (72, 72)
    found = tiny(image, 20.0)
    assert (type(found), found.mode, found.size) == (Image.Image, mode, image.size)
    assert found.info["dpi"] == (72, 72)
    np.testing.assert_array_equal(np.asarray(found), tiny(np.asarray(image), 20.0))


def test_a_grey_image_stays_grey(tiny: "iw.Denoiser") -> None:
    grey = CLEAN[:, :, 1]
    planes = tiny(np.stack([grey] * 3, axis=2), 20.0)
    assert (planes == planes[:, :, :1]).all()
    np.testing.assert_array_equal(planes[:, :, 0], tiny(grey, 20.0))


def test_a_list_is_denoised_as_its_images_are_one_by_one(tiny: "iw.Denoiser") -> None:
    images = [photo(20, 30, seed) for seed in range(3)]
    together = tiny(images, [10.0, 20.0, 30.0])
    for image, sigma, found in zip(images, (10.0, 20.0, 30.0), together, strict=True):
        assert np.abs(found.astype(int) - tiny(image, sigma)).max() <= 1
    assert len(tiny(images, 20.0)) == 3
    with pytest.raises(iw.UserError, match=r"^sigma: 2 levels for 3 images; "):
        tiny(images, [10.0, 20.0])


def test_an_unknown_level_is_estimated_from_each_image() -> None:
    halver = Halver()
    noisy = iw.add_noise(photo(96, 96, 2), 30.0)
    assert level.find(noisy).kind == "white"  # so it is told to the network as it was found
    iw.Denoiser(halver)([noisy, noisy], [None, 7.0])
    assert halver.sigmas == [level.find(noisy).level, 7.0]
    assert halver.sigmas[0] == pytest.approx(30.0, rel=0.25)


def test_noise_is_that_of_the_bulk_job_neither_clipped_nor_rounded() -> None:
    noisy = iw.add_noise(CLEAN, 50, seed=3, key="a/b.png", mean=4.0)
    assert noisy.dtype == np.float32 and noisy.min() < 0 and noisy.max() > 255
    np.testing.assert_array_equal(noisy, synthetic.Gaussian(50.0, 4.0).add(CLEAN, "a/b.png", 3))
    deep = iw.add_noise(CLEAN.astype(np.uint16) * 257, 50, seed=3, key="a/b.png", mean=4.0)
    np.testing.assert_allclose(deep, noisy, atol=1e-4)
    assert iw.add_noise(Image.fromarray(CLEAN), 50).shape == CLEAN.shape


def test_noise_of_other_kinds_is_that_of_the_bulk_job() -> None:
    noise = synthetic.PoissonGaussian(0.5, 4.0)
    found = iw.add_noise(CLEAN, kind="poisson-gaussian", a=0.5, b=4, key="a.png", seed=3)
    np.testing.assert_array_equal(found, noise.add(CLEAN, "a.png", 3))
    found = iw.add_noise(CLEAN[:, :, 0], kind="camera", gain=64, key="a.png")
    np.testing.assert_array_equal(found, synthetic.Camera(gain=64.0).add(CLEAN[:, :, 0], "a.png", 0))
    for wrong, complaint in (
        ({}, "^sigma: None is no noise level"),
        ({"kind": "salt"}, r"^noise\.kind: must be "),
        ({"kind": "camera", "mean": 3}, r"^noise\.mean: unknown key; noise\.kind=gaussian has it"),
        ({"kind": "camera", "sigma": 25}, r"^noise\.sigma: unknown key; noise\.kind=gaussian has it"),
        ({"kind": "camera", "gain": [1, 4]}, "^noise: these are 2 settings of the noise; give one value for each"),
    ):
        with pytest.raises(iw.UserError, match=complaint):
            iw.add_noise(CLEAN, **wrong)  # type: ignore[arg-type]


def test_strength_multiplies_the_level_that_is_given_or_found() -> None:
    halver = Halver()
    noisy = iw.add_noise(photo(96, 96, 2), 30.0)
    found = level.find(noisy).level
    assert found
    denoiser = iw.Denoiser(halver, strength=0.5)
    denoiser([noisy, noisy], [None, 8.0])
    assert halver.sigmas == [0.5 * found, 4.0]
    denoiser(noisy, 8.0, strength=2.0)
    assert halver.sigmas[2:] == [16.0]
    assert iw.Denoiser.from_pretrained(strength=1.5)._strength == 1.5
    for wrong in (-1.0, 5.0, float("nan")):
        with pytest.raises(iw.UserError, match=r"^strength: must be "):
            denoiser(noisy, 8.0, strength=wrong)


@pytest.mark.parametrize("image", [CLEAN, CLEAN[:, :, :1], CLEAN[:, :, 0]])
def test_the_estimated_level_is_that_of_the_bulk_job(image: np.ndarray) -> None:
    noisy = iw.add_noise(image, 20.0)
    planes = np.broadcast_to(noisy if noisy.ndim == 3 else noisy[:, :, None], (*image.shape[:2], 3))
    assert iw.estimate_sigma(noisy) == level.find(planes).std


def test_scores_are_those_of_scikit_image() -> None:
    noisy = iw.add_noise(CLEAN, 25.0)
    assert iw.psnr(noisy, CLEAN) == pytest.approx(peak_signal_noise_ratio(CLEAN, noisy, data_range=255), abs=1e-5)
    theirs = structural_similarity(CLEAN.astype(np.float32), noisy, channel_axis=-1, data_range=255)
    assert iw.ssim(noisy, CLEAN) == pytest.approx(theirs, abs=1e-5)
    assert iw.psnr(CLEAN.astype(np.uint16) * 257, Image.fromarray(CLEAN)) == 100.0
    assert iw.ssim(CLEAN[:6], CLEAN[:6]) is None


@pytest.mark.parametrize(
    "image",
    [
        "a.png",
        [[1, 2], [3, 4]],
        np.zeros((4, 4, 3), np.int32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        Image.new("RGBA", (4, 4)),
    ],
    ids=["a name", "a list of lists", "int32", "four channels", "a batch", "no pixels", "RGBA"],
)
def test_what_is_no_image_is_refused_in_one_line(image: Any) -> None:
    for call in (iw.Denoiser(Halver()), iw.estimate_sigma, lambda each: iw.add_noise(each, 25.0)):
        with pytest.raises(iw.UserError, match=r"^image: the image is .*; give uint8") as error:
            call(image)
        assert "\n" not in str(error.value)


def test_values_that_are_not_finite_are_refused() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(iw.UserError, match=r"^image: the image has values that are not finite; replace them"):
            iw.add_noise(np.full((8, 8, 3), value), kind="camera")


def test_wrong_levels_and_options_are_refused(tiny: "iw.Denoiser") -> None:
    for sigma in (-1.0, float("nan")):
        with pytest.raises(iw.UserError, match=r"^sigma: .* is no noise level; "):
            tiny(CLEAN, sigma)
    with pytest.raises(iw.UserError, match="sigma"):
        tiny(CLEAN, 1e6)
    with pytest.raises(iw.UserError, match="unknown key; did you mean steps"):
        iw.Denoiser.from_pretrained(stepz=3)
    with pytest.raises(iw.UserError, match=r"^device: 'gpu' is no device"):
        iw.Denoiser.from_pretrained(device="gpu")
    with pytest.raises(iw.UserError, match=r"^mode: "):
        iw.Denoiser.from_pretrained(mode="best")  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma", [-3, "x", float("nan")])
def test_what_is_no_level_is_refused_alike_when_noise_is_added_and_taken_off(tiny: "iw.Denoiser", sigma: Any) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    for call in (lambda: iw.add_noise(image, sigma), lambda: tiny(image, sigma)):
        with pytest.raises(iw.UserError, match=r"^sigma: .* is no noise level; give a number from 0 on"):
            call()


def test_float_image_on_another_scale_is_noticed() -> None:
    small = np.random.default_rng(0).uniform(0, 1, (16, 16, 3))
    with pytest.warns(UserWarning, match="0-255 scale"):
        iw.psnr(small, small)


def test_denoiser_says_where_it_works(tiny: "iw.Denoiser") -> None:
    assert repr(tiny).startswith("<imagewizard.Denoiser on ")


def test_an_estimate_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(FloatingPointError):
        iw.Denoiser(lambda noisy, sigmas: [each * float("nan") for each in noisy])(CLEAN, 5.0)


def test_modes_are_the_configs(tiny: "iw.Denoiser", tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tiny_model(tmp_path_factory.mktemp("modes"), k=2))
    sampled = iw.Denoiser.from_pretrained(folder, "ddim", "cpu", steps=3)(CLEAN, 50.0)
    mean = iw.Denoiser.from_pretrained(folder, device="cpu")(CLEAN, 50.0)
    assert (sampled != mean).any()
