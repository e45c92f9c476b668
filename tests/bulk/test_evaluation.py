"""Scores of a restoration: the same as a restoration's images have, and a line for each pair that has none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import imagewizard as iw
from imagewizard.bulk import evaluation
from imagewizard.bulk.evaluation import Evaluator, PairScores
from imagewizard.config.evaluate import EvaluateConfig
from imagewizard.config.loading import check
from imagewizard.errors import UserError
from imagewizard.images.encoding import encode
from imagewizard.images.picture import Picture
from imagewizard.manifest.pairs import Pair
from imagewizard.noise.level import find
from tests.support.models import tiny_model
from tests.support.sample_files import photo

SIZE = 40, 52


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights: what it makes of an image is far from the image."""
    return str(tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def low_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One whose schedule ends at a low level."""
    schedule = {"beta_start": 1e-6, "beta_end": 1e-5, "num_train_timesteps": 10}
    return str(tiny_model(tmp_path_factory.mktemp("low"), schedule=schedule))


def write(folder: Path, name: str, pixels: np.ndarray) -> str:
    path = folder / name
    picture = Picture(np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, None]))
    path.write_bytes(encode(picture, "png", None).data)
    return str(path)


def noisy_photo(seed: int = 0, dtype: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """(noisy, clean)"""
    clean = photo(*SIZE, seed)
    noisy = np.clip(iw.add_noise(clean, sigma=12), 0, 255)
    return (noisy * (np.iinfo(dtype).max / 255)).round().astype(dtype), clean


def scores(model: str, *pairs: Pair, **config: Any) -> list[PairScores]:
    return list(Evaluator(check(EvaluateConfig, {"model": model} | config))(list(pairs)))


def assert_compared(found: PairScores, noisy: np.ndarray, restored: np.ndarray, clean: np.ndarray) -> None:
    """The scores are scikit-image's, of these uint8 images."""
    for suffix, image in (("_noisy", noisy), ("", restored)):
        assert found.scores[f"psnr{suffix}"] == pytest.approx(peak_signal_noise_ratio(clean, image))
        ssim = structural_similarity(clean, image, channel_axis=-1)
        assert found.scores[f"ssim{suffix}"] == pytest.approx(ssim, abs=1e-6)
    assert found.scores["psnr_noisy"] != found.scores["psnr"]
    assert found.gain == found.scores["psnr"] - found.scores["psnr_noisy"]


def test_scores_are_of_the_image_that_a_restoration_makes(model: str, tmp_path: Path) -> None:
    noisy, clean = noisy_photo()
    pair = Pair("a", write(tmp_path, "n.png", noisy), write(tmp_path, "c.png", clean))
    denoiser = iw.Denoiser.from_pretrained(model, device="cpu")
    (given,) = scores(model, pair, denoise={"sigma": 30})
    assert_compared(given, noisy, denoiser(noisy, 30), clean)
    assert (given.name, given.level, given.error) == ("a", 30.0, None)
    assert find(noisy).kind == "white", "which is denoised once, and so does Denoiser at a given level"
    (blind,) = scores(model, pair)
    assert blind.level is not None and 5 < blind.level < 30
    assert_compared(blind, noisy, denoiser(noisy, blind.level), clean)
    (weaker,) = scores(model, pair, denoise={"sigma": 30, "strength": 0.5})
    assert weaker.level == 15.0
    assert_compared(weaker, noisy, denoiser(noisy, 15), clean)
    (sharper,) = scores(model, pair, denoise={"sigma": 30, "mode": "ddim"})
    assert sharper.scores["psnr"] != given.scores["psnr"]


def test_sixteen_bits_and_grey_are_compared_in_eight_bits_and_colour(model: str, tmp_path: Path) -> None:
    deep, clean = noisy_photo(1, np.uint16)
    deep_clean = clean.astype(np.uint16) * 257
    pairs = [Pair("deep", write(tmp_path, "n16.png", deep), write(tmp_path, "c16.png", deep_clean))]
    pairs.append(Pair("mixed", pairs[0].noisy, write(tmp_path, "c8.png", clean)))
    noisy_grey, grey = deep[:, :, 0], clean[:, :, 0]
    pairs.append(Pair("grey", write(tmp_path, "ng.png", noisy_grey), write(tmp_path, "cg.png", grey)))
    found = scores(model, *pairs, denoise={"sigma": 20})
    denoiser = iw.Denoiser.from_pretrained(model, device="cpu")
    for each in found[:2]:
        assert_compared(each, eight(deep), eight(denoiser(deep, 20)), clean)
    three = [np.stack([each] * 3, axis=2) for each in (eight(noisy_grey), eight(denoiser(noisy_grey, 20)), grey)]
    assert_compared(found[2], *three)


def eight(deep: np.ndarray) -> np.ndarray:
    return np.rint(deep / 257.0).astype(np.uint8)


def test_a_pair_that_cannot_be_scored_costs_no_other(model: str, tmp_path: Path) -> None:
    noisy, clean = (write(tmp_path, name, each) for name, each in zip(("n.png", "c.png"), noisy_photo(), strict=True))
    turned = write(tmp_path, "turned.png", np.rot90(photo(*SIZE, 0)).copy())
    (tmp_path / "cut.png").write_bytes(Path(noisy).read_bytes()[:900])
    pairs = [
        Pair("turned", noisy, turned),
        Pair("cut", str(tmp_path / "cut.png"), clean),
        Pair("gone", noisy, str(tmp_path / "gone.png")),
        Pair("good", noisy, clean),
    ]
    found = scores(model, *pairs, denoise={"sigma": 20})
    assert found[0].error == "the noisy image has 52 x 40 pixels, the clean one 40 x 52"
    assert found[1].error is not None and found[1].error.startswith("the noisy image: truncated file")
    assert found[2].error == "the clean image: no such file: it vanished since it was listed"
    assert found[3].error is None
    assert all(each.gain is None and each.level is None for each in found[:3])
    (large,) = scores(model, pairs[3], max_pixels=100)
    assert large.error is not None and "too many pixels" in large.error


def test_a_level_that_was_found_and_is_beyond_the_model_is_an_error_of_the_pair(low_model: str, tmp_path: Path) -> None:
    noisy, clean = noisy_photo()
    (found,) = scores(low_model, Pair("a", write(tmp_path, "n.png", noisy), write(tmp_path, "c.png", clean)))
    assert found.error is not None and "sigma" in found.error


def test_small_images_have_no_ssim(model: str, tmp_path: Path) -> None:
    noisy, clean = (each[:5, :9] for each in noisy_photo())
    (found,) = scores(
        model, Pair("s", write(tmp_path, "n.png", noisy), write(tmp_path, "c.png", clean)), denoise={"sigma": 9}
    )
    assert found.scores["ssim"] is None and found.gain is not None


def test_means_and_the_worst_are_of_what_was_scored() -> None:
    pairs = [PairScores("bad", error="it broke")]
    for name, gain, ssim in (("a", 2.0, 0.9), ("b", -0.5, None), ("c", 3.0, 0.8)):
        values = {"psnr_noisy": 30.0, "psnr": 30.0 + gain, "ssim_noisy": ssim, "ssim": ssim}
        pairs.append(PairScores(name, level=8.0, scores=values))
    found = evaluation.summary(pairs)
    assert (found.scored, found.failed) == (3, 1)
    assert found.worst is pairs[2]
    assert found.means == pytest.approx(
        {"psnr_noisy": 30.0, "psnr": 31.5, "ssim_noisy": 0.85, "ssim": 0.85, "gain": 1.5}
    )
    none = evaluation.summary(pairs[:1])
    assert (none.scored, none.failed, none.worst, set(none.means.values())) == (0, 1, None, {None})


def test_models_and_levels_that_cannot_be_used_are_refused_before_any_work(low_model: str) -> None:
    with pytest.raises(UserError, match=r"^denoise\.sigma: "):
        Evaluator(check(EvaluateConfig, {"model": low_model, "denoise": {"sigma": 25}}))
    with pytest.raises(UserError, match="nowhere"):
        Evaluator(check(EvaluateConfig, {"model": "/nowhere"}))
