"""Both versions of the metrics, numba's and torch's, against scikit-image."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from imagewizard.metrics import METRICS, Reference, device, kernel, psnr, scores


def checkerboard(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.repeat((255 * ((rows + columns) % 2)).astype(np.uint8)[:, :, None], 3, axis=2)


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = [127.5 + 127.5 * np.sin(rows / 9 + shift) * np.cos(columns / 13 - shift) for shift in (0.0, 1.0, 2.5)]
    return np.rint(np.stack(waves, axis=-1)).astype(np.uint8)


def noisy(clean: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(7).standard_normal(clean.shape, dtype=np.float32)
    return clean + np.float32(sigma) * noise


def to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def constant(value: float, dtype: type = np.uint8) -> np.ndarray:
    return np.full((40, 50, 3), value, dtype)


RANDOM = np.random.default_rng(3).integers(0, 256, (61, 83, 3), dtype=np.uint8)
WIDE = smooth(100, 4000)  # many tiles, the last of them narrower
HALVES = np.where(np.arange(90)[:, None, None] < 45, constant(0)[:1, :1], constant(255)[:1, :1]).repeat(70, 1)

PAIRS = {
    "denoised": (to_uint8(noisy(smooth(120, 300), 5)), smooth(120, 300)),
    "noisy float32": (noisy(smooth(120, 300), 25), smooth(120, 300)),
    "heavy noise": (noisy(smooth(70, 70), 100), smooth(70, 70)),
    "wide uint8": (to_uint8(noisy(WIDE, 100)), WIDE),
    "wide float": (noisy(WIDE, 100), WIDE),
    "tall": (noisy(WIDE.transpose(1, 0, 2), 25), WIDE.transpose(1, 0, 2)),  # and not contiguous
    "unrelated": (RANDOM, RANDOM[::-1]),
    "checkerboard and its inverse": (255 - checkerboard(64, 64), checkerboard(64, 64)),
    "checkerboard and grey": (constant(127), checkerboard(40, 50)),
    "checkerboard, shifted levels": (to_uint8(checkerboard(64, 64) * 0.9), checkerboard(64, 64)),
    "saturated": (to_uint8(noisy(constant(255), 25)), constant(255)),
    "white and black": (constant(255), constant(0)),
    "constants": (constant(150), constant(100)),
    "float constants": (constant(100.3, np.float32), constant(100)),
    "near-white float constants": (constant(254.7, np.float64), constant(255)),
    "halves": (to_uint8(noisy(HALVES, 10)), HALVES),
    "float halves": (HALVES + np.float32(0.3), HALVES),
    "both float": (noisy(smooth(50, 60), 10), noisy(smooth(50, 60), 3)),
    "uint8 against float": (smooth(50, 60), noisy(smooth(50, 60), 3)),
    "grey": (to_uint8(noisy(smooth(50, 300)[:, :, :1], 10)), smooth(50, 300)[:, :, :1]),
    "grey, two dimensions": (noisy(smooth(50, 300)[:, :, 0], 10), smooth(50, 300)[:, :, 0]),
    "far beyond white": (noisy(smooth(90, 70) * np.float32(40), 25), smooth(90, 70)),
    "flat and bright, in float64": (constant(9000.25, np.float64), constant(9000.5, np.float64)),
    "half floats": (smooth(50, 60).astype(np.float16), noisy(smooth(50, 60), 3).astype(np.float16)),
    "smallest for a window of 11": (RANDOM[:11, :12], RANDOM[1:12, 1:13]),
}


@pytest.fixture(params=[kernel.compare, device.compare], ids=["numba", "torch"], autouse=True)
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_compare", lambda: request.param)


@pytest.fixture(params=PAIRS.values(), ids=PAIRS.keys())
def pair(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    return request.param


def scikit_ssim(image: np.ndarray, clean: np.ndarray, **form: object) -> float:
    axis = -1 if image.ndim == 3 else None
    # In float64, as scikit-image itself takes uint8: of float32 it would make float32 sums.
    return structural_similarity(image.astype(float), clean.astype(float), channel_axis=axis, data_range=255, **form)


def test_psnr_is_scikit_images(pair):
    image, clean = pair
    expected = peak_signal_noise_ratio(clean.astype(float), image.astype(float), data_range=255)
    assert psnr(image, clean) == pytest.approx(expected, abs=1e-6)
    assert Reference(clean).psnr(image) == psnr(image, clean)


def test_ssim_is_scikit_images(pair):
    image, clean = pair
    assert Reference(clean).ssim(image) == pytest.approx(scikit_ssim(image, clean), abs=1e-6)


def test_ssim_of_uint8_is_scikit_images_own_uint8():
    image, clean = PAIRS["denoised"]
    expected = structural_similarity(image, clean, channel_axis=-1, data_range=255)
    assert Reference(clean).ssim(image) == pytest.approx(expected, abs=1e-6)


def test_one_reference_serves_images_of_both_kinds_in_any_order():
    clean = smooth(80, 300)
    images = [noisy(clean, 25), to_uint8(noisy(clean, 25)), noisy(clean, 50), clean]
    expected = [Reference(clean).ssim(image) for image in images]
    reference = Reference(clean)
    assert [reference.ssim(image) for image in images] == expected
    assert [reference.ssim(image) for image in reversed(images)] == expected[::-1]


def test_one_reference_serves_many_threads():
    clean = smooth(200, 600)
    images = [noisy(clean, sigma) for sigma in range(1, 13)]
    expected = [Reference(clean).ssim(image) for image in images]
    reference = Reference(clean)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(reference.ssim, images)) == expected


def test_comparing_leaves_the_images_alone():
    clean = smooth(60, 70)
    image = noisy(clean, 10)
    before = image.copy()
    clean.flags.writeable = image.flags.writeable = False
    reference = Reference(clean)
    reference.psnr(image), reference.ssim(image)
    assert np.array_equal(image, before)


def test_equal_images_have_psnr_100_and_ssim_1():
    clean = smooth(60, 70)
    assert Reference(clean).psnr(clean) == 100.0
    assert Reference(clean).ssim(clean) == pytest.approx(1.0, abs=1e-6)
    assert Reference(clean).ssim(clean.astype(np.float32)) == pytest.approx(1.0, abs=1e-12)


def test_psnr_is_capped_at_100():
    assert psnr(constant(100.001, np.float64), constant(100)) == 100.0
    assert psnr(constant(100.01, np.float64), constant(100)) == pytest.approx(20 * math.log10(25500), abs=1e-6)


def test_sigma_25_has_the_psnr_of_the_textbook():
    clean = smooth(400, 600)
    assert psnr(noisy(clean, 25), clean) == pytest.approx(20 * math.log10(255 / 25), abs=0.05)


def test_psnr_of_a_nan_is_not_a_good_score():
    image = constant(100, np.float32)
    image[0, 0, 0] = np.nan
    assert math.isnan(psnr(image, constant(100)))
    assert math.isnan(Reference(constant(100)).ssim(image))


def test_ssim_needs_a_window():
    assert Reference(RANDOM[:6, :50]).ssim(RANDOM[:6, :50]) is None
    assert Reference(RANDOM[:50, :6]).ssim(RANDOM[:50, :6]) is None
    image, clean = RANDOM[:7, :7], RANDOM[7:14, :7]
    assert Reference(clean).ssim(image) == pytest.approx(scikit_ssim(image, clean), abs=1e-6)
    assert Reference(RANDOM[:1, :1]).scores(RANDOM[:1, :1]) == {"psnr": 100.0, "ssim": None}
    assert psnr(RANDOM[:50, :6], RANDOM[1:51, :6]) == pytest.approx(
        peak_signal_noise_ratio(RANDOM[1:51, :6], RANDOM[:50, :6]), abs=1e-6
    )


def test_other_shapes_are_refused():
    for compare in (Reference(RANDOM).psnr, Reference(RANDOM).ssim, Reference(RANDOM).scores):
        with pytest.raises(ValueError, match="differ in shape"):
            compare(RANDOM[:, :1])


def test_each_metric_measures_what_its_name_says_and_knows_which_way_is_up():
    clean = smooth(60, 70)
    reference, image, worse = Reference(clean), noisy(clean, 10), noisy(clean, 50)
    values = {name: metric.measure(reference, image) for name, metric in METRICS.items()}
    assert values == {"psnr": reference.psnr(image), "ssim": reference.ssim(image)} == reference.scores(image)
    for metric in METRICS.values():
        assert (metric.measure(reference, image) > metric.measure(reference, worse)) == metric.higher_is_better


def test_a_value_is_shown_with_its_label_unit_and_decimals():
    assert METRICS["psnr"].text(31.416) == "PSNR 31.42 dB"
    assert METRICS["ssim"].text(0.87654) == "SSIM 0.8765"
    assert METRICS["ssim"].text(None) == METRICS["ssim"].change(None, None) == ""
    assert METRICS["psnr"].change(20.174, 31.416) == "PSNR 20.17 → 31.42 dB"
    assert METRICS["ssim"].change(0.5, 0.87654) == "SSIM 0.5000 → 0.8765"
