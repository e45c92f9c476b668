"""The config of a bulk job: valid combinations, and values derived from them."""

import pytest

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.loading import load
from imagewizard.errors import UserError


def config(*words: str) -> DenoiseConfig:
    return load(DenoiseConfig, None, ["input=in", "output=out", *words])


@pytest.mark.parametrize("word", ["images.format=bmp", "images.format=PNG", "images.quality=0", "images.quality=101"])
def test_impossible_image_settings_are_refused(word: str) -> None:
    with pytest.raises(UserError, match=r"^images\.(format|quality): must be"):
        config(word)


def test_levels_come_from_the_noise_or_the_restoration() -> None:
    assert config("noise.sigma=[15,50]").levels == [15.0, 50.0]
    assert config("noise=null").levels == [None]
    assert config("noise=null", "denoise.sigma=12").levels == [12.0]


def test_restored_images_are_written_by_default() -> None:
    assert config("noise=null").images is not None
    assert config().images is None


def test_a_restoration_level_is_refused_if_noise_is_added() -> None:
    with pytest.raises(UserError, match=r"denoise\.sigma is for images that are noisy already"):
        config("denoise.sigma=12")
