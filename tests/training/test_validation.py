"""Validation's scores against a straightforward computation with scikit-image, and the same noise every time."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from imagewizard.config.denoise import DenoiseSection
from imagewizard.config.train import ValidationSection
from imagewizard.diffusion import pixels
from imagewizard.diffusion.ddpm import DDPM
from imagewizard.diffusion.denoiser import Denoiser
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.noise import synthetic
from imagewizard.schema import SCORES
from imagewizard.training import validation
from imagewizard.training.validation import ValidationImage, ValidationScores
from tests.support.models import LINEAR, tiny_unet
from tests.support.sample_files import photo

SCHEDULE = NoiseSchedule.from_config(LINEAR)
OPTIONS = ValidationSection(sigma=[15.0, 50.0], panels=2)
IMAGES = [
    ValidationImage("a.png", photo(32, 48, 1)),
    ValidationImage("b/odd.png", photo(33, 27, 2)),
    ValidationImage("c.png", photo(40, 40, 3)),
]
PAIR = ValidationImage("pairs/a", photo(32, 48, 1), (photo(32, 48, 1) // 2 + 50).astype(np.uint8), 33.3)


@pytest.fixture(autouse=True)
def _in_float32_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU in float32; the denoiser's tests cover other types and devices."""
    monkeypatch.setattr("imagewizard.diffusion.denoiser.default_dtype", lambda device: torch.float32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def score(
    images: list[ValidationImage] = IMAGES, options: ValidationSection = OPTIONS, seed: int = 0, **unet: bool
) -> ValidationScores:
    return validation.score(tiny_unet(**unet), SCHEDULE, options, images, seed)


def denoised(ddpm: DDPM, noisy: np.ndarray, sigma: float) -> np.ndarray:
    (restored,) = Denoiser(ddpm, ddpm.options, 1)([pixels.to_tensor(noisy)], [sigma])
    return pixels.to_uint8(restored)


def test_scores_are_scikit_images() -> None:
    """The image needs no padding, so that the network sees exactly this image."""
    name, clean, *_ = IMAGES[0]
    found = score([IMAGES[0]])
    assert found.images == 1 and found.sums.shape == (3, 4) and found.sums.dtype == np.float64
    for level, sigma in enumerate(OPTIONS.sigma):
        noisy = synthetic.Gaussian(sigma).add(clean, name, 0)
        image = denoised(DDPM(tiny_unet(), SCHEDULE, DenoiseSection()), noisy, sigma)
        expected = {
            "psnr_noisy": peak_signal_noise_ratio(clean.astype(float), noisy.astype(float), data_range=255),
            "psnr": peak_signal_noise_ratio(clean, image, data_range=255),
            "ssim_noisy": structural_similarity(clean, noisy, channel_axis=-1, data_range=255),
            "ssim": structural_similarity(clean, image, channel_axis=-1, data_range=255),
        }
        assert found.sums[level] == pytest.approx([expected[measure] for measure in SCORES], abs=2e-3)


def test_noise_is_gaussian_of_the_level_and_neither_clipped_nor_rounded() -> None:
    noise = synthetic.Gaussian(50.0).add(IMAGES[2][1], "c.png", 0) - IMAGES[2][1].astype(float)
    assert abs(noise.mean()) < 3 and abs(noise.std() - 50) < 2
    assert np.equal(noise, np.rint(noise)).mean() < 0.01
    sums = score([ValidationImage("grey", np.full((200, 200, 3), 128, np.uint8))], zero=True).sums
    # 20 log10(255 / sigma), to five standard deviations of what 40,000 values say of a level
    assert sums[:2, 0] == pytest.approx([24.61, 14.15], abs=0.15)


def test_network_that_finds_no_noise_scores_as_the_noisy_image() -> None:
    sums = score([ValidationImage("grey", np.full((65, 50, 3), 128, np.uint8))], zero=True).sums
    assert sums[0, 1] == pytest.approx(sums[0, 0], abs=0.05)  # apart from rounding and clipping


def test_noise_does_not_depend_on_other_images_or_runs() -> None:
    whole = score()
    assert whole.images == 3
    assert np.array_equal(score().sums, whole.sums)
    parts = [score([image]).sums for image in reversed(IMAGES)]
    np.testing.assert_allclose(sum(parts), whole.sums, rtol=1e-6)
    alone = score([IMAGES[1]], ValidationSection(sigma=[50.0]))  # in its own batch, which rounds differently
    np.testing.assert_allclose(alone.sums[0], score([IMAGES[1]]).sums[1], rtol=1e-4)


def test_noise_differs_between_seeds_images_and_levels() -> None:
    grey = np.full((20, 20, 3), 128, np.uint8)
    keys = [(15.0, 0, "a"), (15.0, 1, "a"), (15.0, 0, "b"), (50.0, 0, "a")]
    noises = [(synthetic.Gaussian(sigma).add(grey, name, seed) - 128) / sigma for sigma, seed, name in keys]
    for i, one in enumerate(noises):
        for other in noises[:i]:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.15


def test_any_size_is_scored() -> None:
    found = score([ValidationImage("tiny", photo(5, 9, 4)), ValidationImage("one", photo(1, 1, 5))])
    assert found.images == 2 and np.isfinite(found.sums).all()
    assert (found.sums[:, 2:] == 0).all()  # smaller than SSIM's window


def test_ddim_takes_the_configured_steps() -> None:
    options = ValidationSection(sigma=[50.0], mode="ddim", steps=3)
    name, clean, *_ = IMAGES[0]
    found = score([IMAGES[0]], options)
    noisy = synthetic.Gaussian(50.0).add(clean, name, 0)
    restored = denoised(DDPM(tiny_unet(), SCHEDULE, DenoiseSection(mode="ddim", steps=3)), noisy, 50.0)
    assert found.sums[0, 1] == pytest.approx(peak_signal_noise_ratio(clean, restored, data_range=255), abs=2e-3)
    assert found.sums[0, 1] != pytest.approx(score([IMAGES[0]]).sums[1, 1], abs=2e-3)


def test_panels_show_the_first_images_at_the_middle_level() -> None:
    options = ValidationSection(sigma=[15.0, 25.0, 50.0], panels=2)
    found = score(options=options)
    assert [(panel.name, panel.sigma) for panel in found.panels] == [("a.png", 25.0), ("b/odd.png", 25.0)]
    for panel, (name, clean, *_) in zip(found.panels, IMAGES, strict=False):
        assert np.array_equal(panel.clean, clean)
        noisy = synthetic.Gaussian(25.0).add(clean, name, 0)
        assert panel.noisy.dtype == panel.denoised.dtype == np.uint8
        assert np.array_equal(panel.noisy, np.clip(np.rint(noisy), 0, 255))
        assert panel.psnr == pytest.approx(peak_signal_noise_ratio(clean, panel.denoised, data_range=255))
        assert panel.psnr_noisy == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=255), abs=1e-4)
    assert score(options=ValidationSection(panels=0)).panels == []


def test_means_are_named_by_measure_and_level() -> None:
    sums = np.array([[40.0, 60.0, 1.0, 1.5], [20.0, 50.0, 0.5, 1.23456], [0.0, 0.0, 0.0, 0.0]])
    counts = np.array([[2.0] * 4, [2.0] * 4, [0.0] * 4])
    assert validation.means(sums, counts, ValidationSection(sigma=[15.0, 12.5])) == {
        "psnr": 27.5,
        "psnr_noisy_15": 20.0,
        "psnr_15": 30.0,
        "ssim_noisy_15": 0.5,
        "ssim_15": 0.75,
        "psnr_noisy_12.5": 10.0,
        "psnr_12.5": 25.0,
        "ssim_noisy_12.5": 0.25,
        "ssim_12.5": 0.6173,
    }


def test_images_smaller_than_the_window_of_ssim_have_none() -> None:
    small = np.full((6, 40, 3), 128, np.uint8)
    found = score([ValidationImage("small.png", small)])
    row = validation.means(found.sums, found.counts, OPTIONS)
    assert found.images == 1 and row["psnr"] > 5
    assert {key: value for key, value in row.items() if key.startswith("ssim")} == dict.fromkeys(
        ("ssim_noisy_15", "ssim_15", "ssim_noisy_50", "ssim_50")
    )
    both = score([ValidationImage("small.png", small), IMAGES[0]])
    assert both.images == 2 and both.sums[:, 2:] == pytest.approx(score([IMAGES[0]]).sums[:, 2:])
    means = validation.means(both.sums, both.counts, OPTIONS)
    assert means["ssim_15"] == pytest.approx(score([IMAGES[0]]).sums[0, SCORES.index("ssim")], abs=1e-4)


# --- pairs


def test_a_pair_is_denoised_at_its_level_and_scored_apart() -> None:
    assert PAIR.noisy is not None
    found = score([*IMAGES, PAIR])
    np.testing.assert_allclose(found.sums[:2], score().sums[:2], rtol=1e-6)
    image = denoised(DDPM(tiny_unet(), SCHEDULE, DenoiseSection()), PAIR.noisy.astype(np.float32), PAIR.sigma)
    expected = {
        "psnr_noisy": peak_signal_noise_ratio(PAIR.clean, PAIR.noisy, data_range=255),
        "psnr": peak_signal_noise_ratio(PAIR.clean, image, data_range=255),
        "ssim_noisy": structural_similarity(PAIR.clean, PAIR.noisy, channel_axis=-1, data_range=255),
        "ssim": structural_similarity(PAIR.clean, image, channel_axis=-1, data_range=255),
    }
    assert found.sums[2] == pytest.approx([expected[measure] for measure in SCORES], abs=2e-3)
    assert found.counts[:, 0].tolist() == [3.0, 3.0, 1.0] and found.images == 4


def test_psnr_is_that_of_clean_images_or_else_of_pairs() -> None:
    both, alone = score([IMAGES[0], PAIR]), score([PAIR])
    row = validation.means(both.sums, both.counts, OPTIONS)
    assert row["psnr"] == validation.means(*_parts(score([IMAGES[0]])), OPTIONS)["psnr"]
    pairs = validation.means(alone.sums, alone.counts, OPTIONS)
    assert pairs["psnr"] == pairs["psnr_pairs"] == row["psnr_pairs"] != row["psnr"]
    assert set(pairs) == {"psnr", "psnr_pairs", "psnr_noisy_pairs", "ssim_pairs", "ssim_noisy_pairs"}


def _parts(scores: ValidationScores) -> tuple[np.ndarray, np.ndarray]:
    return scores.sums, scores.counts


def test_panels_show_pairs_too() -> None:
    (panel,) = score([PAIR]).panels
    assert (panel.name, panel.sigma) == ("pairs/a", 33.3)
    assert np.array_equal(panel.noisy, PAIR.noisy)
