"""The config of a bulk job: what goes together, and what follows from it."""

import pytest

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.loading import load
from imagewizard.errors import UserError


def config(*words: str) -> DenoiseConfig:
    return load(DenoiseConfig, None, ["input=in", "output=out", *words])


@pytest.mark.parametrize("word", ["images.format=bmp", "images.format=PNG", "images.quality=0", "images.quality=101"])
def test_settings_of_images_that_cannot_be_are_refused(word: str) -> None:
    with pytest.raises(UserError, match=r"^images\.(format|quality): must be"):
        config(word)


def test_levels_are_those_of_the_noise_or_of_the_restoration() -> None:
    assert config("noise.sigma=[15,50]").levels == [15.0, 50.0]
    assert config("noise=null").levels == [None]
    assert config("noise=null", "denoise.sigma=12").levels == [12.0]


def test_restored_images_are_written_without_being_asked_for() -> None:
    assert config("noise=null").images is not None
    assert config().images is None


def test_a_level_of_restoration_is_refused_where_noise_is_added() -> None:
    with pytest.raises(UserError, match=r"denoise\.sigma is for images that are noisy already"):
        config("denoise.sigma=12")
